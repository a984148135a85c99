// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/exact_time.h"

#include <gtest/gtest.h>

#include <boost/multiprecision/cpp_int.hpp>
#include <cmath>
#include <limits>

#include "perseus/core/profile.h"
#include "tests/support/property.h"

namespace perseus::core {
namespace {

using BigInt = boost::multiprecision::cpp_int;

constexpr int kBits = 1100;  // below the last bit of any double

/// A double as a whole number of 2^-1100.
BigInt big(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  const BigInt mantissa(static_cast<std::int64_t>(std::ldexp(fraction, 53)));
  return mantissa << (exponent - 53 + kBits);
}

/// A random time of a profile, all magnitudes alike likely.
double random_time(tests::SplitMix& random) {
  const double t = std::pow(10.0, random.uniform(-9, 6)) * random.uniform(0.1, 1);
  return std::min(std::max(t, kMinTime.value()), kMaxTime.value());
}

TEST(ExactTime, SumsAndDifferencesEqualBigIntegers) {
  tests::check_property([](std::uint64_t seed) {
    tests::SplitMix random(seed);
    ExactTime sum;
    BigInt expected = 0;
    for (int k = 0; k < 200; ++k) {
      const double t = random_time(random);
      sum += ExactTime(Seconds(t));
      expected += big(t);
      if (k % 3 != 0) continue;
      const double less = random_time(random);
      sum -= ExactTime(Seconds(less));
      expected -= big(less);
    }
    // Rounded up: at least the sum, and the double before is less.
    const double up = sum.ceil_seconds().value();
    RC_ASSERT(big(up) >= expected);
    RC_ASSERT(big(std::nextafter(up, -1e300)) < expected);
    RC_ASSERT(abs(big(sum.nearest_seconds().value()) - expected) <=
              abs(big(std::nextafter(up, -1e300)) - expected));
  });
}

TEST(ExactTime, OrderIsThatOfBigIntegers) {
  tests::check_property([](std::uint64_t seed) {
    tests::SplitMix random(seed);
    const double a = random_time(random);
    const double b = random_time(random);
    const double c = random.chance(0.5) ? std::nextafter(a, 1e9) : random_time(random);
    const ExactTime left = ExactTime(Seconds(a)) + ExactTime(Seconds(b));
    const ExactTime right = ExactTime(Seconds(c)) + ExactTime(Seconds(b));
    RC_ASSERT((left < right) == (big(a) + big(b) < big(c) + big(b)));
    RC_ASSERT((left == right) == (a == c));
  });
}

TEST(ExactTime, EveryDoubleInRangeComesBack) {
  tests::check_property([](std::uint64_t seed) {
    tests::SplitMix random(seed);
    const double t = random_time(random);
    RC_ASSERT(ExactTime(Seconds(t)).nearest_seconds() == Seconds(t));
    RC_ASSERT(ExactTime(Seconds(t)).ceil_seconds() == Seconds(t));
  });
  for (const double t : {0.0, 1e-9, std::nextafter(1e-9, 1), 1e6, std::nextafter(1e6, 0), 1.6e13, 0x1p44}) {
    EXPECT_EQ(ExactTime(Seconds(t)).ceil_seconds(), Seconds(t));
  }
}

TEST(ExactTime, TheLongestPathFits) {
  // 2^24 computations of the longest time: doubled 24 times.
  ExactTime path{kMaxTime};
  for (int k = 0; k < 24; ++k) path += path;
  EXPECT_EQ(path.nearest_seconds(), Seconds(1e6 * 0x1p24));
  EXPECT_GT(path + ExactTime(kMinTime), path);
}

TEST(ExactTime, OneUnitIsEnoughToBeLate) {
  const ExactTime third =
      ExactTime(Seconds(0.1)) + ExactTime(Seconds(0.2));  // above the double 0.3, below the next
  EXPECT_GT(third, ExactTime(Seconds(0.3)));
  EXPECT_EQ(third.ceil_seconds(), Seconds(std::nextafter(0.3, 1)));
}

TEST(ExactTime, TakesWhatIsNoTimeOfAProfile) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(ExactTime(Seconds(infinity)), ExactTime(ExactTime::kLongest));
  EXPECT_EQ(ExactTime(Seconds(1e300)), ExactTime(ExactTime::kLongest));
  EXPECT_EQ(ExactTime(Seconds(-infinity)), ExactTime() - ExactTime(ExactTime::kLongest));
  EXPECT_EQ(ExactTime(Seconds(std::nan(""))), ExactTime());
  EXPECT_EQ(ExactTime(Seconds(1e-40)), ExactTime());
  EXPECT_EQ(ExactTime(Seconds(std::numeric_limits<double>::denorm_min())), ExactTime());
}

}  // namespace
}  // namespace perseus::core
