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

/// A job as its rank 0 registers it: the schedule as actually built, and what a profile does not say.
struct Registration {
  std::uint64_t incarnation = 0;  ///< grows with each elastic restart of the job; >= 1
  core::Schedule schedule;
  core::Parallel parallel;
  std::vector<core::Watts> blocking_power;  ///< per pipeline rank, of one GPU
  core::Seconds p2p_lag;
  std::optional<std::string> fit;  ///< "none" or "convex"; absent: by the profile
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
};

/// "I am alive and in this step."
struct Renewal {
  Stamp stamp;
  std::uint64_t step = 0;
};

/// Means over some iterations under one generation.
struct Measurement {
  Stamp stamp;
  std::uint64_t generation = 0;
  std::uint64_t step = 0;        ///< the last of them
  std::uint32_t iterations = 1;  ///< how many
  core::Seconds iteration_time;
  std::optional<core::Joules> energy;  ///< of this rank's GPU, per iteration
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
