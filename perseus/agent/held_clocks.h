// SPDX-License-Identifier: Apache-2.0
//
// What a GPU was held at lately: written by its clock thread, read by the thread that takes its readings, and
// neither ever waits for the other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "perseus/agent/writer_watch.h"
#include "perseus/core/units.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// The last changes of one GPU. put() belongs to one thread at a time, range() to any.
class HeldClocks {
 public:
  /// Changes that are kept. More than this within the settle time: range() has no answer. 256: at the default
  /// limit of 200 changes a second, 1.28 s.
  static constexpr std::size_t kKept = 256;

  /// The driver said yes at `at`. Absent: the baseline. A clock that is in force already is no change.
  void put(std::optional<core::Megahertz> clock, lease::Instant at);
  /// Clocks in force in the window [at - settle, at]. Absent: the baseline was among them, or changes came
  /// too fast to know.
  [[nodiscard]] std::optional<HeldRange> range(lease::Instant at, lease::Duration settle) const;
  /// Counts the changes; equal before and after a reading means that none fell into it.
  [[nodiscard]] std::uint64_t changes() const { return count_.load(std::memory_order_acquire); }

  /// A driver call took `time`. By the thread that puts.
  void add_call(lease::Duration time) { called_ns_.fetch_add(time.count(), std::memory_order_relaxed); }
  /// Time spent in driver calls for requests.
  [[nodiscard]] lease::Duration call_time() const {
    return lease::Duration(called_ns_.load(std::memory_order_relaxed));
  }

 private:
  /// Microseconds since boot in the upper 48 bits (8.9 years), MHz in the lower 16; 0 MHz: the baseline.
  std::array<std::atomic<std::uint64_t>, kKept> ring_{};
  std::atomic<std::uint64_t> count_{0};
  std::atomic<lease::Duration::rep> called_ns_{0};
};

}  // namespace perseus::agent
