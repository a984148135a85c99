// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "perseus/format/certificate_text.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/plan_json.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::Status;

constexpr std::int64_t kMaxCount = static_cast<std::int64_t>(core::kMaxComputations);

/// Reads one plan file; one use.
class PlanReader {
 public:
  PlanReader(std::string_view bytes, std::string source) : json_(bytes, std::move(source)) {}

  core::Result<ParsedPlan> read() {
    PERSEUS_RETURN_IF_ERROR(json_.check(kMaxPlanBytes, "plan"));
    PERSEUS_RETURN_IF_ERROR(json_.object(kNames, kNames.size(),
                                         [this](std::size_t i) { return member(static_cast<Member>(i)); }));
    PERSEUS_RETURN_IF_ERROR(json_.end());
    PERSEUS_RETURN_IF_ERROR(check_degrees());
    return std::move(plan_);
  }

 private:
  enum class Member : std::uint8_t {
    kFormat,
    kTargetTime,
    kSyncTime,
    kTime,
    kEnergy,
    kLowerBound,
    kGap,
    kBlockingPower,
    kSchedule,
    kSha256,
    kPp,
    kTp,
    kDp,
    kVirtualStages,
    kMicrobatches,
    kFit,
    kCertificate,
    kRanks,
  };
  static constexpr std::array<std::string_view, 18> kNames = {"format",       "target_time_s",
                                                              "sync_time_s",  "time_s",
                                                              "energy_j",     "lower_bound_j",
                                                              "gap",          "blocking_power_w",
                                                              "schedule",     "schedule_sha256",
                                                              "pp",           "tp",
                                                              "dp",           "virtual_stages",
                                                              "microbatches", "fit",
                                                              "certificate",  "ranks"};

  Status member(Member which) {
    switch (which) {
      case Member::kFormat:
        return read_format(json_, "perseus-plan/1");
      case Member::kTargetTime:
        return store(read_plan_time(json_), plan_.target_time);
      case Member::kSyncTime:
        return json_.take_null() ? Status() : store(read_plan_time(json_), plan_.sync_time);
      case Member::kTime:
        return store(read_plan_time(json_), plan_.time);
      case Member::kEnergy:
        return joules(plan_.energy);
      case Member::kLowerBound:
        return joules(plan_.lower_bound);
      case Member::kGap:
        return gap();
      case Member::kBlockingPower:
        return blocking_power();
      case Member::kSchedule:
        return store(json_.string(), plan_.schedule);
      case Member::kSha256:
        return store(read_digest(json_), plan_.schedule_sha256);
      case Member::kPp:
        return count(pp_);
      case Member::kTp:
        return count(plan_.tensor);
      case Member::kDp:
        return count(plan_.data);
      case Member::kVirtualStages:
        return count(plan_.virtual_stages);
      case Member::kMicrobatches:
        return count(plan_.microbatches);
      case Member::kFit:
        return fit();
      case Member::kCertificate:
        return json_.take_null() ? Status() : store(read_certificate(json_), plan_.certificate);
      case Member::kRanks:
        return ranks();
    }
    return core::fail(core::ErrorCode::kInternal, "unknown member of a plan");
  }

  template <class From, class To>
  static Status store(core::Result<From> value, To& out) {
    if (!value) return std::unexpected(std::move(value).error());
    out = *std::move(value);
    return {};
  }

  Status joules(core::Joules& out) {
    PERSEUS_ASSIGN_OR_RETURN(const double value, json_.number());
    out = core::Joules(value + 0.0);
    return {};
  }

  Status gap() {
    if (!json_.take_null()) return store(json_.number(), plan_.gap);
    plan_.gap = std::numeric_limits<double>::infinity();
    return {};
  }

