// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <string_view>
#include <tuple>

namespace perseus::core {
namespace {

/// What decides the options of a computation.
struct SetKey {
  std::uint32_t stage = 0;
  std::uint32_t stage_b = 0;
  Kind kind = Kind::kForward;
  std::uint32_t instruction = 0;
  friend auto operator<=>(const SetKey&, const SetKey&) = default;
};

Status check_watts(Watts p, std::size_t rank) {
  if (std::isfinite(p.value()) && p >= Watts(0) && p <= kMaxPower) return {};
  return fail(ErrorCode::kInvalidInput, fmt::format("blocking power of rank {} is {} W; it must be 0 to {} W",
                                                    rank, p.value(), kMaxPower.value()));
}

bool is_time(Seconds t) {
  return t >= kMinTime && t <= kMaxTime;
}  // false for NaN

Status check_lag(std::string_view name, Seconds lag) {
  if (lag == Seconds(0) || is_time(lag)) return {};
  return fail(ErrorCode::kInvalidInput, fmt::format("{} is {} s; it must be 0, or {} to {} s", name,
                                                    lag.value(), kMinTime.value(), kMaxTime.value()));
}

Status check_lags(const ProblemInputs& inputs, std::uint32_t ranks) {
  PERSEUS_RETURN_IF_ERROR(check_lag("P2P lag", inputs.p2p_lag));
  for (const auto& [pair, lag] : inputs.edge_lag) {
    const std::string name = fmt::format("P2P lag from rank {} to rank {}", pair.first, pair.second);
    PERSEUS_RETURN_IF_ERROR(check_lag(name, lag));
    if (std::max(pair.first, pair.second) >= ranks || pair.first == pair.second) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{}: it must be between two of ranks 0 to {}", name, ranks - 1));
    }
  }
  return {};
}

Status check_entry(const ProfileEntry& entry) {
  const auto refuse = [&](std::string_view what) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("profile: stage {}, {}: {}", entry.stage, entry.instruction, what));
  };
  if (entry.options.empty()) return refuse("has no option");
  if (!std::ranges::is_sorted(entry.options, std::greater<>(), &Option::clock)) {
    return refuse("its options are not sorted by falling clock");
  }
  for (const Option& o : entry.options) {
    if (!is_time(o.time)) {
      return refuse(
          fmt::format("time {} s is outside {} to {} s", o.time.value(), kMinTime.value(), kMaxTime.value()));
    }
    if (!(o.energy >= Joules(0) && o.energy <= kMaxEnergy)) {
      return refuse(fmt::format("energy {} J is outside 0 to {} J", o.energy.value(), kMaxEnergy.value()));
    }
  }
  return {};
}

/// What the solver's arithmetic and Profile::find rest on; readers of files have refused it with a line
/// already.
Status check_profile(const Profile& profile) {
  const auto key = [](const ProfileEntry& e) { return std::tie(e.stage, e.instruction, e.stage_b); };
  for (std::size_t k = 0; k < profile.entries.size(); ++k) {
    PERSEUS_RETURN_IF_ERROR(check_entry(profile.entries[k]));
    if (k == 0 || key(profile.entries[k - 1]) < key(profile.entries[k])) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("profile: stage {}, {}: is out of order or repeated", profile.entries[k].stage,
                            profile.entries[k].instruction));
  }
  return {};
}

Status check_inputs(const Pipeline& pipeline, const ProblemInputs& inputs) {
  const auto ranks = pipeline.schedule().pipeline();
  if (inputs.blocking_power.size() != ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("blocking power is given for {} ranks; the pipeline has {}",
                            inputs.blocking_power.size(), ranks));
  }
  for (std::size_t r = 0; r < ranks; ++r) PERSEUS_RETURN_IF_ERROR(check_watts(inputs.blocking_power[r], r));
  PERSEUS_RETURN_IF_ERROR(check_lags(inputs, ranks));
  PERSEUS_RETURN_IF_ERROR(check_profile(inputs.profile));
  if (inputs.parallel.tensor == 0 || inputs.parallel.data == 0) {
    return fail(ErrorCode::kInvalidInput, "a degree of parallelism is 0; the least is 1");
  }
  return {};
}

Option sum_of(const Option& f, const Option& b) {
  Option sum = f;
  sum.time += b.time;
  sum.energy += b.energy;
  sum.samples = std::min(f.samples, b.samples);
  sum.time_std.reset();
  sum.energy_std.reset();
  if (f.time_std && b.time_std) {
    sum.time_std = Seconds(std::hypot(f.time_std->value(), b.time_std->value()));
  }
  if (f.energy_std && b.energy_std) {
    sum.energy_std = Joules(std::hypot(f.energy_std->value(), b.energy_std->value()));
  }
  return sum;
}

/// F and B of an overlapped pair one after the other (PyTorch runs them so), at one clock. Sorted as the
/// options of a ProfileEntry.
std::vector<Option> sum_of_parts(const ProfileEntry& forward, const ProfileEntry& backward) {
  std::vector<Option> sums;
  for (const Option& f : forward.options) {
    for (const Option& b :
         std::ranges::equal_range(backward.options, f.clock, std::greater<>(), &Option::clock)) {
      if (f.knobs == b.knobs) sums.push_back(sum_of(f, b));
    }
  }
  std::ranges::stable_sort(sums, [](const Option& a, const Option& b) {
    return std::tie(b.clock, a.time) < std::tie(a.clock, b.time);
  });
  return sums;
}

