// SPDX-License-Identifier: Apache-2.0
//
// The time of this machine, injectable: all deadlines of leases, of the agent and of the guardian are
// reckoned with it, so that tests are exact and never sleep.
//
//   ManualTime time;                       // a test
//   time.advance(std::chrono::seconds(10));
//   if (time.now() >= deadline) ...
#pragma once

#include <atomic>
#include <chrono>

namespace perseus::lease {

/// A moment on CLOCK_MONOTONIC (which std::chrono::steady_clock is on Linux).
using Instant = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

/// Tells the time and lets it pass. Thread-safe.
class TimeSource {
 public:
  TimeSource() = default;
  TimeSource(const TimeSource&) = delete;
  TimeSource& operator=(const TimeSource&) = delete;
  virtual ~TimeSource() = default;
  [[nodiscard]] virtual Instant now() const = 0;
};

/// The machine's clock.
class SystemTime final : public TimeSource {
 public:
  [[nodiscard]] Instant now() const override { return std::chrono::steady_clock::now(); }
  /// One for the whole process.
  [[nodiscard]] static const SystemTime& instance();
};

/// A clock that stands still until it is moved; starts at a second after the epoch, so that 0 is the past.
class ManualTime final : public TimeSource {
 public:
  [[nodiscard]] Instant now() const override { return Instant(Duration(now_ns_.load())); }
  void advance(Duration by) { now_ns_.fetch_add(by.count()); }

 private:
  std::atomic<Duration::rep> now_ns_{1'000'000'000};
};

/// Nanoseconds as the mailbox holds them.
[[nodiscard]] inline std::uint64_t to_ns(Instant instant) {
  return static_cast<std::uint64_t>(instant.time_since_epoch().count());
}

}  // namespace perseus::lease
