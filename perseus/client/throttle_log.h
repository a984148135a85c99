// SPDX-License-Identifier: Apache-2.0
//
// When power or heat held the clock down, as samples of the clock's reasons tell.
//
//   ThrottleLog log;
//   log.add({.t_ns = 1'000, .throttled = true});
//   log.touches(begin_ns, end_ns);
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace perseus::client {

/// One look at the reasons (gpu::ClockReasons::throttled()).
struct ReasonSample {
  std::uint64_t t_ns = 0;
  bool throttled = false;
};

/// Not thread-safe. A sample speaks for the time since the one before. Samples come in their order.
class ThrottleLog {
 public:
  /// Stretches that are kept: the latest.
  static constexpr std::size_t kMost = 4096;

  void add(const ReasonSample& sample);
  /// Whether any part of [begin, end] was throttled, as far as is known by now.
  [[nodiscard]] bool touches(std::uint64_t begin_ns, std::uint64_t end_ns) const;
  /// Share of throttled samples since the last restart(); 0 without a sample. A single one is noise
  /// (RELIABILITY.md 6).
  [[nodiscard]] double share() const;
  void restart() { samples_ = throttled_ = 0; }

 private:
  struct Stretch {
    std::uint64_t begin_ns, end_ns;
  };
  std::deque<Stretch> stretches_;
  std::uint64_t last_ns_ = 0;
  bool last_throttled_ = false;
  std::uint64_t samples_ = 0;
  std::uint64_t throttled_ = 0;
};

}  // namespace perseus::client