/// The lag of every edge, or nothing if all are 0.
std::vector<Seconds> edge_lags(const Pipeline& pipeline, const ProblemInputs& inputs) {
  std::vector<Seconds> lags;
  if (inputs.p2p_lag == Seconds(0) && inputs.edge_lag.empty()) return lags;
  lags.reserve(pipeline.edges().size());
  for (const Edge& e : pipeline.edges()) {
    const auto it = inputs.edge_lag.find({pipeline.rank_of(e.from), pipeline.rank_of(e.to)});
    const Seconds between = it == inputs.edge_lag.end() ? inputs.p2p_lag : it->second;
    lags.push_back(e.cross_rank ? between : Seconds(0));
  }
  return lags;
}

Result<std::vector<Option>> resolve(const Profile& profile, const Schedule& schedule, const Computation& c) {
  const auto refuse = [&](std::string_view instruction, std::uint32_t stage) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: the profile has no rows for stage {}, instruction {}",
                            to_string(schedule, c), stage, instruction));
  };
  if (c.kind == Kind::kForwardBackward) {
    if (const auto* own = profile.find(c.stage, "forward_backward", c.stage_b)) return own->options;
    const auto* forward = profile.find(c.stage, "forward");
    const auto* backward = profile.find(c.stage_b, "backward");
    if (forward == nullptr) return refuse("forward", c.stage);
    if (backward == nullptr) return refuse("backward", c.stage_b);
    auto sums = sum_of_parts(*forward, *backward);
    if (!sums.empty()) return sums;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: forward of stage {} and backward of stage {} share no clock in the profile",
                            to_string(schedule, c), c.stage, c.stage_b));
  }
  const std::string_view instruction = c.kind == Kind::kOther
                                           ? std::string_view(schedule.instructions.at(c.instruction))
                                           : instruction_name(c.kind);
  if (const auto* entry = profile.find(c.stage, instruction)) return entry->options;
  if (c.stage == 0 && c.kind == Kind::kBackwardInput) return std::vector<Option>{Option{}};
  if (c.stage == 0 && c.kind == Kind::kBackwardWeight) {
    if (const auto* backward = profile.find(0, "backward")) return backward->options;
  }
  return refuse(instruction, c.stage);
}

}  // namespace

Result<Problem> Problem::build(Pipeline pipeline, ProblemInputs inputs) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(pipeline, inputs));
  std::vector<std::vector<Option>> sets;
  std::vector<std::uint32_t> set_of(pipeline.size());
  std::map<SetKey, std::uint32_t> known;
  for (ComputationId i = 0; i < pipeline.size(); ++i) {
    const Computation& c = pipeline.computation(i);
    const SetKey key{c.stage, c.stage_b, c.kind, c.instruction};
    auto it = known.find(key);
    if (it == known.end()) {
      PERSEUS_ASSIGN_OR_RETURN(auto options, resolve(inputs.profile, pipeline.schedule(), c));
      it = known.emplace(key, static_cast<std::uint32_t>(sets.size())).first;
      sets.push_back(std::move(options));
    }
    set_of[i] = it->second;
  }
  Watts total;
  for (const Watts p : inputs.blocking_power) total += p;
  std::vector<Seconds> lag = edge_lags(pipeline, inputs);
  return Problem(std::make_shared<const Data>(Data{std::move(pipeline), std::move(inputs), std::move(sets),
                                                   std::move(set_of), std::move(lag), total}));
}

ExactTiming exact_timing(const Problem& problem, const Choice& choice) {
  const Pipeline& pipeline = problem.pipeline();
  ExactTiming timing;
  timing.start.resize(problem.size());
  for (const ComputationId i : pipeline.topological_order()) {
    const ExactTime end = timing.start[i] + ExactTime(problem.options(i)[choice[i]].time);
    timing.makespan = std::max(timing.makespan, end);
    for (EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      ExactTime& start = timing.start[pipeline.edges()[e].to];
      start = std::max(start, end + ExactTime(problem.lag(e)));
    }
  }
  return timing;
}

Choice fastest_choice(const Problem& problem) {
  std::vector<std::uint32_t> of_set(problem.option_set_count());
  for (std::uint32_t set = 0; set < of_set.size(); ++set) {
    const auto options = problem.option_set(set);
    const auto key = [](const Option& o) { return std::pair(o.time, o.energy); };
    of_set[set] = static_cast<std::uint32_t>(std::ranges::min_element(options, {}, key) - options.begin());
  }
  Choice choice(problem.size());
  for (ComputationId i = 0; i < problem.size(); ++i) choice[i] = of_set[problem.option_set_of(i)];
  return choice;
}

Joules pipeline_energy(const Problem& problem, const Choice& choice, Seconds sync) {
  // A long double keeps the rounding of 2^24 terms below 1e-12 relative.
  long double effective = 0;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const Option& o = problem.options(i)[choice[i]];
    const long double blocking = problem.blocking_power(problem.pipeline().rank_of(i)).value();
    effective += static_cast<long double>(o.energy.value()) - blocking * o.time.value();
  }
  const long double waiting = static_cast<long double>(problem.total_blocking_power().value()) * sync.value();
  return Joules(static_cast<double>((effective + waiting) * problem.parallel().tensor));
}

}  // namespace perseus::core
