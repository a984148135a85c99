// SPDX-License-Identifier: Apache-2.0
//
// The exact iteration time-energy frontier of a pipeline (DESIGN section 3).
//
//   PERSEUS_ASSIGN_OR_RETURN(auto frontier, Frontier::solve(problem, {.range = Range::kTStar}));
//   PERSEUS_ASSIGN_OR_RETURN(auto relaxed, frontier.at(frontier.t_min()));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "perseus/core/frontier_data.h"
#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::solver {

/// How far a frontier reaches from T_min.
enum class Range : std::uint8_t {
  kTStar,  ///< [T_min, T*]: all that a pipeline needs that ends its own iteration
  kTMax,   ///< [T_min, T_max]: also all that a synchronised pipeline can use
};

/// Called now and then from the solving thread with the share of the work done (0 to 1) and what is being
/// done.
using Progress = std::function<void(double, std::string_view)>;

struct SolveOptions {
  Range range = Range::kTStar;
  Progress progress = {};  ///< may be empty
  std::stop_token stop =
      {};  ///< asked for between two steps of the walk, which take well under a second each
};

/// Least effective cost at one target time: the optimum of the continuous problem and the flow that proves
/// it. Option times are rounded up to ticks, so a duration that holds an option in ticks holds it in truth;
/// the longest path of n computations may therefore exceed a target at T_min by up to n ticks.
struct Relaxed {
  core::Seconds target;            ///< the iteration time asked for, or the range's slowest if that is less
  std::int32_t tick_exponent = 0;  ///< durations are in ticks of 2^tick_exponent s
  std::vector<std::int64_t> duration;  ///< d_i per computation: it may take so long; size = problem size
  core::Certificate certificate;       ///< an optimal flow at `target`
};

/// One corner of C(T).
struct Breakpoint {
  core::Seconds time;  ///< T
  core::Watts slope;   ///< -dC/dT just below T, per GPU; grows as T falls (at T_min: just above it)
  core::Joules cost;   ///< C(T) of the solver's scaled profile, per GPU
  /// C(T) of the profile as written is at least cost - error: scaling (a tick for each of n computations on a
  /// path, at the slope; a tick is below 2^-59 of the makespan) and the rounding of sums.
  core::Joules error;
};

/// The complete frontier in compact form. Immutable; cheap to copy; thread-safe to read.
class Frontier {
 public:
  /// Computes it. Errors: kOverflow (the profile's numbers do not fit the exact arithmetic), kTimeout
  /// (stopped by `options.stop` before it was complete), kInternal.
  static core::Result<Frontier> solve(const core::Problem& problem, const SolveOptions& options = {});
  /// From stored form; `data` is not trusted: whatever does not fit `problem` is refused (kInvalidInput).
  static core::Result<Frontier> from_data(const core::Problem& problem, core::FrontierData data);

  [[nodiscard]] const core::Problem& problem() const;
  /// The iteration time with every computation at its fastest option: exact, rounded up to a double.
  [[nodiscard]] core::Seconds t_min() const;
  /// Least energy of a pipeline that ends its own iteration: where F = sum P_r.
  [[nodiscard]] core::Seconds t_star() const;
  /// Least effective cost: where F = 0. Beyond it slower never pays. Known for both ranges.
  [[nodiscard]] core::Seconds t_max() const;
  [[nodiscard]] Range range() const;
  /// All corners from the slowest time of the range down to T_min.
  [[nodiscard]] std::vector<Breakpoint> breakpoints() const;
  [[nodiscard]] std::size_t breakpoint_count() const;
  /// The optimum at a target. Below T_min: kInfeasible with T_min in all digits. Above the range's slowest
  /// time: the optimum at that time.
  [[nodiscard]] core::Result<Relaxed> at(core::Seconds target) const;
  /// The stored form.
  [[nodiscard]] const core::FrontierData& data() const;

 private:
  struct State;
  explicit Frontier(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// The exact optimum and its flow at each target, in the order given, along one walk that keeps nothing else.
/// Targets must be sorted from slow to fast (kInvalidInput), none below T_min (kInfeasible). Takes the time
/// of the frontier from T_max down to the fastest target.
core::Result<std::vector<Relaxed>> sample(const core::Problem& problem,
                                          std::span<const core::Seconds> targets,
                                          const Progress& progress = {});

}  // namespace perseus::solver
