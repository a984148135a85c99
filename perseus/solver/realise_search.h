// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: local search over single exchanges, and the polishing that drives all searches.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "perseus/solver/realise_beam.h"
#include "perseus/solver/realise_flat.h"
#include "perseus/solver/realise_slack.h"

namespace perseus::solver::internal {

/// Work is counted in units that the reference machine of bench/ does a thousand million of in a second.
struct Budget {
  std::uint64_t left = 0;
  /// Takes `units`; false, and nothing left, if there are not so many.
  bool take(std::uint64_t units) {
    if (units > left) return left = 0, false;
    return left -= units, true;
  }
};

/// Exchanges: one computation goes faster by up to three rungs, and what slack that makes is spent by others.
/// Keeps what costs less, until no exchange does or the budget is spent.
void exchange(const FlatProblem& flat, LongestPaths& paths, Budget& budget);

/// Improves `rungs`, which must end by the target in ticks, within the budget: exchanges, wider beams, then
/// forests. Never worsens objective(). More budget never gives a worse result: the same choices are looked at
/// in the same order, only later ones are reached.
void polish(const FlatProblem& flat, Beam& beam, Rungs& rungs, Budget budget);

}  // namespace perseus::solver::internal