  Status count(std::uint32_t& out) {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json_.integer(1, kMaxCount));
    out = static_cast<std::uint32_t>(value);
    return {};
  }

  Status watts() {
    const std::size_t place = json_.mark();
    PERSEUS_ASSIGN_OR_RETURN(const double value, json_.number());
    if (value < 0 || value > core::kMaxPower.value()) {
      return json_.refuse(
          place, fmt::format("blocking power is {} W; it must be 0 to {} W", value, core::kMaxPower.value()));
    }
    plan_.blocking_power.emplace_back(value + 0.0);
    return {};
  }

  Status blocking_power() {
    power_place_ = json_.mark();
    if (!json_.at_array()) return watts();
    power_per_rank_ = true;
    return json_.array(core::kMaxComputations, [this](std::size_t) { return watts(); });
  }

  Status fit() {
    const std::size_t place = json_.mark();
    PERSEUS_ASSIGN_OR_RETURN(plan_.fit, json_.string());
    if (plan_.fit == "none" || plan_.fit == "convex") return {};
    return json_.refuse(place,
                        fmt::format("fit is {}; it must be \"none\" or \"convex\"", quoted(plan_.fit)));
  }

  Status ranks() {
    ranks_place_ = json_.mark();
    return json_.array(core::kMaxComputations, [this](std::size_t) -> Status {
      plan_.ranks.emplace_back();
      return json_.array(core::kMaxComputations, [this](std::size_t) { return computation(); });
    });
  }

  Status computation() {
    constexpr std::array<std::string_view, 9> kParts = {
        "kind", "stage", "microbatch", "clock_mhz", "time_s", "energy_j", "knobs", "stage_b", "microbatch_b"};
    constexpr std::size_t kNeeded = 7;
    if (++computations_ > core::kMaxComputations) {
      return json_.refuse(json_.mark(),
                          fmt::format("more than {} computations, the limit", core::kMaxComputations),
                          core::ErrorCode::kLimit);
    }
    PlannedComputation c;
    bool has_backward_half = false;
    bool has_backward_microbatch = false;
    const std::size_t place = json_.mark();
    PERSEUS_RETURN_IF_ERROR(json_.object(kParts, kNeeded, [&](std::size_t i) -> Status {
      switch (i) {
        case 0:
          return kind(c);
        case 1:
          return index(c.stage);
        case 2:
          return index(c.microbatch);
        case 3:
          return clock(c);
        case 4:
          return store(read_plan_time(json_), c.time);
        case 5:
          return joules(c.energy);
        case 6:
          return knobs(c);
        case 7:
          has_backward_half = true;
          return index(c.stage_b);
        default:
          has_backward_microbatch = true;
          return index(c.microbatch_b);
      }
    }));
    const bool overlapped = c.kind == core::Kind::kForwardBackward;
    if (has_backward_half != overlapped || has_backward_microbatch != overlapped) {
      return json_.refuse(place, overlapped ? "an FB without stage_b and microbatch_b"
                                            : "stage_b or microbatch_b in a computation that is no FB");
    }
    plan_.ranks.back().push_back(std::move(c));
    return {};
  }

  Status kind(PlannedComputation& c) {
    constexpr std::array kLettered = {core::Kind::kForward,         core::Kind::kBackward,
                                      core::Kind::kBackwardInput,   core::Kind::kBackwardWeight,
                                      core::Kind::kForwardBackward, core::Kind::kRecompute};
    const std::size_t place = json_.mark();
    PERSEUS_ASSIGN_OR_RETURN(auto name, json_.string());
    const auto found = std::ranges::find(kLettered, name, core::letter);
    if (found != kLettered.end()) {
      c.kind = *found;
      return {};
    }
    c.kind = core::Kind::kOther;
    if (auto named = check_instruction_name(name, {}); !named) {
      return json_.refuse(place, fmt::format("kind: {}", named.error().message()));
    }
    c.instruction = std::move(name);
    return {};
  }

  Status index(std::uint32_t& out) {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json_.integer(0, kMaxCount - 1));
    out = static_cast<std::uint32_t>(value);
    return {};
  }

  Status clock(PlannedComputation& c) {
    if (json_.take_null()) return {};
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json_.integer(1, core::kMaxClockMhz));
    c.clock = core::Megahertz(static_cast<std::uint32_t>(value));
    return {};
  }

  Status knobs(PlannedComputation& c) {
    return json_.map(kMaxPlanKnobs, [&](const std::string& name) -> Status {
      if (std::ranges::find(c.knobs, name, &std::pair<std::string, std::string>::first) != c.knobs.end()) {
        return json_.refuse(json_.mark(), fmt::format("knob {} is there twice", quoted(name)));
      }
      PERSEUS_ASSIGN_OR_RETURN(auto value, json_.string());
      c.knobs.emplace_back(name, std::move(value));
      return {};
    });
  }

  /// Members may come in any order, so what joins them is checked last.
  Status check_degrees() {
    if (plan_.ranks.size() != pp_) {
      return json_.refuse(ranks_place_, fmt::format("ranks has {} lists; pp is {}", plan_.ranks.size(), pp_));
    }
    if (!power_per_rank_) plan_.blocking_power.resize(pp_, plan_.blocking_power.front());
    if (plan_.blocking_power.size() != pp_) {
      return json_.refuse(power_place_, fmt::format("blocking_power_w has {} numbers; pp is {}",
                                                    plan_.blocking_power.size(), pp_));
    }
    return {};
  }

  JsonReader json_;
  ParsedPlan plan_;
  std::uint32_t pp_ = 0;
  std::size_t computations_ = 0;
  std::size_t ranks_place_ = 0;
  std::size_t power_place_ = 0;
  bool power_per_rank_ = false;
};

}  // namespace

core::Result<ParsedPlan> parse_plan_json(std::string_view bytes, std::string source) {
  return PlanReader(bytes, std::move(source)).read();
}

}  // namespace perseus::format
