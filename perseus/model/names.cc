// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

namespace perseus::model {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::unexpected<core::Error> unknown_name(std::string_view what, std::string_view name,
                                          std::span<const std::string_view> known, std::string_view flag) {
  // Somebody who types "h100" means one of the products that begin so, whatever the distance.
  const auto distance = [name](std::string_view k) {
    return !name.empty() && k.starts_with(name) ? 0 : edit_distance(name, k);
  };
  const auto nearest = *std::ranges::min_element(known, {}, distance);
  return core::fail(core::ErrorCode::kInvalidInput,
                    fmt::format("unknown {} \"{}\"; did you mean \"{}\"? known: {}", what, name, nearest,
                                fmt::join(known, ", ")),
                    {.source = std::string(flag)});
}

}  // namespace perseus::model
