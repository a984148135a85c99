// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/envpipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/baseline/test_problems.h"
#include "tests/support/property.h"

namespace perseus::baseline {
namespace {

using core::Joules;
using core::Seconds;
using testing::ElementsAre;

TEST(EnvPipe, StretchesWhatLiesInsideTheEnvelope) {
  // Stage 0 is light (2 + 4 s a microbatch), stage 1 heavy (5 + 10 s). Of stage 0's order F0 F1 B0 F2 B1 B2
  // the first forward and the last backward belong to the envelope; the rest has room for 500 MHz.
  const std::vector<Row> light_forward{{1000, 2, 20}, {500, 4, 12}};
  const std::vector<Row> light_backward{{1000, 4, 40}, {500, 8, 24}};
  const auto p = problem(2, 3,
                         {entry(0, "backward", light_backward), entry(0, "forward", light_forward),
                          entry(1, "backward", {{1000, 10, 100}, {500, 20, 60}}),
                          entry(1, "forward", {{1000, 5, 50}, {500, 10, 30}})},
                         1);
  const Baseline b = envpipe(p);
  EXPECT_EQ(b.name, "EnvPipe");
  EXPECT_EQ(b.time, all_max(p).time);
  EXPECT_EQ(b.time, Seconds(2 + 3 * 15 + 4));
  EXPECT_THAT(b.choice, ElementsAre(0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0));
  // Work: 12 + 24 saved twice each against 3 (60 + 150); blocking: 2 x 51 s less 18 + 12 and 45 s busy, at 1
  // W.
  EXPECT_EQ(b.energy, Joules(3 * 210 - 2 * (8 + 16) + 2 * 51 - 30 - 45));
}

TEST(EnvPipe, RaisesWhatTurnsCritical) {
  // At 500 MHz the inside of stage 0 (F1 B0 F2 B1) lasts 36 s on its own, so all four rise to 900 MHz. Then
  // B0 and F2 end at 14.75 s where stage 1 wants F2 at 14 s: both rise to 1000 MHz, and the envelope is
  // critical again. That F1 could have stayed at 500 MHz (it has 6 s), the heuristic does not see.
  const auto p = problem(2, 3,
                         {entry(0, "backward", {{1000, 4, 40}, {900, 4.5, 38}, {500, 12, 24}}),
                          entry(0, "forward", {{1000, 2, 20}, {900, 2.25, 18}, {500, 6, 12}}),
                          entry(1, "backward", {{1000, 4, 40}, {500, 8, 60}}),
                          entry(1, "forward", {{1000, 2, 20}, {500, 4, 30}})},
                         1);
  const Baseline b = envpipe(p);
  EXPECT_EQ(b.time, Seconds(24));
  EXPECT_EQ(b.time, all_max(p).time);
  EXPECT_THAT(b.choice, ElementsAre(0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0));
}

TEST(EnvPipe, StopsWhereTheLastStageIsNotTheHeaviest) {
  const auto p = problem(2, 4,
                         {entry(0, "backward", {{1000, 10, 100}, {500, 20, 60}}),
                          entry(0, "forward", {{1000, 5, 50}, {500, 10, 30}}),
                          entry(1, "backward", {{1000, 4, 40}, {500, 8, 24}}),
                          entry(1, "forward", {{1000, 2, 20}, {500, 4, 12}})},
                         1);
  const Baseline b = envpipe(p);
  EXPECT_EQ(b.time, all_max(p).time);
  EXPECT_EQ(b.choice, all_max(p).choice) << "stage 0 is critical, stage 1 is the envelope";
}

TEST(EnvPipe, IsNeverSlowerThanAllMax) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const core::Problem p = tests::make_problem(recipe);
        const auto fastest = core::exact_timing(p, core::fastest_choice(p)).makespan;
        RC_ASSERT(core::exact_timing(p, envpipe(p).choice).makespan <= fastest);
      },
      300);
}

}  // namespace
}  // namespace perseus::baseline
