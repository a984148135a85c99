// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: longest paths that follow every change of an option, and the first answer of a
// realisation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/solver/realise_flat.h"

namespace perseus::solver::internal {

/// Longest path to and from every position under a choice, kept up to date change by change. A change costs
/// time proportional to the positions whose longest path it moves.
class LongestPaths {
 public:
  /// `flat` must outlive the object.
  LongestPaths(const FlatProblem& flat, Rungs rungs);

  [[nodiscard]] const Rungs& rungs() const { return rungs_; }
  /// Earliest end of p.
  [[nodiscard]] Ticks end(Position p) const { return end_[p]; }
  /// Latest end of p such that all ends by the target. below end(p) if the choice is too slow.
  [[nodiscard]] Ticks latest_end(Position p) const { return flat_->target - tail_[p]; }
  /// By how much p alone may take longer.
  [[nodiscard]] Ticks slack(Position p) const { return latest_end(p) - end_[p]; }
  /// Gives p another rung and updates all paths through it.
  void set_rung(Position p, std::uint32_t rung);
  /// Positions whose end or tail the last set_rung() moved, itself first; some stand there twice.
  [[nodiscard]] std::span<const Position> touched() const { return touched_; }
  /// Positions whose paths were recomputed so far: the work done.
  [[nodiscard]] std::uint64_t work() const { return work_; }

 private:
  [[nodiscard]] Ticks end_from_inputs(Position p) const;
  [[nodiscard]] Ticks tail_from_outputs(Position p) const;
  void mark(Position p) { dirty_[p / 64] |= std::uint64_t{1} << (p % 64); }
  void spread_forward(Position from);
  void spread_backward(Position from);

  const FlatProblem* flat_;
  Rungs rungs_;
  std::vector<Ticks> end_;
  std::vector<Ticks> tail_;
  std::vector<std::uint64_t> dirty_;  ///< one bit per position; all zero between calls
  std::vector<Position> touched_;
  std::uint64_t work_ = 0;
};

/// The slowest rung of p that takes no longer than `limit`; the fastest if none does.
[[nodiscard]] std::uint32_t slowest_rung(const FlatProblem& flat, Position p, Ticks limit);

/// Spends slack until no single computation can be made cheaper: largest saving per second first.
void spend_slack(const FlatProblem& flat, LongestPaths& paths);

}  // namespace perseus::solver::internal
