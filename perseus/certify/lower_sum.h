// SPDX-License-Identifier: Apache-2.0
//
// Sums that are rounded down for certain: a lower bound that came out too high by a rounding error would be a
// lie.
#pragma once

#include <cmath>
#include <limits>

namespace perseus::certify {

// 64 bits of fraction and an exponent range beyond that of doubles: x86-64's extended and AArch64's quadruple
// format.
static_assert(std::numeric_limits<long double>::digits >= 64 &&
              std::numeric_limits<long double>::max_exponent >= 16384);

/// Relative error of one rounded operation.
inline constexpr long double kUnitRoundoff = 0x1p-64L;

/// Adds up to 2^27 terms and tells a number that is never above the true sum.
///
/// Each term comes with a bound of its own error. The terms are added with compensation (Neumaier 1974),
/// whose error is at most u |S| + n^2 u^2 sum |x| with u = 2^-64, that is below 2^-64 |S| + 2^-74 sum |x| for
/// n <= 2^27; the sums of magnitudes and of errors are plain, with a relative error of n u <= 2^-37. Every
/// allowance below is at least twice its figure.
class LowerSum {
 public:
  /// Adds a term of which |true - term| <= error is known.
  void add(long double term, long double error) {
    const long double sum = sum_ + term;
    lost_ += std::abs(sum_) >= std::abs(term) ? (sum_ - sum) + term : (term - sum) + sum_;
    sum_ = sum;
    magnitude_ += std::abs(term);
    error_ += error;
  }
  /// Adds the product of two exact factors.
  void add_product(long double a, long double b) {
    const long double product = a * b;
    add(product, 2 * kUnitRoundoff * std::abs(product));
  }
  /// At most the true sum; below it by about 2^-62 of the sum, 2^-72 of all magnitudes and twice the terms'
  /// errors.
  [[nodiscard]] long double lower() const {
    const long double sum = sum_ + lost_;
    return sum - (4 * kUnitRoundoff * std::abs(sum) + 0x1p-72L * magnitude_ + 2 * error_);
  }

 private:
  long double sum_ = 0;
  long double lost_ = 0;
  long double magnitude_ = 0;
  long double error_ = 0;
};

/// The greatest double that is not above x (x finite and in the range of doubles).
inline double round_down(long double x) {
  const auto nearest = static_cast<double>(x);
  if (static_cast<long double>(nearest) <= x) return nearest;
  return std::nextafter(nearest, -std::numeric_limits<double>::infinity());
}

}  // namespace perseus::certify
