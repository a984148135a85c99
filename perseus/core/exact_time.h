// SPDX-License-Identifier: Apache-2.0
//
// Times without rounding. Every time of a profile is 0 or a double between 1e-9 s and 1e6 s (core/profile.h).
// 1e-9 lies in [2^-30, 2^-29), where the last of a double's 52 fraction bits is worth 2^-82 s, so every such
// time is a whole multiple of 2^-82 s. A path holds at most 2^24 computations of less than 2^20 s each: its
// length stays below 2^126 units. Sums of times are therefore exact in 128 bits, and "the plan ends by its
// target" is tested exactly.
#pragma once

#include <compare>

#include "perseus/core/units.h"

namespace perseus::core {

/// A time of at least 0 as a whole number of 2^-82 s. Sums and comparisons are exact.
class ExactTime {
 public:
  /// Beyond this, times are taken for this: longer than any path.
  static constexpr Seconds kLongest{0x1p44};

  constexpr ExactTime() = default;
  /// Exact for every double in {0} or [1e-9, 2^44] s. Smaller ones lose bits below 2^-82 s (towards 0), which
  /// no validated input has; longer ones, infinity among them, become kLongest; NaN becomes 0, for which no
  /// iteration is fast enough.
  explicit ExactTime(Seconds t);

  /// The least double that is not below this time: what is printed as T_min is accepted as a target again.
  [[nodiscard]] Seconds ceil_seconds() const;
  /// The nearest double.
  [[nodiscard]] Seconds nearest_seconds() const;

  ExactTime& operator+=(ExactTime other) { return units_ += other.units_, *this; }
  ExactTime& operator-=(ExactTime other) { return units_ -= other.units_, *this; }
  friend ExactTime operator+(ExactTime a, ExactTime b) { return a += b; }
  friend ExactTime operator-(ExactTime a, ExactTime b) { return a -= b; }
  friend constexpr auto operator<=>(const ExactTime&, const ExactTime&) = default;

 private:
  __extension__ typedef __int128 Units;
  Units units_ = 0;
};

}  // namespace perseus::core
