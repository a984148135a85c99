// SPDX-License-Identifier: Apache-2.0
//
// Looking things up by name, with a helpful refusal.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::model {

/// Least number of single-character insertions, deletions and replacements that turn `a` into `b`.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// kInvalidInput for a name that is none of `known` (not empty): `unknown WHAT "NAME"; did you mean
/// "NEAREST"? known: ...`.
[[nodiscard]] std::unexpected<core::Error> unknown_name(std::string_view what, std::string_view name,
                                                        std::span<const std::string_view> known,
                                                        std::string_view flag);

/// The entry of `table` (static storage) whose `name` member is `name`, or the refusal above.
template <class T>
core::Result<const T*> find_by_name(std::span<const T> table, std::string_view name, std::string_view what,
                                    std::string_view flag) {
  const auto it = std::ranges::find(table, name, &T::name);
  if (it != table.end()) return &*it;
  std::vector<std::string_view> known;
  for (const T& entry : table) known.push_back(entry.name);
  return unknown_name(what, name, known, flag);
}

}  // namespace perseus::model
