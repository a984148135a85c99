// SPDX-License-Identifier: Apache-2.0
//
// When to try again what has just failed: soon at first, then ever more seldom, never in step with others.
//
//   Backoff backoff({.first = 50ms, .most = 1s}, seed);
//   while (!try_it()) wait(backoff.next());
//   backoff.reset();
#pragma once

#include <cstdint>

#include "perseus/lease/clock.h"

namespace perseus::lease {

/// Doubling waits with jitter: the n-th lies in [w/2, w) with w = min(first * 2^n, most). Deterministic for a
/// seed. Not thread-safe.
class Backoff {
 public:
  struct Limits {
    Duration first = std::chrono::milliseconds(50);  ///< assumed: a driver call takes about that long
    Duration most = std::chrono::seconds(1);         ///< so that 3 s (I1) hold at least two tries
  };
  explicit Backoff(Limits limits, std::uint64_t seed = 0) : limits_(limits), state_(seed) {}

  /// The next wait.
  [[nodiscard]] Duration next();
  /// After a success.
  void reset() { tries_ = 0; }
  /// How often next() was called since the last reset().
  [[nodiscard]] std::uint32_t tries() const { return tries_; }

 private:
  Limits limits_;
  std::uint64_t state_;
  std::uint32_t tries_ = 0;
};

}  // namespace perseus::lease
