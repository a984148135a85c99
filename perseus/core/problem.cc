// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
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

Status check_lag(Seconds lag) {
  const bool in_range =
      std::isfinite(lag.value()) && (lag == Seconds(0) || (lag >= kMinTime && lag <= kMaxTime));
  if (in_range) return {};
  return fail(ErrorCode::kInvalidInput, fmt::format("P2P lag is {} s; it must be 0, or {} to {} s",
                                                    lag.value(), kMinTime.value(), kMaxTime.value()));
}

Status check_inputs(const Pipeline& pipeline, const ProblemInputs& inputs) {
  const auto ranks = pipeline.schedule().pipeline();
  if (inputs.blocking_power.size() != ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("blocking power is given for {} ranks; the pipeline has {}",
                            inputs.blocking_power.size(), ranks));
  }
  for (std::size_t r = 0; r < ranks; ++r) PERSEUS_RETURN_IF_ERROR(check_watts(inputs.blocking_power[r], r));
  PERSEUS_RETURN_IF_ERROR(check_lag(inputs.p2p_lag));
  for (const auto& [pair, lag] : inputs.edge_lag) PERSEUS_RETURN_IF_ERROR(check_lag(lag));
  if (inputs.parallel.tensor == 0 || inputs.parallel.data == 0) {
    return fail(ErrorCode::kInvalidInput, "a degree of parallelism is 0; the least is 1");
  }
  return {};
}

/// F and B of an overlapped pair one after the other (PyTorch runs them so), at one clock.
std::vector<Option> sum_of_parts(const ProfileEntry& forward, const ProfileEntry& backward) {
  std::vector<Option> sums;
  for (const Option& f : forward.options) {
    for (const Option& b : backward.options) {
      if (f.clock != b.clock || f.knobs != b.knobs) continue;
      Option sum = f;
      sum.time += b.time;
      sum.energy += b.energy;
      sum.samples = std::min(f.samples, b.samples);
      sum.time_std.reset();
      sum.energy_std.reset();
      if (f.time_std && b.time_std)
        sum.time_std = Seconds(std::hypot(f.time_std->value(), b.time_std->value()));
      if (f.energy_std && b.energy_std) {
        sum.energy_std = Joules(std::hypot(f.energy_std->value(), b.energy_std->value()));
      }
      sums.push_back(std::move(sum));
    }
  }
  return sums;
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
  return Problem(std::make_shared<const Data>(
      Data{std::move(pipeline), std::move(inputs), std::move(sets), std::move(set_of), total}));
}

Seconds Problem::lag(EdgeId e) const {
  const Edge& edge = pipeline().edges()[e];
  if (!edge.cross_rank) return Seconds(0);
  if (inputs().edge_lag.empty()) return inputs().p2p_lag;
  const auto it = inputs().edge_lag.find({pipeline().rank_of(edge.from), pipeline().rank_of(edge.to)});
  return it == inputs().edge_lag.end() ? inputs().p2p_lag : it->second;
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
