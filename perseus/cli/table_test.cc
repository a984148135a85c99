// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/table.h"

#include <gtest/gtest.h>

namespace perseus::cli {
namespace {

TEST(Table, AlignsNumbersRightAndNamesLeftWithoutTrailingBlanks) {
  Table table({"baseline", "time s"});
  table.row({"all-max", "9.5"});
  table.row({"T*", "12.25"});
  EXPECT_EQ(table.text(),
            "baseline  time s\n"
            "────────  ──────\n"
            "all-max      9.5\n"
            "T*         12.25\n");
}

TEST(Table, CountsCodePointsNotBytes) {
  Table table({"µs", "x"});
  table.row({"a", "b"});
  EXPECT_EQ(table.text(), "µs  x\n──  ─\na   b\n");
}

TEST(EnergyUnit, FollowsTheLargestOfAColumn) {
  EXPECT_STREQ(energy_unit(core::Joules(9999)).name, "J");
  EXPECT_STREQ(energy_unit(core::Joules(10'000)).name, "kJ");
  EXPECT_STREQ(energy_unit(core::Joules(-2e7)).name, "MJ");
  EXPECT_EQ(energy_unit(core::Joules(2e7)).text(core::Joules(1.2345678e7)), "12.3457");
}

TEST(Numbers, KeepSixSignificantDigitsWithoutExponent) {
  EXPECT_EQ(seconds_text(core::Seconds(0)), "0");
  EXPECT_EQ(seconds_text(core::Seconds(18.23456789)), "18.2346");
  EXPECT_EQ(seconds_text(core::Seconds(0.000123456789)), "0.000123457");
  EXPECT_EQ(seconds_text(core::Seconds(123456789)), "123456789");
  EXPECT_EQ(seconds_text(core::Seconds(1e-9)), "1e-09");
}

TEST(Numbers, SmallPercentagesStayVisible) {
  EXPECT_EQ(percent_text(0.1234), "12.3 %");
  EXPECT_EQ(percent_text(0), "0.0 %");
  EXPECT_EQ(percent_text(0.0004), "0.040 %");
  EXPECT_EQ(percent_text(0.000002), "0.0002 %");
}

}  // namespace
}  // namespace perseus::cli
