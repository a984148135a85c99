// SPDX-License-Identifier: Apache-2.0
//
// The plan file, "perseus-plan/1" (DESIGN section 6; schema/plan.schema.json), and its proof.
//
//   PERSEUS_ASSIGN_OR_RETURN(std::string text, write_plan_json(problem, plan));
//   PERSEUS_ASSIGN_OR_RETURN(ParsedPlan parsed, parse_plan_json(text, "plan.json"));
//   PERSEUS_ASSIGN_OR_RETURN(core::Plan same, bind_plan(problem, parsed));
//
// A plan file is read without its job; bind_plan() then matches it against one. What a plan claims about
// itself (times, energies, bound, gap, flow) is kept as written: judging it is the work of certify/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"

namespace perseus::format {

/// Largest plan or certificate file: some 4 million computations of about 130 bytes.
inline constexpr std::size_t kMaxPlanBytes = std::size_t{1} << 29;
/// Most knobs of one computation, as many as a profile can have.
inline constexpr std::size_t kMaxPlanKnobs = 64;
/// Longest time that a plan may state, in s: what core/exact_time.h holds exactly.
inline constexpr core::Seconds kMaxPlanTime{1.6e13};

/// One computation of a plan file with the option chosen for it.
struct PlannedComputation {
  core::Kind kind = core::Kind::kForward;
  std::string instruction;  ///< kOther only: its name; else empty
  std::uint32_t stage = 0;  ///< as core::Computation
  std::uint32_t microbatch = 0;
  std::uint32_t stage_b = 0;                               ///< FB only; else 0
  std::uint32_t microbatch_b = 0;                          ///< FB only; else 0
  std::optional<core::Megahertz> clock;                    ///< absent: it does nothing (the empty `I`)
  core::Seconds time;                                      ///< as the profile states it
  core::Joules energy;                                     ///< per GPU, as the profile states it
  std::vector<std::pair<std::string, std::string>> knobs;  ///< name and value, in the profile's order

  friend bool operator==(const PlannedComputation&, const PlannedComputation&) = default;
};

/// A certificate as written: core::Certificate with edges named by the computations that they join.
struct ParsedCertificate {
  struct Edge {
    core::ComputationId from = 0;
    core::ComputationId to = 0;
    std::int64_t flow = 0;  ///< > 0
    friend bool operator==(const Edge&, const Edge&) = default;
  };
  std::int32_t unit_exponent = 0;
  std::int64_t value = 0;
  std::vector<std::int64_t> computation;
  std::vector<Edge> edges;

  friend bool operator==(const ParsedCertificate&, const ParsedCertificate&) = default;
};

/// A plan file as written.
struct ParsedPlan {
  core::Seconds target_time;
  std::optional<core::Seconds> sync_time;
  core::Seconds time;
  core::Joules energy;
  core::Joules lower_bound;
  /// +infinity where the file says null: the bound is not positive, so no ratio exists.
  double gap = 0;
  std::vector<core::Watts> blocking_power;  ///< per rank; size = ranks.size()
  std::string schedule;                     ///< its name
  std::string schedule_sha256;              ///< 64 lower-case hexadecimal digits
  std::uint32_t tensor = 1;
  std::uint32_t data = 1;
  std::uint32_t virtual_stages = 1;
  std::uint32_t microbatches = 1;
  std::string fit = "none";
  std::optional<ParsedCertificate> certificate;
  std::vector<std::vector<PlannedComputation>> ranks;  ///< size = pp, in order of execution

  friend bool operator==(const ParsedPlan&, const ParsedPlan&) = default;
};

/// The plan as it will be written, certificate included if it has one. kInternal if SHA-256 is not to be had.
[[nodiscard]] core::Result<ParsedPlan> describe_plan(const core::Problem& problem, const core::Plan& plan);

/// Plan JSON: one line per top-level member and per computation; members in the order of DESIGN section 6;
/// every double in the shortest text that reads back to it.
[[nodiscard]] std::string write_plan_json(const ParsedPlan& plan);
/// The same from a plan and its problem.
[[nodiscard]] core::Result<std::string> write_plan_json(const core::Problem& problem, const core::Plan& plan);

/// Reads plan JSON. Refused with line and column (kInvalidInput, kLimit): anything that is not of the schema,
/// unknown and repeated members included. Pure; thread-safe.
[[nodiscard]] core::Result<ParsedPlan> parse_plan_json(std::string_view bytes, std::string source);

/// Matches a plan file against a problem: degrees, orders, blocking power, and each computation's option by
/// clock and knobs. Refused with the first computation that differs (kInvalidInput); an option whose stated
/// time or energy is not the profile's is kClaimFalse. The plan's own totals, bound and flow are taken over
/// unjudged.
[[nodiscard]] core::Result<core::Plan> bind_plan(const core::Problem& problem, const ParsedPlan& plan);

/// A certificate in a file of its own ("perseus-certificate/1"), for plans that are to stay small.
struct CertificateFile {
  std::string schedule_sha256;  ///< the fence of the plan that it belongs to
  core::Seconds target_time;    ///< of that plan
  ParsedCertificate certificate;

  friend bool operator==(const CertificateFile&, const CertificateFile&) = default;
};

/// Certificate JSON; as compact as JSON allows, since it has a number per computation and per edge.
[[nodiscard]] std::string write_certificate_json(const CertificateFile& file);
/// Reads certificate JSON; refusals as parse_plan_json().
[[nodiscard]] core::Result<CertificateFile> parse_certificate_json(std::string_view bytes,
                                                                   std::string source);

/// The certificate as written, and back. bind_certificate() refuses a wrong number of computations and an
/// edge that the problem does not have or that is named twice (kInvalidInput).
[[nodiscard]] ParsedCertificate describe_certificate(const core::Problem& problem,
                                                     const core::Certificate& certificate);
[[nodiscard]] core::Result<core::Certificate> bind_certificate(const core::Problem& problem,
                                                               const ParsedCertificate& certificate);

}  // namespace perseus::format
