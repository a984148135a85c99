// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/units.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace perseus::core {
namespace {

TEST(Units, StartAtZeroAndKeepTheirValue) {
  EXPECT_EQ(Seconds().value(), 0);
  EXPECT_EQ(Joules(2.5).value(), 2.5);
  EXPECT_EQ(Megahertz(1410).value(), 1410u);
}

TEST(Units, AddAndScaleWithinOneUnit) {
  Seconds t(1.5);
  t += Seconds(0.5);
  t -= Seconds(1);
  EXPECT_EQ(t, Seconds(1));
  EXPECT_EQ(Joules(1) + Joules(2) - Joules(4), -Joules(1));
  EXPECT_EQ(2 * Watts(3), Watts(6));
  EXPECT_EQ(Watts(3) * 2, Watts(6));
  EXPECT_EQ(Watts(3) / 2, Watts(1.5));
}

TEST(Units, CombineAsPhysicsSays) {
  EXPECT_EQ(Watts(300) * Seconds(0.25), Joules(75));
  EXPECT_EQ(Seconds(0.25) * Watts(300), Joules(75));
  EXPECT_EQ(Joules(75) / Seconds(0.25), Watts(300));
  EXPECT_EQ(Seconds(3) / Seconds(2), 1.5);
  static_assert(std::is_same_v<decltype(Seconds(1) / Seconds(1)), double>);
}

TEST(Units, Compare) {
  EXPECT_LT(Seconds(1), Seconds(2));
  EXPECT_GE(Megahertz(1410), Megahertz(1395));
  static_assert(!std::is_convertible_v<double, Seconds>);
  static_assert(!std::is_constructible_v<Seconds, Joules>);
  static_assert(std::is_trivially_copyable_v<Seconds> && sizeof(Seconds) == sizeof(double));
}

}  // namespace
}  // namespace perseus::core
