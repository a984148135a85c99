// SPDX-License-Identifier: Apache-2.0
//
// Numbers as text, the same way in every file that Perseus reads or writes.
//
//   number_text(0.1234)        // "0.1234": the shortest text that reads back to the same double
//   parse_number("0.1234")     // 0.1234; nothing for "", "0x1p3", "nan", "1e999", " 1" or "1 "
//
// All functions are pure, thread-safe and independent of the locale.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace perseus::format {

/// Appends the shortest decimal text that reads back to the same double: fixed notation from 1e-4 up to 1e16,
/// else with an exponent. Valid JSON for every finite value; "null" for the others, which JSON cannot hold.
void append_number(std::string& out, double value);
/// The same as a string.
[[nodiscard]] std::string number_text(double value);

/// A finite decimal number that fills the whole text, correctly rounded; nothing for anything else (blanks, a
/// plus sign, hexadecimal, infinity, NaN, a value outside the range of a double).
[[nodiscard]] std::optional<double> parse_number(std::string_view text);

/// A decimal integer that fills the whole text and fits T; nothing for anything else.
template <std::integral T>
[[nodiscard]] std::optional<T> parse_integer(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace perseus::format
