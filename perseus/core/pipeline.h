// SPDX-License-Identifier: Apache-2.0
//
// The pipeline as a DAG of computations (DESIGN: one iteration). Built from per-rank orders; refuses any
// schedule that could not run.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto pipeline, Pipeline::build(std::move(schedule)));
//   for (ComputationId i : pipeline.topological_order()) ...
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"

namespace perseus::core {

/// Index of a computation: ranks in order, on each rank in order of execution. 0 .. size()-1.
using ComputationId = std::uint32_t;
/// Index of an edge in Pipeline::edges().
using EdgeId = std::uint32_t;

/// `to` starts no earlier than `from` ends (plus the edge's lag, which the Problem holds).
struct Edge {
  ComputationId from = 0;
  ComputationId to = 0;
  bool cross_rank = false;  ///< a transfer between ranks, which may have a lag; false: the rank's own order
};

/// Immutable DAG of one iteration. Edges are the ranks' own orders and the data dependencies between ranks;
/// dependencies within one rank are implied by its order and were checked against it. Thread-safe to read.
class Pipeline {
 public:
  /// Builds and validates. Refused with the computation's name (ErrorCode::kInvalidInput): no rank or an
  /// empty one, a stage or microbatch out of range, a stage on two ranks, a computation that is missing,
  /// repeated or before its own input on its rank, a mixture of B and I/W for one (stage, microbatch), a
  /// deadlock. More than kMaxComputations: ErrorCode::kLimit. The `I` of stage 0 may be absent (it does
  /// nothing).
  static Result<Pipeline> build(Schedule schedule);

  [[nodiscard]] const Schedule& schedule() const { return schedule_; }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(rank_of_.size()); }
  [[nodiscard]] const Computation& computation(ComputationId i) const {
    return schedule_.ranks[rank_of_[i]][i - first_of_rank_[rank_of_[i]]];
  }
  [[nodiscard]] std::uint32_t rank_of(ComputationId i) const { return rank_of_[i]; }
  /// The ids on rank r are first_of_rank(r) .. first_of_rank(r + 1) - 1.
  [[nodiscard]] ComputationId first_of_rank(std::uint32_t r) const { return first_of_rank_[r]; }
  /// Sorted by (from, to), no two alike. Rank-order edges first among equals never happens: a pair has one
  /// edge.
  [[nodiscard]] std::span<const Edge> edges() const { return edges_; }
  /// Edges that leave computation i, as ids first_out(i) .. first_out(i + 1) - 1.
  [[nodiscard]] EdgeId first_out(ComputationId i) const { return first_out_[i]; }
  /// All computations, each after everything it waits for.
  [[nodiscard]] std::span<const ComputationId> topological_order() const { return topological_order_; }
  /// "3B5 on rank 3", for messages.
  [[nodiscard]] std::string name(ComputationId i) const;

 private:
  Pipeline() = default;
  Schedule schedule_;
  std::vector<std::uint32_t> rank_of_;
  std::vector<ComputationId> first_of_rank_;
  std::vector<Edge> edges_;
  std::vector<EdgeId> first_out_;
  std::vector<ComputationId> topological_order_;
};

}  // namespace perseus::core
