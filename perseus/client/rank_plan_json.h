// SPDX-License-Identifier: Apache-2.0
//
// What the server answers a rank: bytes to values. Everything here is untrusted; what is not of its shape is
// refused with line and column, in memory bounded by the body (at most five times its size).
//
//   PERSEUS_ASSIGN_OR_RETURN(ReceivedPlan received, parse_rank_plan(body));
//   PERSEUS_ASSIGN_OR_RETURN(RankPlan plan, complete(std::move(received), held));
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "perseus/client/rank_plan.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::client {

/// Most windows of a sweep, and clocks in a window (assumed: 16 clocks and two kinds a stage make a hundred
/// windows; a window names each kind and stage of a rank once).
inline constexpr std::size_t kMostWindows = 4096;
inline constexpr std::size_t kMostWindowClocks = 4096;
/// The largest whole number that JSON readers agree on: 2^53 - 1.
inline constexpr std::int64_t kLargestWhole = (std::int64_t{1} << 53) - 1;

/// An answer to a poll. The server leaves operations and windows out for a rank that has them already.
struct ReceivedPlan {
  RankPlan plan;
  bool complete = false;  ///< nothing was left out
};

/// Reads a RankPlan of schema/openapi.yaml. Beyond each member's own bounds: the revision fits generation and
/// from_step, a baseline has no operations or windows, and no plan has both. Knobs of operations are read
/// and dropped: a rank sets clocks only.
[[nodiscard]] core::Result<ReceivedPlan> parse_rank_plan(std::string_view body);

/// Puts in what was left out, from the plan that the rank has; refuses (kInvalidInput) where that is of
/// another generation, incarnation or schedule, or there is none (null).
[[nodiscard]] core::Result<RankPlan> complete(ReceivedPlan received, const RankPlan* held);

/// The answer to a message of a rank.
struct Applied {
  bool applied = false;        ///< false: late or repeated, without effect
  std::uint64_t revision = 0;  ///< deployed for this rank; 0: none
  core::Seconds rank_ttl;      ///< within which the server must hear of the rank; above 0
};
[[nodiscard]] core::Result<Applied> parse_applied(std::string_view body);

/// What the server says of a refusal: its message, or the beginning of a body of another shape. Printable, at
/// most 300 bytes.
[[nodiscard]] std::string refusal_words(std::string_view body);

}  // namespace perseus::client
