// SPDX-License-Identifier: Apache-2.0
//
// Hands plans from the link's thread to the hooks' at step boundaries, and gives them back to be freed by
// somebody who has time.
//
//   plans.offer(std::move(table));                 // link's thread
//   PlanTable* now = plans.at_step(step);          // hooks' thread, at each step's beginning
//   auto freed = plans.collect();                  // native thread
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "perseus/client/plan_table.h"

namespace perseus::client {

/// A flag guards the list of what waits: it is held for some moves of pointers, never while anything is
/// built, freed or waited for. The hooks' thread only tries it; if it is taken just then, the plan is taken a
/// step later (fault table, row 17: a late rank stays on the old plan).
class PlanSwitch {
 public:
  /// Generations that may wait for their step; of more, the oldest is skipped. Assumed: a server agrees on
  /// one at a time.
  static constexpr std::size_t kMostWaiting = 8;
  static constexpr std::size_t kMostRetired = 16;

  PlanSwitch() = default;
  PlanSwitch(const PlanSwitch&) = delete;
  PlanSwitch& operator=(const PlanSwitch&) = delete;
  ~PlanSwitch() = default;

  /// A plan with an agreed step. What is offered later is newer.
  void offer(std::unique_ptr<PlanTable> table);
  /// The plan to run from `step` on: the newest that is due, else the one before; nullptr: none yet. What it
  /// replaces stays alive until collect().
  PlanTable* at_step(std::uint64_t step) {
    if (waiting_count_.load(std::memory_order_relaxed) != 0) take_due(step);
    return current_.get();
  }
  /// How often at_step() has changed the plan.
  [[nodiscard]] std::uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }
  /// Plans that nobody runs any more, for the caller to free once nothing of his refers to them.
  [[nodiscard]] std::vector<std::unique_ptr<PlanTable>> collect();

 private:
  void take_due(std::uint64_t step);
  [[nodiscard]] bool try_lock() { return !locked_.exchange(true, std::memory_order_acquire); }
  void lock();
  void unlock() { locked_.store(false, std::memory_order_release); }

  std::unique_ptr<PlanTable> current_;  ///< of the hooks' thread
  std::atomic<std::uint64_t> taken_{0};

  std::atomic<bool> locked_{false};
  std::atomic<std::uint32_t> waiting_count_{0};
  // Under the flag.
  std::array<std::unique_ptr<PlanTable>, kMostWaiting> waiting_;  ///< oldest first, without gaps
  std::array<std::unique_ptr<PlanTable>, kMostRetired> retired_;
  std::uint32_t retired_count_ = 0;
};

}  // namespace perseus::client
