// SPDX-License-Identifier: Apache-2.0
//
// Time that passes only when somebody sleeps, and a world that changes with it.
//
//   ManualTime time([&](Seconds now) { gpu.set_energy(...); });
//   time.sleep(Seconds{0.5});   // returns at once, half a second later
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include "perseus/core/units.h"
#include "perseus/gpu/time_source.h"

namespace perseus::tests {

/// Begins at 1000 s. Thread-safe; `world` is called by whoever sleeps, without a lock held.
class ManualTime final : public gpu::TimeSource {
 public:
  ManualTime() = default;
  explicit ManualTime(std::function<void(core::Seconds now)> world) : world_(std::move(world)) {}

  core::Seconds now() override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  void sleep(core::Seconds duration) override {
    core::Seconds now;
    {
      const std::lock_guard lock(mutex_);
      now = now_ += duration;
    }
    if (world_) world_(now);
  }

 private:
  std::mutex mutex_;
  core::Seconds now_{1000};
  std::function<void(core::Seconds)> world_;
};

}  // namespace perseus::tests
