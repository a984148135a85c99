// SPDX-License-Identifier: Apache-2.0
//
// What a session reports: windows of a sweep, iterations under a plan, trips of the guard.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/client/test_session.h"

namespace perseus::client {
namespace {

using core::Joules;
using core::Kind;
using core::Megahertz;
using core::Seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RankPlan sweep(std::uint64_t from_step = 0) {
  RankPlan plan;
  plan.generation = 2;
  plan.reason = "profile";
  plan.from_step = from_step;
  plan.ttl = Seconds(60);
  for (const std::uint32_t mhz : {1410U, 1200U}) {
    plan.windows.push_back(
        {.steps = 4,
         .skip = 1,
         .clocks = {{Kind::kForward, 0, Megahertz(mhz)}, {Kind::kBackward, 0, Megahertz(mhz - 15)}}});
  }
  return plan;
}

TEST(SweepTest, EachWindowIsRunAndReported) {
  SessionRig rig;
  rig.give(sweep());
  for (int i = 0; i < 9; ++i) rig.step(i < 4 ? 0.01 : 0.02, 0.005);
  // A clock for each kind, and the baseline after the last window.
  EXPECT_THAT(rig.clocks(), ElementsAre(1410, 1395, 1410, 1395, 1410, 1395, 1410, 1395, 1200, 1185, 1200,
                                        1185, 1200, 1185, 1200, 1185, 0));
  rig.session->work();
  const auto reports = rig.link->all<WindowReport>();
  ASSERT_EQ(reports.size(), 2U);
  const WindowReport& first = reports[0];
  EXPECT_EQ(first.generation, 2U);
  EXPECT_EQ(first.window, 0U);
  EXPECT_EQ(first.step, 3U);
  EXPECT_EQ(first.iterations, 3U);
  EXPECT_NEAR(first.iteration_time.value(), 0.045, 1e-9);
  EXPECT_FALSE(first.energy);
  ASSERT_EQ(first.kinds.size(), 2U);
  EXPECT_EQ(first.kinds[0].kind, Kind::kForward);
  EXPECT_EQ(first.kinds[0].clock, Megahertz(1410));
  EXPECT_EQ(first.kinds[0].count, 6U);
  EXPECT_EQ(first.kinds[0].rejected, 0U);
  EXPECT_NEAR(first.kinds[0].time.value(), 0.01, 1e-9);
  EXPECT_EQ(first.kinds[0].expected, Seconds(0));
  EXPECT_EQ(first.kinds[1].clock, Megahertz(1395));
  EXPECT_EQ(reports[1].window, 1U);
  EXPECT_EQ(reports[1].step, 7U);
  EXPECT_NEAR(reports[1].kinds[0].time.value(), 0.02, 1e-9);
  EXPECT_THAT(rig.link->all<StepReport>(), IsEmpty());
}

TEST(SweepTest, AStepThatRanOtherwiseIsNotMeasured) {
  SessionRig rig;
  rig.give(sweep());
  rig.step();
  rig.step();
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kRecompute, 0);  // the window does not have it
  rig.run(Kind::kForward, 1);
  rig.session->end_step();
  rig.step();
  rig.session->work();
  const auto reports = rig.link->all<WindowReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].iterations, 2U);
  EXPECT_EQ(reports[0].kinds[0].count, 4U);
}

TEST(SweepTest, AWindowWithoutAMeasuredStepIsNotReported) {
  SessionRig rig;
  rig.give(sweep());
  for (int i = 0; i < 4; ++i) {
    rig.session->begin_step();
    rig.run(Kind::kRecompute, 0);
    rig.session->end_step();
  }
  rig.session->work();
  EXPECT_THAT(rig.link->reports, IsEmpty());
}

