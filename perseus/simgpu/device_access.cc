// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/device_access.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>

namespace perseus::simgpu {
namespace {

// Changes take microseconds; who holds the lock for longer was stopped. Assumed.
constexpr std::int64_t kLockLimitNs = 5'000'000'000;

timespec time_spec(std::int64_t ns) {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

/// The futex system call has no wrapper in the C library.
void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* limit) {
  ::syscall(SYS_futex, &word, operation, value, limit, nullptr, 0);
}

}  // namespace

std::int64_t real_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void DeviceAccess::Unlock::operator()(DeviceShared* device) const {
  ::pthread_mutex_unlock(&device->mutex);
}

DeviceAccess::DeviceAccess(DeviceShared& device)
    : lock_(&device),
      state_(
          std::make_unique<DeviceState>(device.states[device.active.load(std::memory_order_acquire) & 1U])) {}

core::Result<DeviceAccess> DeviceAccess::begin(DeviceShared& device) {
  int error = ::pthread_mutex_trylock(&device.mutex);
  if (error == EBUSY) {
    const timespec limit = time_spec(real_now_ns() + kLockLimitNs);
    error = ::pthread_mutex_clocklock(&device.mutex, CLOCK_MONOTONIC, &limit);
  }
  // Its owner died. The state in use is whole all the same: see layout.h.
  if (error == EOWNERDEAD) error = ::pthread_mutex_consistent(&device.mutex);
  if (error == ETIMEDOUT) {
    return core::fail(core::ErrorCode::kTimeout,
                      "another process has held the simulated GPU's lock for 5 s; it was stopped");
  }
  if (error != 0) return core::fail(core::ErrorCode::kInternal, "the simulated GPU's lock is damaged");
  return DeviceAccess(device);
}

void DeviceAccess::commit_quietly() {
  const std::uint32_t next = 1 - (lock_->active.load(std::memory_order_relaxed) & 1U);
  lock_->states[next] = *state_;
  lock_->active.store(next, std::memory_order_release);
}

void DeviceAccess::commit() {
  commit_quietly();
  announce_event(*lock_);
}

void wait_for_event(DeviceShared& device, std::uint32_t seen, std::int64_t limit_ns) {
  if (limit_ns <= 0) return;
  const timespec limit = time_spec(limit_ns);
  futex(device.event, FUTEX_WAIT, seen, &limit);
}

void announce_event(DeviceShared& device) {
  device.event.fetch_add(1, std::memory_order_release);
  futex(device.event, FUTEX_WAKE, INT_MAX, nullptr);
}

}  // namespace perseus::simgpu
