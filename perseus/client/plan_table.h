// SPDX-License-Identifier: Apache-2.0
//
// A plan as the hot path looks it up: (kind, stage, microbatch) to clock in two loads, without hashing.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto table, PlanTable::build(plan));
//   const PlanTable::Hit hit = table->find(core::Kind::kForward, 0, 3, window);
//   if (hit.found()) ...hit.mhz...;
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "perseus/client/rank_plan.h"
#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"

namespace perseus::client {

/// Kinds that hooks can name (perseus_kind): forward to recompute.
inline constexpr std::uint32_t kHookKinds = 6;

/// Built off the hot path. Constant but for `seen`, which belongs to the thread of the hooks.
class PlanTable {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  /// Most rows (kind and stage) and cells (kind, stage and microbatch, gaps included): as many computations
  /// as a job may have (DESIGN.md 6), so 192 MiB at the very most. A real plan fills its cells.
  static constexpr std::uint64_t kMostCells = std::uint64_t{1} << 24U;

  /// What the plan says of one computation.
  struct Hit {
    std::uint32_t slot = kNone;  ///< index of its PlannedOperation, or of its kind and stage in a sweep
    std::uint32_t mhz = 0;       ///< 0: its clock does not matter
    [[nodiscard]] bool found() const { return slot != kNone; }
  };
  /// A kind and stage of the plan.
  struct Row {
    core::Kind kind = core::Kind::kForward;
    std::uint32_t stage = 0;
  };

  /// kLimit: more than kMostCells; kInvalidInput: the same computation twice, a window without steps or with
  /// as many to skip, a clock of 0.
  [[nodiscard]] static core::Result<std::unique_ptr<PlanTable>> build(std::shared_ptr<const RankPlan> plan);

  [[nodiscard]] const RankPlan& plan() const { return *plan_; }
  [[nodiscard]] std::shared_ptr<const RankPlan> share() const { return plan_; }
  /// Different for each table of this process, also when one lies where another has lain.
  [[nodiscard]] std::uint64_t serial() const { return serial_; }
  [[nodiscard]] bool sweep() const { return !plan_->windows.empty(); }
  /// Whether there is nothing to look up at all.
  [[nodiscard]] bool baseline() const { return plan_->baseline || (plan_->operations.empty() && !sweep()); }
  /// Computations that are missed when they do not happen: those that hooks can announce, without the I of
  /// stage 0. 0 in a sweep.
  [[nodiscard]] std::uint32_t expected() const { return expected_; }

  /// The window that `step` belongs to; kNone outside of all of them, and for a plan that is no sweep.
  [[nodiscard]] std::uint32_t window_of(std::uint64_t step) const;
  /// First step of a window.
  [[nodiscard]] std::uint64_t first_step(std::uint32_t window) const { return window_begin_[window]; }

  /// Hot. `window` as window_of() gave it.
  [[nodiscard]] Hit find(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch,
                         std::uint32_t window) const {
    const std::uint32_t row = find_row(kind, stage);
    if (row == kNone) return {};
    if (window != kNone) {
      const std::uint32_t mhz = window_mhz_[static_cast<std::size_t>(window) * rows_.size() + row];
      return mhz == 0 ? Hit{} : Hit{row, mhz};
    }
    const Span span = spans_[row];
    return microbatch < span.microbatches ? cells_[span.first + microbatch] : Hit{};
  }
  [[nodiscard]] std::uint32_t find_row(core::Kind kind, std::uint32_t stage) const {
    const auto k = static_cast<std::uint32_t>(kind);
    const std::uint32_t column = stage - first_stage_;  // wraps for a stage below
    return k < kHookKinds && column < stages_ ? row_of_[k * stages_ + column] : kNone;
  }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  /// From the profile; 0 in a sweep.
  [[nodiscard]] core::Seconds expected_time(std::uint32_t slot) const {
    return sweep() ? core::Seconds(0) : plan_->operations[slot].expected_time;
  }

  /// By slot: the tag of the step in which it was seen last. Of the hooks' thread.
  std::vector<std::uint32_t> seen;

 private:
  struct Span {
    std::uint32_t first = 0;
    std::uint32_t microbatches = 0;
  };
  explicit PlanTable(std::shared_ptr<const RankPlan> plan);
  core::Status lay_out_rows();
  core::Status fill_operations();
  core::Status fill_windows();

  std::shared_ptr<const RankPlan> plan_;
  std::uint64_t serial_;
  std::uint32_t first_stage_ = 0;
  std::uint32_t stages_ = 0;           ///< from the first to the last that the plan has
  std::vector<std::uint32_t> row_of_;  ///< by kind and stage - first_stage_
  std::vector<Row> rows_;
  std::vector<Span> spans_;  ///< by row
  std::vector<Hit> cells_;
  std::vector<std::uint32_t> window_mhz_;  ///< by window and row; 0: the window does not have it
  std::vector<std::uint64_t> window_begin_;
  std::uint32_t expected_ = 0;
};

}  // namespace perseus::client
