// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::server {

std::string to_text(const RankId& rank) {
  return fmt::format("{}.{}.{}", rank.dp, rank.pp, rank.tp);
}

core::Result<RankId> parse_rank(std::string_view text) {
  std::array<std::uint32_t, 3> parts{};
  std::string_view left = text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t dot = i + 1 < parts.size() ? left.find('.') : left.size();
    const auto part = format::parse_integer<std::uint32_t>(left.substr(0, dot));
    // One spelling each: "01" would be another name of the same rank.
    if (dot == std::string_view::npos || !part || (dot > 1 && left.front() == '0')) {
      return core::fail(core::ErrorCode::kInvalidInput,
                        fmt::format("{} is no rank: DP.PP.TP, e.g. 1.3.0", format::quoted(text)));
    }
    parts.at(i) = *part;
    left.remove_prefix(std::min(left.size(), dot + 1));
  }
  return RankId{parts[0], parts[1], parts[2]};
}

}  // namespace perseus::server
