// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/plan_table.h"

#include <gtest/gtest.h>

#include "perseus/client/plan_switch.h"
#include "perseus/client/test_session.h"

namespace perseus::client {
namespace {

using core::Kind;

core::Result<std::unique_ptr<PlanTable>> build(RankPlan plan) {
  return PlanTable::build(std::make_shared<const RankPlan>(std::move(plan)));
}

RankPlan sweep_plan() {
  RankPlan plan;
  plan.generation = 3;
  plan.from_step = 10;
  plan.windows = {
      {.steps = 4,
       .skip = 1,
       .clocks = {{Kind::kForward, 2, core::Megahertz(900)}, {Kind::kBackward, 2, core::Megahertz(915)}}},
      {.steps = 2, .skip = 0, .clocks = {{Kind::kForward, 2, core::Megahertz(600)}}},
  };
  return plan;
}

TEST(PlanTableTest, FindsWhatThePlanHasAndNothingElse) {
  RankPlan plan = small_plan();
  plan.operations.push_back(planned(Kind::kForwardBackward, 5, 3, 1410));
  const auto table = build(plan);
  ASSERT_TRUE(table);
  constexpr std::uint32_t kNone = PlanTable::kNone;
  EXPECT_EQ((*table)->find(Kind::kBackward, 0, 1, kNone).mhz, 1215U);
  EXPECT_EQ((*table)->find(Kind::kBackward, 0, 1, kNone).slot, 3U);
  EXPECT_EQ((*table)->find(Kind::kForwardBackward, 5, 3, kNone).slot, 4U);
  EXPECT_FALSE((*table)->find(Kind::kForwardBackward, 5, 2, kNone).found());  // a gap
  EXPECT_FALSE((*table)->find(Kind::kForward, 0, 2, kNone).found());
  EXPECT_FALSE((*table)->find(Kind::kForward, 5, 0, kNone).found());
  EXPECT_FALSE((*table)->find(Kind::kForward, 6, 0, kNone).found());
  EXPECT_FALSE((*table)->find(Kind::kForward, 4'294'967'295U, 4'294'967'295U, kNone).found());
  EXPECT_FALSE((*table)->find(Kind::kRecompute, 0, 0, kNone).found());
  EXPECT_FALSE((*table)->find(Kind::kOther, 0, 0, kNone).found());
  EXPECT_EQ((*table)->expected(), 5U);
  EXPECT_EQ((*table)->window_of(0), kNone);
}

TEST(PlanTableTest, OtherInstructionsAreNobodysToAnnounce) {
  RankPlan plan = small_plan();
  plan.operations.push_back(planned(Kind::kOther, 0, 0, 0));
  const auto table = build(plan);
  ASSERT_TRUE(table);
  EXPECT_EQ((*table)->expected(), 4U);
}

TEST(PlanTableTest, WindowsFollowOneAnother) {
  const auto table = build(sweep_plan());
  ASSERT_TRUE(table);
  EXPECT_EQ((*table)->window_of(9), PlanTable::kNone);
  EXPECT_EQ((*table)->window_of(10), 0U);
  EXPECT_EQ((*table)->window_of(13), 0U);
  EXPECT_EQ((*table)->window_of(14), 1U);
  EXPECT_EQ((*table)->first_step(1), 14U);
  EXPECT_EQ((*table)->window_of(15), 1U);
  EXPECT_EQ((*table)->window_of(16), PlanTable::kNone);
  EXPECT_EQ((*table)->find(Kind::kForward, 2, 1'000'000, 0).mhz, 900U);
  EXPECT_EQ((*table)->find(Kind::kForward, 2, 0, 1).mhz, 600U);
  EXPECT_FALSE((*table)->find(Kind::kBackward, 2, 0, 1).found());  // the second window does not have it
  EXPECT_EQ((*table)->expected(), 0U);
  EXPECT_FALSE((*table)->baseline());
}

TEST(PlanTableTest, RefusesWhatMakesNoSense) {
  RankPlan plan = sweep_plan();
  plan.windows[1].skip = 2;
  EXPECT_EQ(build(plan).error().text(), "window 1 of the sweep has 2 steps and skips 2");
  plan = sweep_plan();
  plan.windows[0].clocks[0].clock = core::Megahertz(0);
  EXPECT_EQ(build(plan).error().text(), "the sweep asks for a clock of 0 MHz");
  plan = small_plan();
  plan.operations[0].clock = core::Megahertz(0);
  EXPECT_EQ(build(plan).error().text(), "the plan asks for a clock of 0 MHz");
  plan = small_plan();
  plan.operations[0].computation.microbatch = 1U << 24U;
  EXPECT_EQ(build(plan).error().text(), "a plan with microbatch 16777216; they are below 16777216");
  plan.operations[0].computation.microbatch = (1U << 24U) - 1;
  EXPECT_EQ(build(plan).error().code(), core::ErrorCode::kLimit);
  plan = small_plan();
  plan.operations[0].computation.stage = 4'000'000'000U;
  EXPECT_EQ(build(plan).error().text(),
            "a rank's plan goes from stage 0 to 4000000000; at most 2796202 of them");
}

TEST(PlanSwitchTest, OfTooManyThatWaitTheOldestIsSkipped) {
  PlanSwitch plans;
  for (std::uint64_t g = 1; g <= PlanSwitch::kMostWaiting + 1; ++g) plans.offer(*build(small_plan(g, g)));
  EXPECT_EQ(plans.at_step(0), nullptr);
  EXPECT_EQ(plans.at_step(1), nullptr);
  EXPECT_EQ(plans.at_step(2)->plan().generation, 2U);
  EXPECT_EQ(plans.at_step(100)->plan().generation, PlanSwitch::kMostWaiting + 1);
  EXPECT_EQ(plans.taken(), 2U);
  EXPECT_EQ(plans.collect().size(), PlanSwitch::kMostWaiting - 1);
  EXPECT_TRUE(plans.collect().empty());
}

TEST(PlanSwitchTest, APlanWaitsWhileNobodyFreesOldOnes) {
  PlanSwitch plans;
  std::uint64_t taken = 0;
  for (std::uint64_t g = 1; g <= 2 * PlanSwitch::kMostRetired; ++g) {
    plans.offer(*build(small_plan(g, 0)));
    taken = plans.at_step(0)->plan().generation;
  }
  EXPECT_EQ(taken, PlanSwitch::kMostRetired + 1);
  EXPECT_EQ(plans.collect().size(), PlanSwitch::kMostRetired);
  EXPECT_EQ(plans.at_step(0)->plan().generation, 2 * PlanSwitch::kMostRetired);
}

}  // namespace
}  // namespace perseus::client
