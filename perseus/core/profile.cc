// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/profile.h"

#include <algorithm>
#include <tuple>

namespace perseus::core {

const ProfileEntry* Profile::find(std::uint32_t stage, std::string_view instruction,
                                  std::optional<std::uint32_t> stage_b) const {
  const auto key = std::tuple(stage, instruction, stage_b);
  const auto key_of = [](const ProfileEntry& e) {
    return std::tuple(e.stage, std::string_view(e.instruction), e.stage_b);
  };
  const auto it = std::ranges::lower_bound(entries, key, {}, key_of);
  return it != entries.end() && key_of(*it) == key ? &*it : nullptr;
}

}  // namespace perseus::core
