// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/measured_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "perseus/core/profile.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/profile_csv.h"
#include "perseus/server/energy_fit.h"
#include "perseus/server/json_text.h"

namespace perseus::server {

using core::ErrorCode;
using core::fail;
using core::Joules;
using core::Seconds;
using core::Status;
using core::Watts;

core::Watts BlockingPower::at(double mhz) const {
  return std::max(Watts(0), base + Watts(per_mhz_w * (mhz - clock.value())));
}

namespace {

constexpr std::size_t kComparedGpus = 8;

/// GPUs whose mean is further than this many standard errors above that of all really are slower. Assumed.
constexpr double kSlowerReplica = 3;

std::string name(const WorkClock& c) {
  return to_text(EnergyColumn{false, c.work.kind, c.work.stage, c.clock});
}

struct StageTime {
  Seconds mean, deviation;
  std::uint64_t samples = 0;
};

TimePool joined(const std::vector<const TimePool*>& pools) {
  TimePool out;
  for (const TimePool* pool : pools) {
    KindTimes times{.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(pool->count, UINT32_MAX)),
                    .time = Seconds(pool->mean_s),
                    .deviation = Seconds(pool->deviation_s())};
    out.add(times);
  }
  return out;
}

/// The slowest GPU ends a computation; one that is far slower than the others is a straggler. GPUs that
/// differ by no more than their noise are taken together, since the largest of noisy means is too large.
StageTime time_of(const std::map<Replica, TimePool>& replicas, std::set<std::string>& notes,
                  std::uint32_t rank) {
  std::vector<double> means;
  means.reserve(replicas.size());
  for (const auto& [replica, pool] : replicas) means.push_back(pool.mean_s);
  std::ranges::sort(means);
  const double usual = means[(means.size() - 1) / 2];
  std::vector<const TimePool*> kept;
  const TimePool* slowest = nullptr;
  for (const auto& [replica, pool] : replicas) {
    if (pool.mean_s > usual * (1 + kStragglingReplica)) {
      notes.insert(fmt::format(
          "rank {}.{}.{}: its times were left out, it is more than {:.0f} % slower than the others "
          "of its stage",
          replica.first, rank, replica.second, 100 * kStragglingReplica));
      continue;
    }
    kept.push_back(&pool);
    if (slowest == nullptr || pool.mean_s > slowest->mean_s) slowest = &pool;
  }
  const TimePool all = joined(kept);
  const double error = slowest->deviation_s() / std::sqrt(static_cast<double>(slowest->count));
  const TimePool& taken = slowest->mean_s - all.mean_s > kSlowerReplica * error ? *slowest : all;
  return {Seconds(taken.mean_s), Seconds(taken.deviation_s()), taken.count};
}

/// The stage of the backward half of an FB, which ranks do not name.
core::Result<std::optional<std::uint32_t>> stage_b_of(const core::Schedule& schedule, const Work& work) {
  std::optional<std::uint32_t> out;
  if (work.kind != core::Kind::kForwardBackward) return out;
  for (const auto& order : schedule.ranks) {
    for (const core::Computation& c : order) {
      if (c.kind != work.kind || c.stage != work.stage) continue;
      if (out && *out != c.stage_b) {
        return fail(
            ErrorCode::kUnsupported,
            fmt::format("FB of stage {} runs the backward of stage {} and of stage {}; they cannot be "
                        "measured as one",
                        work.stage, *out, c.stage_b));
      }
      out = c.stage_b;
    }
  }
  return out;
}

core::ProfileEntry& entry_of(core::Profile& profile, const Work& work, std::optional<std::uint32_t> stage_b) {
  const std::string_view instruction = core::instruction_name(work.kind);
  for (auto& entry : profile.entries) {
    if (entry.stage == work.stage && entry.instruction == instruction) return entry;
  }
  return profile.entries.emplace_back(core::ProfileEntry{
      .stage = work.stage, .instruction = std::string(instruction), .stage_b = stage_b, .options = {}});
}

/// Weighted least-squares line of the blocking powers over the clocks.
core::Result<BlockingPower> blocking_of(const RankData& data, const EnergyFit& fit) {
  double weights = 0;
  double clock = 0;
  double power = 0;
  double variance = 0;
  struct Point {
    double clock, power, weight;
  };
  std::vector<Point> points;
  for (std::uint32_t s = 0; s < data.settings.size(); ++s) {
    const auto* idle = fit.idle(s);
    if (idle == nullptr || !data.settings[s].uniform) continue;
    const double error = std::max(idle->std_error.value(), 1e-6);
    points.push_back({static_cast<double>(data.settings[s].clocks.front().clock.value()), idle->power.value(),
                      1 / (error * error)});
    weights += points.back().weight;
    clock += points.back().weight * points.back().clock;
    power += points.back().weight * points.back().power;
  }
  if (points.empty())
    return fail(ErrorCode::kInvalidInput,
                "no GPU of it ever waited, so that its blocking power is not known");
  clock /= weights;
  power /= weights;
  double slope = 0;
  for (const Point& p : points) {
    slope += p.weight * (p.clock - clock) * (p.power - power);
    variance += p.weight * (p.clock - clock) * (p.clock - clock);
  }
  const auto centre = core::Megahertz(static_cast<std::uint32_t>(std::lround(clock)));
  return BlockingPower{Watts(power), centre, variance > 0 ? slope / variance : 0,
                       Watts(kConfidence95 / std::sqrt(weights))};
}

/// The fit over all GPUs, trusted as far as the GPUs agree.
core::Result<EnergyFit> fit_of(const RankData& data) {
  std::vector<EnergySums> joint(data.settings.size());
  std::map<Replica, std::vector<EnergySums>> single;
  for (std::size_t s = 0; s < data.settings.size(); ++s) {
    for (const auto& [replica, sums] : data.settings[s].sums) {
      accumulate(joint[s], sums);
      single.try_emplace(replica, data.settings.size()).first->second[s] = sums;
    }
  }
  PERSEUS_ASSIGN_OR_RETURN(EnergyFit out, fit_powers(joint));
  std::vector<EnergyFit> fits;
  for (const auto& [replica, settings] : single) {
    // A few GPUs tell enough of how much they disagree.
    if (fits.size() == kComparedGpus) break;
    if (auto fit = fit_powers(settings)) fits.push_back(*std::move(fit));
  }
  spread(out, fits);
  return out;
}

struct RankResult {
  core::Profile profile;
  BlockingPower blocking;
  RankTrust trust;
};

core::Result<RankResult> measure_rank(const core::Schedule& schedule, std::uint32_t rank,
                                      const RankData& data, std::set<std::string>& notes) {
  PERSEUS_ASSIGN_OR_RETURN(const EnergyFit fit, fit_of(data));
  RankResult out;
  PERSEUS_ASSIGN_OR_RETURN(out.blocking, blocking_of(data, fit));
  out.trust.intervals = fit.intervals;
  for (std::size_t s = 0; s < data.settings.size(); ++s) {
    if (data.settings[s].uniform) out.trust.condition = std::max(out.trust.condition, fit.condition[s]);
  }
  std::map<core::Megahertz, std::vector<std::pair<const EnergyFit::Unknown*, Seconds>>> whole;
  for (const auto& [c, replicas] : data.times) {
    const auto* power = fit.find({false, c.work.kind, c.work.stage, c.clock});
    if (power == nullptr || replicas.empty()) continue;
    const StageTime time = time_of(replicas, notes, rank);
    const std::array one{std::pair(power, time.mean)};
    const Joules error = fit.std_error(one);
    const Joules energy = power->power * time.mean;
    if (energy <= Joules(0)) {
      return fail(ErrorCode::kInvalidInput, fmt::format("the energy of {} comes out as nothing", name(c)));
    }
    whole[c.clock].emplace_back(power, time.mean);
    out.trust.worst_share = std::max(out.trust.worst_share, kConfidence95 * (error / energy));
    PERSEUS_ASSIGN_OR_RETURN(const auto stage_b, stage_b_of(schedule, c.work));
    const auto samples = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(time.samples, 1, UINT32_MAX));
    entry_of(out.profile, c.work, stage_b)
        .options.push_back({.clock = c.clock,
                            .time = time.mean,
                            .energy = energy,
                            .knobs = {},
                            .samples = samples,
                            .time_std = samples > 1 ? std::optional(time.deviation) : std::nullopt,
                            // So that the mean of all samples has the error that was estimated.
                            .energy_std = std::sqrt(static_cast<double>(samples)) * error});
  }
  for (const auto& [clock, parts] : whole) {
    if (parts.size() != data.works.size()) continue;
    Joules energy;
    for (const auto& [power, time] : parts) energy += power->power * time;
    out.trust.worst_sum_share =
        std::max(out.trust.worst_sum_share, kConfidence95 * (fit.std_error(parts) / energy));
  }
  out.trust.told_apart = out.trust.worst_share <= kToldApart;
  return out;
}

}  // namespace