TEST(SweepTest, EnergyOfTheMeasuredStepsIsSetAgainstWhatRan) {
  SessionRig rig;
  rig.telemetry->known = TelemetryGpu{"GPU-a", {}, Seconds(0.02)};
  rig.give(sweep());
  rig.session->work();
  double joules = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t begin = rig.now_ns();
    rig.step(0.02, 0.02);
    // Forwards draw 400 W, backwards 500 W, the rest 100 W; an update each 20 ms.
    for (const double watts : {400.0, 400.0, 500.0, 500.0, 100.0}) {
      const auto updates = rig.telemetry->next.updates.size();
      joules += watts * 0.02;
      rig.telemetry->next.updates.push_back({begin + (updates + 1) * 20'000'000, Joules(joules), 0});
    }
    rig.telemetry->next.reasons.push_back({rig.now_ns(), false});
    rig.session->work();
    EXPECT_TRUE(rig.telemetry->precise);
  }
  const auto reports = rig.link->all<WindowReport>();
  ASSERT_EQ(reports.size(), 1U);
  ASSERT_TRUE(reports[0].energy);
  const EnergySums& sums = *reports[0].energy;
  EXPECT_EQ(sums.columns, (std::vector<std::string>{"F0@1410", "B0@1395", "idle"}));
  EXPECT_EQ(sums.intervals, 15U);
  EXPECT_NEAR(sums.seconds.value(), 0.3, 1e-9);
  EXPECT_NEAR(sums.joules.value(), 3 * 38, 1e-9);
  // Intervals of one column each: powers are xty / xtx.
  EXPECT_NEAR(sums.xty[0] / sums.xtx[0], 400, 1e-6);
  EXPECT_NEAR(sums.xty[1] / sums.xtx[3], 500, 1e-6);
  EXPECT_NEAR(sums.xty[2] / sums.xtx[5], 100, 1e-6);
  EXPECT_EQ(reports[0].counter_period, Seconds(0.02));
}

TEST(SweepTest, ThrottledComputationsAreRejectedAndTheShareIsTold) {  // fault table, row 26
  SessionRig rig;
  rig.give(sweep());
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t begin = rig.now_ns();
    rig.step(0.02);
    // In the last step the second forward is throttled.
    const auto at = [&](std::uint64_t ms) { return begin + ms * 1'000'000; };
    rig.telemetry->next.reasons = {{at(19), false}, {at(30), i == 3}, {at(60), false}, {at(79), false}};
    rig.session->work();
  }
  const auto reports = rig.link->all<WindowReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kinds[0].count, 4U);
  EXPECT_EQ(reports[0].kinds[0].rejected, 2U);  // what the sample may speak for: from 19 to 30 ms
  EXPECT_EQ(reports[0].kinds[1].count, 6U);
  EXPECT_DOUBLE_EQ(reports[0].throttled, 1.0 / 12.0);
}

TEST(StepReportTest, ComesAfterEnoughIterationsAndTime) {
  SessionRig rig({.recorder = {.report_iterations = 3, .report_time = Seconds(0.1)}});
  rig.give(small_plan());
  rig.step();
  rig.step();
  rig.session->work();
  EXPECT_THAT(rig.link->reports, IsEmpty());
  rig.step(0.01, 0.003);
  rig.session->work();
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].generation, 1U);
  EXPECT_EQ(reports[0].step, 2U);
  EXPECT_EQ(reports[0].iterations, 3U);
  EXPECT_NEAR(reports[0].iteration_time.value(), 0.041, 1e-9);
  EXPECT_FALSE(reports[0].energy);
  ASSERT_EQ(reports[0].kinds.size(), 4U);  // each has a clock of its own
  EXPECT_EQ(reports[0].kinds[0].count, 3U);
  EXPECT_NEAR(reports[0].kinds[0].expected.value(), 0.01, 1e-12);
  EXPECT_EQ(reports[0].unknown, 0U);
}

TEST(StepReportTest, AFixedTimeAtTheBaselineIsNoClocksTime) {
  SessionRig rig({.recorder = {.report_iterations = 1, .report_time = Seconds(0)}});
  RankPlan plan = small_plan();
  plan.operations[0].clock.reset();
  rig.give(plan);
  rig.step();
  rig.session->work();
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kinds.size(), 3U);
}

