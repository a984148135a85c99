// SPDX-License-Identifier: Apache-2.0
//
// Law 4, do no harm: notices that iterations take longer than the plan promised, again and again.
//
//   PromiseGuard guard({});
//   guard.begin_plan(generation, promised);
//   if (auto trip = guard.add(measured, attributable)) ...;   // full clocks, and tell the server
//
// A plan's promise is the time at which all pipelines synchronise (the slowest known one's), so a straggler
// that the server knows of trips nobody. One that it does not know yet makes everybody wait: then this rank's
// own computations take as long as they should and only the rest of the iteration is long. Such iterations
// need `patience` in a row, which leaves the server's detector its 10 to 50 steps (RELIABILITY.md 5), instead
// of `iterations`. One slow step (a checkpoint) trips nothing: the next good one starts the count again.
#pragma once

#include <cstdint>
#include <optional>

#include "perseus/client/rank_plan.h"
#include "perseus/core/units.h"

namespace perseus::client {

struct GuardSettings {
  double margin = 0.05;           ///< iterations over promised x (1 + margin) are too slow. Assumed
  std::uint32_t iterations = 10;  ///< in a row, where this rank's own computations are slow too. Assumed
  std::uint32_t patience = 60;    ///< in a row, where they are not. Assumed
};

/// Not thread-safe.
class PromiseGuard {
 public:
  explicit PromiseGuard(GuardSettings settings) : settings_(settings) {}

  /// `promised` absent: nothing is guarded.
  void begin_plan(std::uint64_t generation, std::optional<core::Seconds> promised);
  /// One iteration under the plan. `attributable`: this rank's computations took longer than expected by more
  /// than the margin, while neither power nor heat held the clock down.
  [[nodiscard]] std::optional<GuardTripReport> add(core::Seconds measured, bool attributable);
  [[nodiscard]] double margin() const { return settings_.margin; }

 private:
  GuardSettings settings_;
  std::uint64_t generation_ = 0;
  std::optional<core::Seconds> promised_;
  std::uint32_t slow_ = 0;      ///< iterations in a row
  std::uint32_t own_slow_ = 0;  ///< of them, attributable ones in a row
  core::Seconds sum_;           ///< of the slow ones
  core::Seconds own_sum_;
};

}  // namespace perseus::client
