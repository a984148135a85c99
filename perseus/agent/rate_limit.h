// SPDX-License-Identifier: Apache-2.0
//
// How many requests one peer may make: a bucket that fills at a steady rate.
//
//   TokenBucket bucket(50, now);          // 50 a second, as many at once after a second of rest
//   if (!bucket.take(now)) wait_until(bucket.next(now));
#pragma once

#include <algorithm>
#include <cstdint>

#include "perseus/lease/clock.h"

namespace perseus::agent {

/// Pure: time is an argument. Counts in units of time, so it neither drifts nor rounds. Not thread-safe.
class TokenBucket {
 public:
  /// `per_second` from 1 to 10^9; the bucket starts full and holds `per_second` tokens.
  TokenBucket(std::uint32_t per_second, lease::Instant now)
      : cost_(std::chrono::nanoseconds(std::chrono::seconds(1)) / per_second),
        depth_(cost_ * per_second),
        empty_at_(now - depth_) {}

  /// Takes a token if there is one.
  [[nodiscard]] bool take(lease::Instant now) {
    empty_at_ = std::max(empty_at_, now - depth_);
    if (empty_at_ + cost_ > now) return false;
    empty_at_ += cost_;
    return true;
  }
  /// When the next token will be there; `now` or earlier if one is.
  [[nodiscard]] lease::Instant next() const { return empty_at_ + cost_; }

 private:
  lease::Duration cost_;   ///< time in which one token comes
  lease::Duration depth_;  ///< time in which an empty bucket fills
  /// The moment at which the bucket would have been empty had it filled steadily since: the time from then to
  /// now is what is in it.
  lease::Instant empty_at_;
};

}  // namespace perseus::agent
