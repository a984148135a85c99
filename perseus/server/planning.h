// SPDX-License-Identifier: Apache-2.0
//
// From a registration and a profile to plans: everything slow that the server does. Pure functions; they run
// on the planner's threads and share nothing.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto solved, solve(registration, csv, control));
//   PERSEUS_ASSIGN_OR_RETURN(auto plan, make_plan(solved, {solved.t_min, std::nullopt}));
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/server/measured_profile.h"
#include "perseus/server/messages.h"
#include "perseus/solver/frontier.h"

namespace perseus::server {

/// A plan in the forms in which it leaves the server. Immutable once made; shared between threads.
struct PlanBody {
  std::string json;    ///< "perseus-plan/1", with its certificate
  std::string sha256;  ///< of `json`
  core::Seconds target_time;
  std::optional<core::Seconds> sync_time;
  core::Seconds time;   ///< predicted makespan
  core::Joules energy;  ///< predicted, of one pipeline with all its GPUs, blocking counted to sync or time
  std::string schedule_sha256;  ///< the fence
  /// Per pipeline rank what its GPUs run, as a JSON array of arrays:
  /// [kind, stage, microbatch, clock_mhz | null, time_s], for FB with stage_b and microbatch_b behind these,
  /// and an object of knobs last where there are any.
  std::vector<std::string> operations;
  /// Per pipeline rank the instruction names and clocks as Zeus's client wants them; clock 0: leave it.
  std::vector<std::vector<std::pair<std::string, std::uint32_t>>> zeus_rows;
  /// Predicted for one pipeline rank.
  struct RankFigures {
    core::Seconds busy;   ///< computations of an iteration
    core::Joules energy;  ///< of all its GPUs, waiting counted to sync_time, or without one to time
  };
  std::vector<RankFigures> figures;
};

/// One job's frontier and what follows from it alone.
struct Solved {
  solver::Frontier frontier;
  std::string fit;
  std::string profile_sha256;
  core::Seconds t_min, t_star, t_max;
  core::Joules all_max_energy;  ///< of one pipeline with all clocks at their fastest, counted to T_min
  /// The plan for T_min, self-timed: what every pipeline runs that nobody waits for, and the slow one itself.
  std::shared_ptr<const PlanBody> fastest;
  core::Watts waiting_power;     ///< of one pipeline with all its GPUs while all of them wait
  core::Seconds solver_seconds;  ///< exact frontier alone, on the planner's thread
};

/// The point that a plan is made for.
struct PlanTarget {
  core::Seconds time;
  std::optional<core::Seconds> sync_time;
  friend bool operator==(const PlanTarget&, const PlanTarget&) = default;
};

/// SHA-256 of the canonical text of orders and degrees: what fences every plan of the job.
[[nodiscard]] core::Result<std::string> fence_of(const Registration& registration);

/// How somebody on another thread follows a solve and ends it. Thread-safe.
struct SolveControl {
  std::atomic<bool> begun = false;     ///< false: it waits for the planner's thread
  std::atomic<double> share_done = 0;  ///< of the frontier, 0 to 1
  std::stop_source stop;               ///< asked, solve() ends with kTimeout within a second
};

/// Reads the profile and computes the exact frontier up to T_max. Errors as the parsers and the solver give
/// them, and kTimeout if `control` stopped it.
[[nodiscard]] core::Result<Solved> solve(const Registration& registration, std::string_view profile_csv,
                                         SolveControl& control);
/// The same with a measured blocking power in place of the registration's: solved once with that of the top
/// clocks, then again with that of the clocks at which the GPUs wait in the plan for T_min.
[[nodiscard]] core::Result<Solved> solve(const Registration& registration, std::string_view profile_csv,
                                         const std::vector<BlockingPower>& blocking, SolveControl& control);

/// A realised plan, checked by certify before anybody sees it: kInternal if a claim of it is false.
[[nodiscard]] core::Result<PlanBody> make_plan(const Solved& solved, const PlanTarget& target);

/// A plan as stored. Refused (kInvalidInput) like any plan file.
[[nodiscard]] core::Result<PlanBody> read_plan(std::string json);

/// The iteration time of a pipeline whose rank `pp` takes `slowdown` times as long for everything, all clocks
/// at their fastest: exact longest path of the stretched times.
[[nodiscard]] core::Seconds time_with_slow_rank(const Solved& solved, std::uint32_t pp, double slowdown);

/// Predicted energies of one iteration of one pipeline that synchronises at `sync`.
struct Savings {
  core::Joules all_max;  ///< at full clocks
  core::Joules fastest;  ///< with the plan for T_min
  core::Joules planned;  ///< with the plan that it has
};
/// Of the pipeline that `plan` is for; `sync` is at least T_min. O(1): waiting costs the same power in all
/// three.
[[nodiscard]] Savings savings_of(const Solved& solved, const PlanBody& plan, core::Seconds sync);

/// Points of the frontier for display: `count` from T_min to T* (or T_max), each with the energy of the exact
/// optimum's realised plan and its proven bound.
struct FrontierPoint {
  core::Seconds target_time, time;
  core::Joules energy, lower_bound;
};
[[nodiscard]] core::Result<std::vector<FrontierPoint>> frontier_points(const Solved& solved,
                                                                       std::uint32_t count, bool to_t_max);

}  // namespace perseus::server
