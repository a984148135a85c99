// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "perseus/cli/inputs.h"

namespace perseus::cli {
namespace {

TEST(BlockingPower, IsOneNumberOrOnePerRank) {
  core::JobSpec spec;
  ASSERT_TRUE(parse_blocking_power("85.5", spec));
  EXPECT_EQ(spec.blocking_power, core::Watts(85.5));
  ASSERT_TRUE(parse_blocking_power("0:80,1:90", spec));
  EXPECT_EQ(spec.blocking_power_of_rank.at(1), core::Watts(90));
}

TEST(BlockingPower, RefusesOtherTextsByName) {
  core::JobSpec spec;
  EXPECT_EQ(parse_blocking_power("85W", spec).error().text(),
            "--blocking-power: '85W' is neither watts nor RANK:WATTS");
  EXPECT_EQ(parse_blocking_power("0:80,0:81", spec).error().text(),
            "--blocking-power: rank 0 is given twice");
  EXPECT_EQ(parse_blocking_power("", spec).error().code(), core::ErrorCode::kUsage);
}

TEST(P2pLag, TakesADefaultAndSinglePairs) {
  core::JobSpec spec;
  ASSERT_TRUE(parse_p2p_lag("0.001,0>1:0.002,1>0:0.003", spec));
  EXPECT_EQ(spec.p2p_lag, core::Seconds(0.001));
  EXPECT_EQ(spec.edge_lag.at({1, 0}), core::Seconds(0.003));
  EXPECT_EQ(parse_p2p_lag("0-1:0.1", spec).error().text(),
            "--p2p-lag: '0-1:0.1' is neither seconds nor RANK>RANK:SECONDS");
}

TEST(Insert, NamesInstructionStageAndPosition) {
  const auto insert = parse_insert("load@3:before-forward");
  ASSERT_TRUE(insert);
  EXPECT_EQ(insert->instruction, "load");
  EXPECT_EQ(insert->stage, 3U);
  EXPECT_EQ(insert->position, core::Position::kBeforeForward);
  for (const char* text : {"load", "load@3", "@3:start", "load@x:start", "load@3:middle", ":@"}) {
    const auto refused = parse_insert(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code(), core::ErrorCode::kUsage);
  }
}

TEST(Merge, FlagsOverrideTheFileKeyByKey) {
  core::JobSpec file;
  file.profile = "file.csv";
  file.schedule_file = "order.csv";
  file.tensor = 4;
  file.blocking_power_of_rank = {{0, core::Watts(1)}};
  core::JobSpec flags;
  flags.schedule = "1f1b";
  flags.blocking_power = core::Watts(85);
  const core::JobSpec merged = merge(file, flags);
  EXPECT_EQ(merged.profile, "file.csv");
  EXPECT_EQ(merged.tensor, 4U);
  EXPECT_EQ(merged.schedule, "1f1b");
  EXPECT_FALSE(merged.schedule_file) << "a named schedule replaces the file's schedule file";
  EXPECT_EQ(merged.blocking_power, core::Watts(85));
  EXPECT_TRUE(merged.blocking_power_of_rank.empty());
}

}  // namespace
}  // namespace perseus::cli
