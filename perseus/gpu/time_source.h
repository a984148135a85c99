// SPDX-License-Identifier: Apache-2.0
//
// The clock of what measures devices, so that its tests need none.
//
//   TimeSource& time = steady_time();
//   const core::Seconds begin = time.now();
//   time.sleep(core::Seconds{0.001});
#pragma once

#include "perseus/core/units.h"

namespace perseus::gpu {

/// A clock that does not go back, and the wait that belongs to it. Functions may be called by several
/// threads.
class TimeSource {
 public:
  TimeSource() = default;
  TimeSource(const TimeSource&) = delete;
  TimeSource& operator=(const TimeSource&) = delete;
  virtual ~TimeSource() = default;

  /// Since an arbitrary moment.
  [[nodiscard]] virtual core::Seconds now() = 0;
  /// Returns at the earliest after `duration`.
  virtual void sleep(core::Seconds duration) = 0;
};

/// std::chrono::steady_clock and std::this_thread. Thread-safe.
[[nodiscard]] TimeSource& steady_time();

}  // namespace perseus::gpu
