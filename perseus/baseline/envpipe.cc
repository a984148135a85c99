// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/envpipe.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "perseus/baseline/evaluator.h"

namespace perseus::baseline {
namespace {

using core::Computation;
using core::ComputationId;
using core::Kind;
using core::Option;
using core::Problem;

/// Options of a set from the bottom of its energy valley up to its fastest one, each faster than the one
/// before.
std::vector<std::uint32_t> ladder(std::span<const Option> options) {
  const auto clock = [&](std::uint32_t k) { return options[k].clock.value_or(core::Megahertz()); };
  std::vector<std::uint32_t> order(options.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, {}, clock);
  const std::uint32_t bottom = *std::ranges::min_element(
      order, {}, [&](std::uint32_t k) { return std::pair(options[k].energy, options[k].time); });
  std::vector<std::uint32_t> steps{bottom};
  for (const std::uint32_t k : order) {
    const bool higher = clock(k) >= clock(bottom);
    if (higher && options[k].time < options[steps.back()].time) steps.push_back(k);
  }
  // Noise may put the fastest option at a lower clock than the valley's bottom; it is the top step all the
  // same.
  const std::uint32_t fastest = *std::ranges::min_element(
      order, {}, [&](std::uint32_t k) { return std::pair(options[k].time, options[k].energy); });
  if (options[fastest].time < options[steps.back()].time) steps.push_back(fastest);
  return steps;
}

bool is_forward(Kind kind) {
  return kind == Kind::kForward || kind == Kind::kForwardBackward;
}
bool is_backward(Kind kind) {
  return kind == Kind::kBackward || kind == Kind::kBackwardInput || kind == Kind::kBackwardWeight ||
         kind == Kind::kForwardBackward;
}
std::uint32_t backward_stage(const Computation& c) {
  return c.kind == Kind::kForwardBackward ? c.stage_b : c.stage;
}

/// The outer envelope: every computation of the last stage, the first forward and the last backward of each
/// stage.
std::vector<bool> outer_envelope(const Problem& problem) {
  const core::Pipeline& pipeline = problem.pipeline();
  const std::uint32_t stages = pipeline.schedule().stages();
  constexpr ComputationId kNone = std::numeric_limits<ComputationId>::max();
  std::vector<ComputationId> first_forward(stages, kNone);
  // The last of each kind: I and W of a split backward both belong to it.
  std::vector<std::vector<ComputationId>> last_backward(static_cast<std::size_t>(Kind::kOther) + 1,
                                                        std::vector<ComputationId>(stages, kNone));
  std::vector<bool> envelope(problem.size(), false);
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const Computation& c = pipeline.computation(i);
    if (c.stage + 1 == stages) envelope[i] = true;
    if (is_forward(c.kind) && first_forward[c.stage] == kNone) first_forward[c.stage] = i;
    if (is_backward(c.kind)) last_backward[static_cast<std::size_t>(c.kind)][backward_stage(c)] = i;
  }
  for (const ComputationId i : first_forward) {
    if (i != kNone) envelope[i] = true;
  }
  for (const auto& of_kind : last_backward) {
    for (const ComputationId i : of_kind) {
      if (i != kNone) envelope[i] = true;
    }
  }
  return envelope;
}

/// The plan as it is reconfigured.
class Reconfiguration {
 public:
  explicit Reconfiguration(const Problem& problem)
      : problem_(problem), evaluator_(problem), envelope_(outer_envelope(problem)), step_(problem.size(), 0) {
    for (std::uint32_t set = 0; set < problem.option_set_count(); ++set) {
      ladders_.push_back(ladder(problem.option_set(set)));
    }
    choice_.resize(problem.size());
    for (ComputationId i = 0; i < problem.size(); ++i) {
      if (envelope_[i]) step_[i] = static_cast<std::uint32_t>(steps(i).size() - 1);
      choice_[i] = steps(i)[step_[i]];
    }
  }

  core::Choice run() && {
    while (raise_critical_path()) {
    }
    return std::move(choice_);
  }

 private:
  [[nodiscard]] const std::vector<std::uint32_t>& steps(ComputationId i) const {
    return ladders_[problem_.option_set_of(i)];
  }
  [[nodiscard]] bool can_rise(ComputationId i) const { return step_[i] + 1 < steps(i).size(); }
  [[nodiscard]] core::Megahertz clock(ComputationId i) const {
    return problem_.options(i)[choice_[i]].clock.value_or(core::Megahertz());
  }

  /// One reconfiguration. False: the critical path is at its fastest.
  bool raise_critical_path() {
    evaluator_.makespan(choice_);
    std::vector<ComputationId> path = evaluator_.critical_path();
    // The envelope is at its fastest from the start, so a path with nothing to raise covers both ways to end.
    std::erase_if(path, [this](ComputationId i) { return !can_rise(i); });
    if (path.empty()) return false;
    const core::Megahertz lowest =
        clock(*std::ranges::min_element(path, {}, [this](auto i) { return clock(i); }));
    for (const ComputationId i : path) {
      if (clock(i) != lowest) continue;
      ++step_[i];
      choice_[i] = steps(i)[step_[i]];
    }
    return true;
  }

  const Problem& problem_;
  Evaluator evaluator_;
  std::vector<bool> envelope_;
  std::vector<std::vector<std::uint32_t>> ladders_;  // of each option set
  std::vector<std::uint32_t> step_;                  // of each computation on its ladder
  core::Choice choice_;
};

}  // namespace

Baseline envpipe(const Problem& problem, const Counting& counting) {
  return evaluate(problem, "EnvPipe", Reconfiguration(problem).run(), counting);
}

}  // namespace perseus::baseline
