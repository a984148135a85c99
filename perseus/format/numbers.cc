// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace perseus::format {

void append_number(std::string& out, double value) {
  if (std::isfinite(value)) {
    fmt::format_to(std::back_inserter(out), "{}", value);
  } else {
    out += "null";
  }
}

std::string number_text(double value) {
  std::string text;
  append_number(text, value);
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(value)) return std::nullopt;  // from_chars reads "inf" and "nan"
  return value;
}

}  // namespace perseus::format