core::Result<MeasuredProfile> measure_profile(const core::Schedule& schedule,
                                              const std::vector<RankData>& data) {
  core::Profile profile;
  MeasuredProfile out;
  std::set<std::string> notes;
  for (std::uint32_t r = 0; r < data.size(); ++r) {
    auto rank = measure_rank(schedule, r, data[r], notes);
    if (!rank) {
      return std::unexpected(rank.error().at({fmt::format("pipeline rank {} as measured", r)}));
    }
    for (auto& entry : rank->profile.entries) profile.entries.push_back(std::move(entry));
    out.facts.blocking.push_back(rank->blocking);
    out.facts.trust.push_back(rank->trust);
    if (!rank->trust.told_apart) {
      notes.insert(fmt::format(
          "pipeline rank {}: only the sums of its computations' energies are known to within {:.1f} %; "
          "how they divide is known to within {:.0f} %",
          r, 100 * rank->trust.worst_sum_share, 100 * rank->trust.worst_share));
    }
  }
  for (auto& entry : profile.entries) std::ranges::sort(entry.options, std::greater(), &core::Option::clock);
  std::ranges::sort(profile.entries, {},
                    [](const core::ProfileEntry& e) { return std::tie(e.stage, e.instruction, e.stage_b); });
  out.csv = format::write_profile_csv(profile);
  out.facts.notes.assign(notes.begin(), notes.end());
  return out;
}

