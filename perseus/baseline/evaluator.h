// SPDX-License-Identifier: Apache-2.0
//
// Longest paths of many choices of one problem, exactly: core::exact_timing() with everything that does not
// change laid out once. Used by this room's searches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/core/exact_time.h"
#include "perseus/core/problem.h"

namespace perseus::baseline {

/// One problem, many evaluations. Not thread-safe; must not outlive the problem.
class Evaluator {
 public:
  explicit Evaluator(const core::Problem& problem);

  /// Makespan of a choice for each computation.
  core::ExactTime makespan(const core::Choice& choice);
  /// Makespan when all computations with the same options take the same one: option_of_set[set].
  core::ExactTime makespan_of_sets(std::span<const std::uint32_t> option_of_set);

  /// Of the last evaluation.
  [[nodiscard]] core::ExactTime start(core::ComputationId i) const { return start_[i]; }
  [[nodiscard]] core::ExactTime end(core::ComputationId i) const { return end_[i]; }

  /// A longest path of the last evaluation, last computation first. Where several inputs arrive last, the
  /// path stays on the computation's own rank.
  [[nodiscard]] std::vector<core::ComputationId> critical_path() const;

 private:
  struct Input {
    core::ComputationId from = 0;
    core::ExactTime lag;
  };

  core::ExactTime run();
  [[nodiscard]] std::span<const Input> inputs(core::ComputationId i) const {
    return std::span(inputs_).subspan(first_input_[i], first_input_[i + 1] - first_input_[i]);
  }

  const core::Problem& problem_;
  std::vector<std::uint32_t> first_input_;  // of each computation, and the end
  std::vector<Input> inputs_;               // same-rank inputs first
  std::vector<std::uint32_t> set_of_;
  std::vector<std::vector<core::ExactTime>> time_;  // [set][option]
  std::vector<core::ExactTime> duration_, start_, end_;
};

}  // namespace perseus::baseline
