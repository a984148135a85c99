// SPDX-License-Identifier: Apache-2.0
//
// When a rank tries a server again: the n-th wait is drawn evenly from 0 to min(first x 2^n, most), so that
// ten thousand ranks that lost the same server at the same moment come back spread out.
// (lease::Backoff never waits less than half: right for one agent on one node, in step for a cluster.)
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>

namespace perseus::client {

/// Deterministic for a seed. Not thread-safe.
class FullJitter {
 public:
  using Duration = std::chrono::milliseconds;
  FullJitter(Duration first, Duration most, std::uint64_t seed) : first_(first), most_(most), random_(seed) {}

  /// The next wait.
  [[nodiscard]] Duration next() {
    Duration window = std::min(first_, most_);
    for (std::uint32_t i = 0; i < tries_ && window < most_; ++i) window = std::min(2 * window, most_);
    ++tries_;
    return between(Duration::zero(), window);
  }
  /// After a success.
  void reset() { tries_ = 0; }
  /// How often next() was called since the last reset().
  [[nodiscard]] std::uint32_t tries() const { return tries_; }
  /// A wait drawn evenly from `least` to `most`, both possible.
  [[nodiscard]] Duration between(Duration least, Duration most) {
    const auto span = static_cast<std::uint64_t>(std::max<Duration::rep>(0, (most - least).count()));
    return least + Duration(static_cast<Duration::rep>(random_() % (span + 1)));
  }

 private:
  Duration first_;
  Duration most_;
  std::mt19937_64 random_;
  std::uint32_t tries_ = 0;
};

}  // namespace perseus::client
