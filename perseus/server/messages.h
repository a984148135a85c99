// SPDX-License-Identifier: Apache-2.0
//
// Bodies of requests under /api/v1: bytes to values. Everything here is untrusted; each reader refuses what
// is not of its shape, with line and column, in memory bounded by the body.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"
#include "perseus/server/names.h"
#include "perseus/server/settings.h"

namespace perseus::server {

/// How a job without a profile is measured while it trains (docs/server.md, "Online profiling"). The defaults
/// are assumed; a window of two seconds holds twenty updates of the slowest energy counter seen.
struct ProfilingRequest {
  bool online = false;
  std::uint32_t clocks = 16;      ///< most clocks that a stage visits; 0: all that its GPUs offer
  std::uint32_t steps = 3;        ///< measured steps of a window, at least
  core::Seconds window{2};        ///< measured time of a window, at least
  std::uint32_t skip = 1;         ///< steps at the start of a window in which the clock settles
  core::Seconds budget{600};      ///< training time that one sweep may cost in all
  double max_slowdown_pct = 100;  ///< clocks below top / (1 + this / 100) are not visited
  friend bool operator==(const ProfilingRequest&, const ProfilingRequest&) = default;
};

/// A job as its rank 0 registers it: the schedule as actually built, and what a profile does not say.
struct Registration {
  std::uint64_t incarnation = 0;  ///< grows with each elastic restart of the job; >= 1
  core::Schedule schedule;
  core::Parallel parallel;
  std::vector<core::Watts> blocking_power;  ///< per pipeline rank, of one GPU; empty: it is measured
  core::Seconds p2p_lag;
  std::optional<std::string> fit;  ///< "none" or "convex"; absent: by the profile
  ProfilingRequest profiling;
  std::string
      fingerprint;  ///< of model and machine; jobs with equal ones share measured profiles; empty: none
};

/// Which message of which life of the job this is: late and repeated ones are recognised by it.
struct Stamp {
  std::uint64_t incarnation = 0;
  std::uint64_t sequence = 0;  ///< of this rank, rising by at least 1 from message to message; >= 1
};

/// A rank's first message.
struct RankHello {
  Stamp stamp;
  RankId rank;
  std::string gpu_uuid;                 ///< as the driver names it; may be empty
  std::vector<core::Megahertz> clocks;  ///< that the driver offers; may be empty
  std::string schedule_sha256;          ///< of the order that this rank built
  std::uint64_t step = 0;               ///< training step that it is in or will begin next
  bool clock_control = true;            ///< false: it only writes down which clocks it would set (dry run)
  core::Seconds counter_period;         ///< of its energy counter as measured; 0: unknown
};

/// "I am alive and in this step."
struct Renewal {
  Stamp stamp;
  std::uint64_t step = 0;
};

/// Times of all computations of one kind, stage and clock, as one rank measured them.
struct KindTimes {
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  core::Megahertz clock;       ///< that was asked for
  std::uint32_t count = 0;     ///< that `time` is the mean of
  std::uint32_t rejected = 0;  ///< outliers and throttled ones that were left out
  core::Seconds time;          ///< mean, compute only; 0 if count is
  core::Seconds deviation;     ///< standard deviation of one
  core::Seconds expected;      ///< mean of what the plan says for the same ones; 0: nothing
};

/// What a GPU does in a part of an interval: a computation of one kind, stage and clock, or nothing (idle: it
/// waits at blocking power).
struct EnergyColumn {
  bool idle = true;
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  core::Megahertz clock;
  friend auto operator<=>(const EnergyColumn&, const EnergyColumn&) = default;
};
/// "F0@1410", "idle".
[[nodiscard]] std::string to_text(const EnergyColumn& column);
/// Reads that form; kInvalidInput for anything else. Only kinds that ranks measure.
[[nodiscard]] core::Result<EnergyColumn> parse_energy_column(std::string_view text);

/// Least-squares sums over the intervals between two updates of a rank's energy counter: joules = sum over
/// columns of (seconds of the interval in that column) x (its power).
struct EnergySums {
  std::uint32_t intervals = 0;
  core::Seconds seconds;              ///< all intervals together
  core::Joules joules;                ///< all intervals together
  std::vector<EnergyColumn> columns;  ///< no two alike
  std::vector<double> xtx;            ///< s^2; upper triangle row by row
  std::vector<double> xty;            ///< J s
  double yty = 0;                     ///< J^2
};

/// One window of a sweep as a rank measured it.
struct WindowReport {
  Stamp stamp;
  std::uint64_t generation = 0;
  std::uint32_t window = 0;      ///< index within the generation
  std::uint64_t step = 0;        ///< the last of it
  std::uint32_t iterations = 1;  ///< that were measured
  core::Seconds iteration_time;  ///< mean
  double throttled = 0;          ///< share of samples with power or heat among the clock's reasons, 0 to 1
  std::vector<KindTimes> kinds;
  std::optional<EnergySums> energy;  ///< absent: the GPU has no usable counter
  core::Seconds counter_period;      ///< of the energy counter as measured; 0: unknown
};

/// Means over some iterations under one generation.
struct Measurement {
  Stamp stamp;
  std::uint64_t generation = 0;
  std::uint64_t step = 0;        ///< the last of them
  std::uint32_t iterations = 1;  ///< how many
  core::Seconds iteration_time;
  std::optional<core::Joules> energy;  ///< of this rank's GPU, per iteration
  std::vector<KindTimes> kinds;
  double throttled = 0;       ///< as in WindowReport
  std::uint32_t unknown = 0;  ///< computations that the plan does not have, all iterations together
  std::uint32_t missing = 0;  ///< computations of the plan that did not happen
};

/// A rank's guard went back to full clocks (DESIGN law 4).
struct GuardReport {
  Stamp stamp;
  std::uint64_t generation = 0;
  core::Seconds promised;
  core::Seconds measured;
  std::uint32_t iterations = 0;  ///< that were too slow in a row
};

/// Somebody says that a pipeline is slow (RELIABILITY section 5).
struct StragglerNotice {
  std::optional<std::string> id;          ///< to repeat or take back the notice by; else the server makes one
  std::optional<std::uint32_t> pipeline;  ///< this or
  std::optional<RankId> rank;             ///< that one is slow
  std::optional<double> slowdown;         ///< >= 1; this or
  std::optional<core::Seconds> iteration_time;  ///< the pipeline's own iteration time
  std::string cause;
  std::optional<core::Seconds> ttl;           ///< how long it counts from now; this or
  std::optional<std::int64_t> until_unix_ms;  ///< until when, by the server's wall clock; or neither
};

[[nodiscard]] core::Result<Registration> parse_registration(std::string_view body, const Limits& limits = {});
[[nodiscard]] core::Result<RankHello> parse_rank_hello(std::string_view body);
[[nodiscard]] core::Result<Renewal> parse_renewal(std::string_view body);
[[nodiscard]] core::Result<Measurement> parse_measurement(std::string_view body);
[[nodiscard]] core::Result<WindowReport> parse_window_report(std::string_view body);
[[nodiscard]] core::Result<GuardReport> parse_guard_report(std::string_view body);
/// `job` is the job in the request's path; a body that names another one is refused.
[[nodiscard]] core::Result<StragglerNotice> parse_straggler_notice(std::string_view body,
                                                                   std::string_view job);

/// "2026-11-24T14:00:00Z" (RFC 3339, UTC, fraction allowed) in ms since 1970; kInvalidInput for anything
/// else.
[[nodiscard]] core::Result<std::int64_t> parse_utc(std::string_view text);

/// The largest whole number that JSON readers agree on: 2^53 - 1. Incarnations, sequences and steps stay
/// below.
inline constexpr std::int64_t kLargestWhole = (std::int64_t{1} << 53) - 1;

}  // namespace perseus::server
