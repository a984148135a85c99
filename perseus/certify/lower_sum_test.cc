// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/lower_sum.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/property.h"

namespace perseus::certify {
namespace {

__extension__ typedef __int128 Wide;

TEST(LowerSum, EmptyIsExactlyZero) {
  EXPECT_EQ(LowerSum().lower(), 0);
}

TEST(LowerSum, IsNeverAboveTheExactSumAndClose) {
  tests::check_property([](std::uint64_t seed) {
    tests::SplitMix random(seed);
    // Whole multiples of 2^-60 below 2^40: the exact sum of a thousand fits 128 bits.
    Wide exact = 0;
    LowerSum sum;
    long double magnitude = 0;
    for (int k = 0; k < 1000; ++k) {
      const auto bits = static_cast<std::int64_t>(random.next()) >> random.below(40);
      const int shift = static_cast<int>(random.below(37));
      exact += static_cast<Wide>(bits) << shift;
      const long double term = std::ldexp(static_cast<long double>(bits), shift - 60);
      magnitude += std::abs(term);
      sum.add(term, 0);
    }
    const long double nearest = std::ldexp(static_cast<long double>(exact), -60);
    RC_ASSERT(sum.lower() <= nearest);
    RC_ASSERT(nearest - sum.lower() <= 0x1p-61L * std::abs(nearest) + 0x1p-71L * magnitude);
  });
}

TEST(LowerSum, ErrorsOfTermsAreTakenOff) {
  LowerSum sum;
  sum.add(3, 0.25);
  sum.add(-1, 0.5);
  EXPECT_LE(sum.lower(), 2 - 0.75);
  EXPECT_GE(sum.lower(), 2 - 2 * 0.75 - 1e-15);
}

TEST(LowerSum, KeepsWhatCancels) {
  LowerSum sum;
  sum.add(0x1p60L, 0);
  sum.add(0x1p-20L, 0);
  sum.add(-0x1p60L, 0);
  EXPECT_LE(sum.lower(), 0x1p-20L);
  EXPECT_GE(sum.lower(), 0x1p-20L - 0x1p-10L);  // 2^-72 of the magnitudes
}

TEST(RoundDown, GoesToTheDoubleBelow) {
  EXPECT_EQ(round_down(1.5L), 1.5);
  EXPECT_EQ(round_down(1 + 0x1p-60L), 1);
  EXPECT_EQ(round_down(1 - 0x1p-60L), 1 - 0x1p-53);
  EXPECT_EQ(round_down(-1 - 0x1p-60L), -1 - 0x1p-52);
  EXPECT_EQ(round_down(0x1p2000L), std::numeric_limits<double>::max());
}

}  // namespace
}  // namespace perseus::certify
