// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/evaluator.h"

#include <algorithm>

namespace perseus::baseline {

using core::ComputationId;
using core::ExactTime;

Evaluator::Evaluator(const core::Problem& problem)
    : problem_(problem),
      first_input_(problem.size() + 1, 0),
      set_of_(problem.size()),
      time_(problem.option_set_count()),
      duration_(problem.size()),
      start_(problem.size()),
      end_(problem.size()) {
  const auto edges = problem.pipeline().edges();
  for (const core::Edge& e : edges) ++first_input_[e.to + 1];
  for (ComputationId i = 0; i < problem.size(); ++i) first_input_[i + 1] += first_input_[i];
  inputs_.resize(edges.size());
  std::vector<std::uint32_t> next(first_input_.begin(), first_input_.end() - 1);
  for (const bool cross_rank : {false, true}) {
    for (core::EdgeId e = 0; e < edges.size(); ++e) {
      if (edges[e].cross_rank != cross_rank) continue;
      inputs_[next[edges[e].to]++] = {edges[e].from, ExactTime(problem.lag(e))};
    }
  }
  for (std::uint32_t set = 0; set < time_.size(); ++set) {
    for (const core::Option& o : problem.option_set(set)) time_[set].emplace_back(o.time);
  }
  for (ComputationId i = 0; i < problem.size(); ++i) set_of_[i] = problem.option_set_of(i);
}

ExactTime Evaluator::makespan(const core::Choice& choice) {
  for (ComputationId i = 0; i < duration_.size(); ++i) duration_[i] = time_[set_of_[i]][choice[i]];
  return run();
}

ExactTime Evaluator::makespan_of_sets(std::span<const std::uint32_t> option_of_set) {
  for (ComputationId i = 0; i < duration_.size(); ++i) {
    duration_[i] = time_[set_of_[i]][option_of_set[set_of_[i]]];
  }
  return run();
}

ExactTime Evaluator::run() {
  ExactTime last;
  for (const ComputationId i : problem_.pipeline().topological_order()) {
    ExactTime start;
    for (const Input& input : inputs(i)) start = std::max(start, end_[input.from] + input.lag);
    start_[i] = start;
    end_[i] = start + duration_[i];
    last = std::max(last, end_[i]);
  }
  return last;
}

std::vector<ComputationId> Evaluator::critical_path() const {
  auto at = static_cast<ComputationId>(std::ranges::max_element(end_) - end_.begin());
  std::vector<ComputationId> path{at};
  while (start_[at] > ExactTime()) {
    for (const Input& input : inputs(at)) {
      if (end_[input.from] + input.lag != start_[at]) continue;
      at = input.from;
      break;
    }
    path.push_back(at);
  }
  return path;
}

}  // namespace perseus::baseline