std::string write_facts(const MeasuredFacts& facts) {
  JsonText out;
  out.begin_object().key("blocking").begin_array();
  for (const BlockingPower& b : facts.blocking) {
    out.begin_object().key("base_w").number(b.base.value()).key("clock_mhz").number(b.clock.value());
    out.key("per_mhz_w").number(b.per_mhz_w).key("half_width_w").number(b.half_width.value()).end_object();
  }
  out.end_array().key("trust").begin_array();
  for (const RankTrust& t : facts.trust) {
    // JSON has no infinity.
    const double condition = std::min(t.condition, std::numeric_limits<double>::max());
    out.begin_object().key("condition").number(condition).key("intervals").number(t.intervals);
    out.key("told_apart").boolean(t.told_apart).key("worst_share").number(t.worst_share);
    out.key("worst_sum_share").number(t.worst_sum_share).end_object();
  }
  out.end_array().key("notes").begin_array();
  for (const std::string& note : facts.notes) out.text(note);
  return out.end_array().end_object().take();
}

namespace {

using format::JsonReader;

constexpr std::size_t kMostFactsBytes = std::size_t{16} << 20U;
constexpr std::size_t kMostEntries = 65'536;

Status read_number(JsonReader& json, double& to) {
  PERSEUS_ASSIGN_OR_RETURN(to, json.number());
  return {};
}

Status read_blocking(JsonReader& json, BlockingPower& out) {
  static constexpr std::array<std::string_view, 4> kNames = {"base_w", "clock_mhz", "per_mhz_w",
                                                             "half_width_w"};
  return json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 1) {
      PERSEUS_ASSIGN_OR_RETURN(const std::int64_t mhz, json.integer(0, core::kMaxClockMhz));
      out.clock = core::Megahertz(static_cast<std::uint32_t>(mhz));
      return {};
    }
    double value = 0;
    PERSEUS_RETURN_IF_ERROR(read_number(json, value));
    if (name == 0) out.base = Watts(value);
    if (name == 2) out.per_mhz_w = value;
    if (name == 3) out.half_width = Watts(value);
    return {};
  });
}

Status read_trust(JsonReader& json, RankTrust& out) {
  static constexpr std::array<std::string_view, 5> kNames = {"condition", "intervals", "told_apart",
                                                             "worst_share", "worst_sum_share"};
  return json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 1) {
      PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, kLargestWhole));
      out.intervals = static_cast<std::uint64_t>(value);
      return {};
    }
    if (name == 2) {
      PERSEUS_ASSIGN_OR_RETURN(out.told_apart, json.boolean());
      return {};
    }
    return read_number(json, name == 0 ? out.condition : name == 3 ? out.worst_share : out.worst_sum_share);
  });
}

}  // namespace

core::Result<MeasuredFacts> parse_facts(std::string_view text) {
  static constexpr std::array<std::string_view, 3> kNames = {"blocking", "trust", "notes"};
  JsonReader json(text, "stored facts of a measured profile");
  MeasuredFacts out;
  PERSEUS_RETURN_IF_ERROR(json.check(kMostFactsBytes, "facts"));
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 0) {
      return json.array(kMostEntries,
                        [&](std::size_t) { return read_blocking(json, out.blocking.emplace_back()); });
    }
    if (name == 1) {
      return json.array(kMostEntries,
                        [&](std::size_t) { return read_trust(json, out.trust.emplace_back()); });
    }
    return json.array(kMostEntries, [&](std::size_t) -> Status {
      PERSEUS_ASSIGN_OR_RETURN(out.notes.emplace_back(), json.string());
      return {};
    });
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return out;
}

}  // namespace perseus::server
