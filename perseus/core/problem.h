// SPDX-License-Identifier: Apache-2.0
//
// Everything that a planner may know: the DAG, the options of each computation, blocking power and lags. The
// solver, the checker, the baselines and the report all start from this and from nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "perseus/core/exact_time.h"
#include "perseus/core/pipeline.h"
#include "perseus/core/profile.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::core {

/// Degrees of parallelism beside the pipeline's own.
struct Parallel {
  std::uint32_t tensor = 1;  ///< GPUs per pipeline rank; every energy of a plan is times this
  std::uint32_t data = 1;    ///< pipelines; changes totals of the job only
};

/// The physical side of a Problem.
struct ProblemInputs {
  Profile profile;
  std::vector<Watts> blocking_power;  ///< per rank, per GPU, >= 0; size = pipeline degree
  Parallel parallel;
  Seconds p2p_lag;  ///< of every edge between ranks that `edge_lag` does not name; >= 0
  /// Lag of the transfers from one rank to another, overriding p2p_lag. Key: (from rank, to rank).
  std::map<std::pair<std::uint32_t, std::uint32_t>, Seconds> edge_lag;
};

/// Immutable, shared cheaply by copy, thread-safe to read.
class Problem {
 public:
  /// Resolves each computation to its options. An FB without rows of its own gets the sums of its parts at
  /// equal clock and knobs; the `I` of stage 0 without rows is empty (one option of 0 s and 0 J); the `W` of
  /// stage 0 without rows takes those of its `backward`. Refused (kInvalidInput): a computation without
  /// rows, a profile out of order or with a time or energy outside the bounds of core/profile.h, blocking
  /// power that is missing, negative, not finite or above kMaxPower, a lag that is neither 0 nor within
  /// kMinTime and kMaxTime or not between two ranks of the pipeline, a degree of 0.
  static Result<Problem> build(Pipeline pipeline, ProblemInputs inputs);

  [[nodiscard]] const Pipeline& pipeline() const { return data_->pipeline; }
  [[nodiscard]] std::uint32_t size() const { return data_->pipeline.size(); }
  [[nodiscard]] const Profile& profile() const { return data_->inputs.profile; }
  [[nodiscard]] const Parallel& parallel() const { return data_->inputs.parallel; }
  [[nodiscard]] const ProblemInputs& inputs() const { return data_->inputs; }

  /// Options of computation i, sorted as in ProfileEntry. Never empty.
  [[nodiscard]] std::span<const Option> options(ComputationId i) const {
    return data_->option_sets[data_->option_set_of[i]];
  }
  /// Computations with equal option_set_of() have the very same options; sets are numbered from 0.
  [[nodiscard]] std::uint32_t option_set_of(ComputationId i) const { return data_->option_set_of[i]; }
  [[nodiscard]] std::uint32_t option_set_count() const {
    return static_cast<std::uint32_t>(data_->option_sets.size());
  }
  [[nodiscard]] std::span<const Option> option_set(std::uint32_t set) const {
    return data_->option_sets[set];
  }

  /// Blocking power of one GPU of rank r.
  [[nodiscard]] Watts blocking_power(std::uint32_t rank) const { return data_->inputs.blocking_power[rank]; }
  /// Sum over the ranks, one GPU each: the slope F at which T* lies.
  [[nodiscard]] Watts total_blocking_power() const { return data_->total_blocking_power; }
  /// Lag of an edge; 0 for edges of a rank's own order.
  [[nodiscard]] Seconds lag(EdgeId e) const { return data_->lag.empty() ? Seconds(0) : data_->lag[e]; }
  /// Effective cost c = e - P_r t of one option, per GPU (DESIGN section 3).
  [[nodiscard]] Joules effective_cost(ComputationId i, const Option& option) const {
    return option.energy - blocking_power(pipeline().rank_of(i)) * option.time;
  }

 private:
  struct Data {
    Pipeline pipeline;
    ProblemInputs inputs;
    std::vector<std::vector<Option>> option_sets;
    std::vector<std::uint32_t> option_set_of;
    std::vector<Seconds> lag;  // per edge; empty if all are 0
    Watts total_blocking_power;
  };
  explicit Problem(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  std::shared_ptr<const Data> data_;
};

/// One option index per computation (into Problem::options).
using Choice = std::vector<std::uint32_t>;

/// Start of each computation when everything starts as early as it can, and the end of the last: exact.
struct ExactTiming {
  std::vector<ExactTime> start;
  ExactTime makespan;
};
/// Longest path of a choice in exact arithmetic. O(computations + edges). `choice` must be valid for
/// `problem`.
[[nodiscard]] ExactTiming exact_timing(const Problem& problem, const Choice& choice);

/// Per computation the index of its fastest option (least time, then least energy).
[[nodiscard]] Choice fastest_choice(const Problem& problem);

/// Energy of one pipeline with all its GPUs in an iteration that synchronises at `sync`:
/// tensor * (sum e_i + sum_r P_r (sync - sum t_i)) (DESIGN section 3).
[[nodiscard]] Joules pipeline_energy(const Problem& problem, const Choice& choice, Seconds sync);

}  // namespace perseus::core
