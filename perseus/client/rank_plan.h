// SPDX-License-Identifier: Apache-2.0
//
// What a rank is told to run, and what it tells: plain values between the rank's session and its control
// link. Times are seconds on the rank's own monotonic clock; steps count the training steps of one
// incarnation from 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"

namespace perseus::client {

/// One computation of a plan. An FB is known by its forward half; `computation` says the other one too.
struct PlannedOperation {
  core::Computation computation;
  std::string instruction;               ///< of a kOther; else empty
  std::optional<core::Megahertz> clock;  ///< absent: fixed time, its clock does not matter
  core::Seconds expected_time;           ///< at that clock, from the profile
  friend bool operator==(const PlannedOperation&, const PlannedOperation&) = default;
};

/// The clock of all computations of one kind and stage in a window of the sweep.
struct KindClock {
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  core::Megahertz clock;
  friend bool operator==(const KindClock&, const KindClock&) = default;
};

/// Some consecutive steps at fixed clocks (online profiling). The first `skip` of its `steps` are not
/// measured: the clock settles.
struct ProfileWindow {
  std::uint32_t steps = 0;  ///< 1 to 1,000,000
  std::uint32_t skip = 0;   ///< below steps
  std::vector<KindClock> clocks;
  friend bool operator==(const ProfileWindow&, const ProfileWindow&) = default;
};

/// A generation as one rank gets it. Fenced by job, incarnation, schedule and revision (invariant I5).
struct RankPlan {
  std::string job;
  std::uint64_t incarnation = 0;
  std::string schedule_sha256;
  std::uint64_t revision = 0;  ///< 2 x generation, + 1 once from_step is agreed
  std::uint64_t generation = 0;
  std::string reason;                          ///< "fastest", "straggler", "profile", ...
  std::optional<std::uint64_t> from_step;      ///< absent: prepared only, not to be run yet
  core::Seconds ttl;                           ///< how long it may be kept without hearing from the server
  bool baseline = false;                       ///< true: baseline clocks; no operations, no windows
  std::optional<core::Seconds> promised_time;  ///< of an iteration: what the guard holds it to
  std::vector<PlannedOperation> operations;    ///< in order of execution; empty for a sweep or baseline
  std::vector<ProfileWindow> windows;          ///< one after another from from_step on; then baseline
  friend bool operator==(const RankPlan&, const RankPlan&) = default;
};

/// Times of all computations of one kind, stage and clock in a window or under a plan.
struct KindTimes {
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  core::Megahertz clock;       ///< that was asked for
  std::uint32_t count = 0;     ///< that `time` is the mean of
  std::uint32_t rejected = 0;  ///< outliers and throttled ones that were left out
  core::Seconds time;          ///< mean, compute only: without waiting for others
  core::Seconds deviation;     ///< standard deviation of one
  core::Seconds expected;      ///< mean of what the plan says for the same ones; 0 in a sweep
};

/// Least-squares sums of a window: each interval between two updates of the energy counter is one equation,
/// joules = sum over columns of (seconds of the interval in that column) x (its power).
/// The powers are solved for where the windows of all ranks of a stage are together.
struct EnergySums {
  std::uint32_t intervals = 0;
  core::Seconds seconds;             ///< all intervals together
  core::Joules joules;               ///< all intervals together
  std::vector<std::string> columns;  ///< "F0@1410" (kind, stage, MHz), ..., "idle"; at most 64
  std::vector<double> xtx;           ///< s^2; upper triangle row by row, n (n + 1) / 2 numbers
  std::vector<double> xty;           ///< J s; n numbers
  double yty = 0;                    ///< J^2
};

/// One window of the sweep as measured.
struct WindowReport {
  std::uint64_t generation = 0;
  std::uint32_t window = 0;      ///< index in RankPlan::windows
  std::uint64_t step = 0;        ///< last step of it
  std::uint32_t iterations = 0;  ///< that were measured
  core::Seconds iteration_time;  ///< mean
  double throttled = 0;          ///< share of samples with power or heat among the clock's reasons, 0 to 1
  std::vector<KindTimes> kinds;
  std::optional<EnergySums> energy;  ///< absent: the GPU has no usable counter
  core::Seconds counter_period;      ///< of the energy counter as measured; 0: unknown
};

/// Means over some iterations under one plan.
struct StepReport {
  std::uint64_t generation = 0;
  std::uint64_t step = 0;  ///< last of them
  std::uint32_t iterations = 0;
  core::Seconds iteration_time;
  std::optional<core::Joules> energy;  ///< of this rank's GPU, per iteration
  std::vector<KindTimes> kinds;
  double throttled = 0;
  std::uint32_t unknown = 0;  ///< computations that the plan does not have, all iterations together
  std::uint32_t missing = 0;  ///< computations of the plan that did not happen
};

/// Iterations were slower than promised; this rank has gone back to full clocks (law 4).
struct GuardTripReport {
  std::uint64_t generation = 0;
  core::Seconds promised;
  core::Seconds measured;        ///< mean of the iterations that were too slow
  std::uint32_t iterations = 0;  ///< in a row
};

}  // namespace perseus::client
