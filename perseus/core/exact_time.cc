// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/exact_time.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace perseus::core {
namespace {

constexpr int kFractionBits = 82;
constexpr int kMantissaBits = std::numeric_limits<double>::digits;

}  // namespace

ExactTime::ExactTime(Seconds t) {
  if (std::isnan(t.value())) return;
  const double value = std::clamp(t.value(), -kLongest.value(), kLongest.value());
  int exponent = 0;
  const double fraction =
      std::frexp(value, &exponent);  // value = fraction * 2^exponent, |fraction| in [0.5, 1)
  const auto mantissa = static_cast<Units>(std::ldexp(fraction, kMantissaBits));
  const int shift = exponent - kMantissaBits + kFractionBits;
  if (shift >= 0) {
    units_ = mantissa << shift;
  } else if (shift > -kMantissaBits) {
    units_ = mantissa >> -shift;
  }
}

Seconds ExactTime::nearest_seconds() const {
  return Seconds(std::ldexp(static_cast<double>(units_), -kFractionBits));
}

Seconds ExactTime::ceil_seconds() const {
  const Seconds nearest = nearest_seconds();
  if (ExactTime(nearest) >= *this) return nearest;
  return Seconds(std::nextafter(nearest.value(), std::numeric_limits<double>::infinity()));
}

}  // namespace perseus::core
