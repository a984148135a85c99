// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: one problem and one target time in flat arrays, the form on which realisation works.
//
// Times are whole ticks of a power of two of a second at which the target takes about 60 bits. Times and lags
// are rounded up and the target is rounded down, so that what fits in ticks fits in truth, except that at
// T_min itself the fastest options must fit although their rounded path may be some ticks too long: see
// `target`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/core/exact_time.h"
#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::solver::internal {

using Ticks = std::int64_t;

/// Index of a computation in the flat arrays: a topological order, so edges lead from lower to higher
/// positions.
using Position = std::uint32_t;

/// One edge as seen from one of its ends.
struct FlatEdge {
  Position other = 0;
  Ticks lag = 0;
};

/// Rungs of one option set: by rising time and strictly falling effective cost; what is slower without being
/// cheaper is left out. Columns, so that a search touches little memory.
struct Ladder {
  std::uint32_t first = 0;  ///< into the columns of FlatProblem
  std::uint32_t count = 0;  ///< >= 1
};

struct FlatProblem {
  std::uint32_t size = 0;
  std::vector<core::ComputationId> id;  ///< by position
  std::vector<std::uint32_t> set;       ///< by position: index into `ladders`
  std::vector<double> flow;             ///< by position: W through the computation
  std::vector<double> sink_flow;        ///< by position: W from the computation to the sink
  /// In-edges of p, by rising position of the other end: [in_first[p], in_first[p + 1]).
  std::vector<std::uint32_t> in_first;
  std::vector<FlatEdge> in;
  std::vector<double> in_flow;             ///< of each in-edge: W, of the certificate
  std::vector<core::ExactTime> exact_lag;  ///< of each in-edge; empty if all are 0
  std::vector<std::uint32_t> out_first;
  std::vector<FlatEdge> out;

  std::vector<Ladder> ladders;              ///< by option set
  std::vector<Ticks> time;                  ///< by rung, rounded up; rung 0 of a ladder is its fastest option
  std::vector<double> cost;                 ///< by rung: effective cost, J per GPU
  std::vector<std::uint32_t> option;        ///< by rung: index into Problem::options
  std::vector<core::ExactTime> exact_time;  ///< by rung

  int tick_exponent = 0;
  /// The time by which all must end: the target, or the makespan of the fastest options in ticks if rounding
  /// has made that longer. A choice that fits this is checked once more in exact arithmetic before it is a
  /// plan.
  Ticks target = 0;
  core::ExactTime exact_target;
  double wait_power = 0;  ///< W saved by ending a second earlier: total blocking power if self-timed, else 0

  [[nodiscard]] std::span<const FlatEdge> in_edges(Position p) const {
    return {in.data() + in_first[p], in.data() + in_first[p + 1]};
  }
  /// Whether p is the last of the inputs of v in the order: then its end settles the start of v.
  [[nodiscard]] bool is_last_input(Position p, Position v) const {
    return in_first[v] < in_first[v + 1] && in[in_first[v + 1] - 1].other == p;
  }
  [[nodiscard]] std::span<const FlatEdge> out_edges(Position p) const {
    return {out.data() + out_first[p], out.data() + out_first[p + 1]};
  }
  [[nodiscard]] const Ladder& ladder(Position p) const { return ladders[set[p]]; }
};

/// Absolute rung per position (index into the columns).
using Rungs = std::vector<std::uint32_t>;

/// Builds the arrays for one target. `order` must be a topological order of all computations; `flow` a
/// certificate whose sizes were checked. kInfeasible with T_min in all digits if the fastest options end
/// after `target`.
core::Result<FlatProblem> flatten(const core::Problem& problem, std::span<const core::ComputationId> order,
                                  core::Seconds target, const core::Certificate& flow, bool self_timed);

/// Makespan of a choice without rounding. O(positions + edges).
[[nodiscard]] core::ExactTime exact_makespan(const FlatProblem& flat, const Rungs& rungs);

/// What a choice costs beside constants: effective cost plus, self-timed, blocking up to its own end. J per
/// GPU.
[[nodiscard]] double objective(const FlatProblem& flat, const Rungs& rungs);

/// Speeds computations on the exact longest path up, least extra cost first, until the choice ends by the
/// exact target: mends what rounding to ticks let through. Ends because the fastest options do fit. Answers
/// the makespan.
core::ExactTime repair(const FlatProblem& flat, Rungs& rungs);

}  // namespace perseus::solver::internal
