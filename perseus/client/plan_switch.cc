// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/plan_switch.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace perseus::client {

void PlanSwitch::lock() {
  while (!try_lock()) ::sched_yield();
}

void PlanSwitch::offer(std::unique_ptr<PlanTable> table) {
  std::unique_ptr<PlanTable> skipped;  // freed after the flag is let go
  lock();
  std::uint32_t count = waiting_count_.load(std::memory_order_relaxed);
  if (count == kMostWaiting) {
    skipped = std::move(waiting_[0]);
    std::move(waiting_.begin() + 1, waiting_.end(), waiting_.begin());
    --count;
  }
  waiting_[count] = std::move(table);
  waiting_count_.store(count + 1, std::memory_order_relaxed);
  unlock();
}

void PlanSwitch::take_due(std::uint64_t step) {
  if (!try_lock()) return;
  const std::uint32_t count = waiting_count_.load(std::memory_order_relaxed);
  std::uint32_t due = count;  // the newest that is due
  for (std::uint32_t i = 0; i < count; ++i) {
    if (waiting_[i]->plan().from_step.value_or(0) <= step) due = i;
  }
  // The plan that runs and all that are older than the new one retire; without room for them nothing changes.
  if (due != count && retired_count_ + due + 1 <= kMostRetired) {
    if (current_) retired_[retired_count_++] = std::move(current_);
    for (std::uint32_t i = 0; i < due; ++i) retired_[retired_count_++] = std::move(waiting_[i]);
    current_ = std::move(waiting_[due]);
    std::move(waiting_.begin() + due + 1, waiting_.begin() + count, waiting_.begin());
    waiting_count_.store(count - due - 1, std::memory_order_relaxed);
    taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  unlock();
}

std::vector<std::unique_ptr<PlanTable>> PlanSwitch::collect() {
  std::vector<std::unique_ptr<PlanTable>> out;
  out.reserve(kMostRetired);
  lock();
  for (std::uint32_t i = 0; i < retired_count_; ++i) out.push_back(std::move(retired_[i]));
  retired_count_ = 0;
  unlock();
  return out;
}

}  // namespace perseus::client