TEST(StepReportTest, CountsWhatDidNotFitAndLeavesTheStepOut) {
  SessionRig rig({.recorder = {.report_iterations = 2, .report_time = Seconds(0)}});
  rig.give(small_plan());
  rig.step();
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kForward, 9);
  rig.session->end_step();
  rig.step();
  rig.session->work();
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].iterations, 2U);
  EXPECT_EQ(reports[0].unknown, 1U);
  EXPECT_EQ(reports[0].missing, 3U);
}

TEST(StepReportTest, HasTheEnergyOfAnIteration) {
  SessionRig rig({.recorder = {.report_iterations = 2, .report_time = Seconds(0)}});
  rig.give(small_plan());
  const std::uint64_t begin = rig.now_ns();
  rig.step(0.1);
  rig.step(0.1);
  for (std::uint64_t i = 0; i <= 8; ++i) {  // 300 W
    rig.telemetry->next.updates.push_back(
        {begin + i * 100'000'000, Joules(30.0 * static_cast<double>(i)), 0});
  }
  rig.session->work();
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  ASSERT_TRUE(reports[0].energy);
  EXPECT_NEAR(reports[0].energy->value(), 120, 1e-9);
}

TEST(StepReportTest, ABaselineGenerationIsMeasuredWithoutKinds) {
  SessionRig rig({.recorder = {.report_iterations = 2, .report_time = Seconds(0)}});
  RankPlan off = small_plan(5, 0);
  off.baseline = true;
  off.operations.clear();
  off.promised_time.reset();
  rig.give(off);
  rig.step();
  rig.step();
  rig.session->work();
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].generation, 5U);
  EXPECT_NEAR(reports[0].iteration_time.value(), 0.04, 1e-9);
  EXPECT_THAT(reports[0].kinds, IsEmpty());
}

TEST(GuardTest, SlowerThanPromisedTenTimesMeansFullClocksUntilTheNextGeneration) {  // law 4
  SessionRig rig;
  rig.give(small_plan());
  for (int i = 0; i < 10; ++i) rig.step(0.011);
  static_cast<void>(rig.clocks());
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  const auto trips = rig.link->all<GuardTripReport>();
  ASSERT_EQ(trips.size(), 1U);
  EXPECT_EQ(trips[0].generation, 1U);
  EXPECT_EQ(trips[0].iterations, 10U);
  EXPECT_NEAR(trips[0].measured.value(), 0.044, 1e-9);
  EXPECT_NEAR(trips[0].promised.value(), 0.04, 1e-12);
  EXPECT_EQ(rig.session->state().guard_trips, 1U);
  EXPECT_THAT(rig.lines,
              Contains("! 10 iterations took 0.044 s where generation 1 promised 0.04 s: full clocks"));
  rig.step();
  EXPECT_EQ(rig.session->state().generation, 0U);
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.give(small_plan(2, 0));
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
}

TEST(GuardTest, TripsInsideOfAStepAtOnce) {
  SessionRig rig;
  rig.give(small_plan());
  for (int i = 0; i < 10; ++i) rig.step(0.011);
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.session->work();
  rig.run(Kind::kForward, 1);
  EXPECT_EQ(rig.sink->wanted(), 0U);
}

TEST(GuardTest, WaitingForAStragglerNobodyKnowsYetTripsMuchLater) {
  SessionRig rig;
  rig.give(small_plan());
  for (int i = 0; i < 59; ++i) rig.step(0.01, 0.02);
  rig.session->work();
  EXPECT_THAT(rig.link->all<GuardTripReport>(), IsEmpty());
  rig.step(0.01, 0.02);
  rig.session->work();
  EXPECT_EQ(rig.link->all<GuardTripReport>().size(), 1U);
}

TEST(GuardTest, ThrottledIterationsAreNotThePlansFault) {
  SessionRig rig;
  rig.give(small_plan());
  for (int i = 0; i < 30; ++i) {
    rig.step(0.011);
    rig.telemetry->next.reasons.push_back({rig.now_ns(), true});
    rig.session->work();
  }
  EXPECT_THAT(rig.link->all<GuardTripReport>(), IsEmpty());
}

}  // namespace
}  // namespace perseus::client
