// SPDX-License-Identifier: Apache-2.0
//
// One change of a GPU's shared state, from lock to commit.
//
//   PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, DeviceAccess::begin(device, now));
//   access.state().lock_max_mhz = 900;
//   access.commit();  // or not: then nothing happened
#pragma once

#include <cstdint>
#include <memory>

#include "perseus/core/result.h"
#include "perseus/simgpu/layout.h"
#include "perseus/simgpu/physics.h"

namespace perseus::simgpu {

/// Holds the GPU's lock and a private copy of its state. A process that is killed meanwhile leaves the shared
/// state as it was, and the next one gets the lock.
class DeviceAccess {
 public:
  /// kTimeout if another process holds the lock for 5 s: it was stopped at the wrong moment.
  [[nodiscard]] static core::Result<DeviceAccess> begin(DeviceShared& device);

  [[nodiscard]] DeviceState& state() { return *state_; }
  [[nodiscard]] const GpuConstants& constants() const { return lock_->constants; }
  [[nodiscard]] Works works() const { return Works(lock_->works); }
  [[nodiscard]] DeviceShared& shared() const { return *lock_; }

  /// The moment (simulated) at which this change happens: after the lock was taken, so that moments follow
  /// one another as changes do. Set by who knows the node's clock.
  [[nodiscard]] std::int64_t now_ns() const { return now_ns_; }
  void set_now(std::int64_t now_ns) { now_ns_ = now_ns; }

  /// The state takes effect for everybody, and who waits for a change wakes up.
  void commit();
  /// The same without waking anybody: nothing that they wait for has changed.
  void commit_quietly();

 private:
  struct Unlock {
    void operator()(DeviceShared* device) const;
  };
  explicit DeviceAccess(DeviceShared& device);

  std::unique_ptr<DeviceShared, Unlock> lock_;
  std::unique_ptr<DeviceState> state_;
  std::int64_t now_ns_ = 0;
};

/// Sleeps until `device`'s event count is no longer `seen`, at most `limit_ns` real nanoseconds; may wake
/// early.
void wait_for_event(DeviceShared& device, std::uint32_t seen, std::int64_t limit_ns);
/// Wakes all who wait.
void announce_event(DeviceShared& device);

/// CLOCK_MONOTONIC in nanoseconds.
[[nodiscard]] std::int64_t real_now_ns();

}  // namespace perseus::simgpu
