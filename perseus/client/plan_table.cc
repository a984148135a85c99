// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/plan_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace perseus::client {
namespace {

using core::ErrorCode;

/// Calls `use(kind, stage)` for everything in the plan that hooks can announce.
template <class Use>
void each_kind(const RankPlan& plan, Use&& use) {
  for (const PlannedOperation& operation : plan.operations) {
    const core::Computation& c = operation.computation;
    if (static_cast<std::uint32_t>(c.kind) < kHookKinds) use(c.kind, c.stage);
  }
  for (const ProfileWindow& window : plan.windows) {
    for (const KindClock& clock : window.clocks) {
      if (static_cast<std::uint32_t>(clock.kind) < kHookKinds) use(clock.kind, clock.stage);
    }
  }
}

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

PlanTable::PlanTable(std::shared_ptr<const RankPlan> plan) : plan_(std::move(plan)), serial_(next_serial()) {}

core::Result<std::unique_ptr<PlanTable>> PlanTable::build(std::shared_ptr<const RankPlan> plan) {
  std::unique_ptr<PlanTable> out(new PlanTable(std::move(plan)));
  PERSEUS_RETURN_IF_ERROR(out->lay_out_rows());
  if (out->sweep()) {
    PERSEUS_RETURN_IF_ERROR(out->fill_windows());
  } else {
    PERSEUS_RETURN_IF_ERROR(out->fill_operations());
  }
  return out;
}

core::Status PlanTable::lay_out_rows() {
  std::uint32_t low = kNone;
  std::uint32_t high = 0;
  each_kind(*plan_, [&](core::Kind, std::uint32_t stage) {
    low = std::min(low, stage);
    high = std::max(high, stage);
  });
  if (low > high) return {};
  const std::uint64_t span = std::uint64_t{high} - low + 1;
  if (span * kHookKinds > kMostCells) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("a rank's plan goes from stage {} to {}; at most {} of them", low, high,
                                  kMostCells / kHookKinds));
  }
  first_stage_ = low;
  stages_ = static_cast<std::uint32_t>(span);
  row_of_.assign(std::size_t{kHookKinds} * stages_, kNone);
  each_kind(*plan_, [&](core::Kind kind, std::uint32_t stage) {
    std::uint32_t& row = row_of_[static_cast<std::size_t>(kind) * stages_ + (stage - first_stage_)];
    if (row != kNone) return;
    row = static_cast<std::uint32_t>(rows_.size());
    rows_.push_back({kind, stage});
  });
  return {};
}

core::Status PlanTable::fill_operations() {
  spans_.assign(rows_.size(), {});
  for (const PlannedOperation& operation : plan_->operations) {
    const core::Computation& c = operation.computation;
    const std::uint32_t row = find_row(c.kind, c.stage);
    if (row == kNone) continue;
    if (c.microbatch >= kMostCells) {
      return core::fail(ErrorCode::kLimit, fmt::format("a plan with microbatch {}; they are below {}",
                                                       c.microbatch, kMostCells));
    }
    spans_[row].microbatches = std::max(spans_[row].microbatches, c.microbatch + 1);
  }
  std::uint64_t cells = 0;
  for (Span& span : spans_) {
    span.first = static_cast<std::uint32_t>(cells);
    cells += span.microbatches;
    if (cells > kMostCells) {
      return core::fail(ErrorCode::kLimit,
                        fmt::format("a rank's plan spans more than {} computations", kMostCells));
    }
  }
  cells_.assign(cells, {});
  seen.assign(plan_->operations.size(), 0);
  for (std::size_t slot = 0; slot < plan_->operations.size(); ++slot) {
    const PlannedOperation& operation = plan_->operations[slot];
    const core::Computation& c = operation.computation;
    const std::uint32_t row = find_row(c.kind, c.stage);
    if (row == kNone) continue;
    Hit& cell = cells_[spans_[row].first + c.microbatch];
    if (cell.found()) {
      return core::fail(ErrorCode::kInvalidInput, fmt::format("the plan has {}{} of microbatch {} twice",
                                                              core::letter(c.kind), c.stage, c.microbatch));
    }
    if (operation.clock && operation.clock->value() == 0) {
      return core::fail(ErrorCode::kInvalidInput, "the plan asks for a clock of 0 MHz");
    }
    cell = {static_cast<std::uint32_t>(slot), operation.clock ? operation.clock->value() : 0};
    // The gradient of the job's own input is nobody's: such rows may be absent (DESIGN.md 3).
    if (c.kind != core::Kind::kBackwardInput || c.stage != 0) ++expected_;
  }
  return {};
}

core::Status PlanTable::fill_windows() {
  window_mhz_.assign(plan_->windows.size() * rows_.size(), 0);
  std::uint64_t begin = plan_->from_step.value_or(0);
  for (std::size_t w = 0; w < plan_->windows.size(); ++w) {
    const ProfileWindow& window = plan_->windows[w];
    if (window.steps == 0 || window.skip >= window.steps) {
      return core::fail(
          ErrorCode::kInvalidInput,
          fmt::format("window {} of the sweep has {} steps and skips {}", w, window.steps, window.skip));
    }
    window_begin_.push_back(begin);
    begin += window.steps;
    for (const KindClock& clock : window.clocks) {
      const std::uint32_t row = find_row(clock.kind, clock.stage);
      if (row == kNone) continue;
      if (clock.clock.value() == 0) {
        return core::fail(ErrorCode::kInvalidInput, "the sweep asks for a clock of 0 MHz");
      }
      window_mhz_[w * rows_.size() + row] = clock.clock.value();
    }
  }
  window_begin_.push_back(begin);
  return {};
}

std::uint32_t PlanTable::window_of(std::uint64_t step) const {
  if (!sweep() || step < window_begin_.front() || step >= window_begin_.back()) return kNone;
  const auto after = std::upper_bound(window_begin_.begin(), window_begin_.end(), step);
  return static_cast<std::uint32_t>(after - window_begin_.begin() - 1);
}

}  // namespace perseus::client
