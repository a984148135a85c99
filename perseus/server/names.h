// SPDX-License-Identifier: Apache-2.0
//
// Names that come from outside and go into paths, logs and keys.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/format/api_access.h"

namespace perseus::server {

using format::check_name;

/// Where a rank stands in its job. Ranks are known by this and never by their RANK (RELIABILITY row 15).
struct RankId {
  std::uint32_t dp = 0;  ///< pipeline
  std::uint32_t pp = 0;  ///< rank in the pipeline
  std::uint32_t tp = 0;  ///< GPU of the rank
  friend auto operator<=>(const RankId&, const RankId&) = default;
};

/// "dp.pp.tp", e.g. "1.3.0".
[[nodiscard]] std::string to_text(const RankId& rank);
/// Reads that form; kInvalidInput for anything else.
[[nodiscard]] core::Result<RankId> parse_rank(std::string_view text);

}  // namespace perseus::server
