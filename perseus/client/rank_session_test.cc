// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/rank_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/client/test_session.h"

namespace perseus::client {
namespace {

using core::Kind;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(RankSessionTest, WithoutAPlanNothingIsPosted) {
  SessionRig rig;
  rig.step();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  EXPECT_THAT(rig.link->steps, ElementsAre(0));
  const SessionState state = rig.session->state();
  EXPECT_EQ(state.generation, 0U);
  EXPECT_EQ(state.steps, 1U);
  EXPECT_EQ(state.operations, 4U);
  EXPECT_EQ(state.unknown, 0U);
  EXPECT_NEAR(state.iteration_time.value(), 0.04, 1e-9);
  EXPECT_FALSE(state.server_contact);
}

TEST(RankSessionTest, EachComputationGetsItsClock) {
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  EXPECT_EQ(rig.session->state().generation, 1U);
  EXPECT_EQ(rig.session->state().posts, 8U);
  EXPECT_TRUE(rig.session->state().server_contact);
  EXPECT_NEAR(rig.session->state().promised.value(), 0.04, 1e-12);
}

TEST(RankSessionTest, APostSaysWhatItIsFor) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step(7);
  rig.session->begin(Kind::kForward, 0, 0);
  ASSERT_EQ(rig.sink->posts.size(), 1U);
  const ClockPost& post = rig.sink->posts[0];
  EXPECT_EQ(post.step, 7U);
  EXPECT_EQ(post.kind, Kind::kForward);
  EXPECT_EQ(post.stage, 0U);
  EXPECT_EQ(post.microbatch, 0U);
}

TEST(RankSessionTest, AClockThatStaysIsNotPostedAgainAndAFixedTimeKeepsIt) {
  SessionRig rig;
  RankPlan plan = small_plan();
  plan.operations[1].clock = core::Megahertz(900);
  plan.operations[2].clock.reset();
  rig.give(plan);
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 1215));
}

TEST(RankSessionTest, APlanIsTakenAtItsStepNotBefore) {
  SessionRig rig;
  rig.give(small_plan(1, 2));
  rig.step();
  rig.step();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  EXPECT_EQ(rig.session->state().plans_taken, 1U);
}

TEST(RankSessionTest, AJumpOverTheAgreedStepTakesThePlanToo) {
  SessionRig rig;
  rig.give(small_plan(1, 5));
  rig.session->begin_step(9);
  rig.run(Kind::kForward, 0);
  EXPECT_THAT(rig.clocks(), ElementsAre(900));
}

TEST(RankSessionTest, GenerationsThatWaitAreRunInTheirTurn) {
  SessionRig rig;
  RankPlan second = small_plan(2, 3);
  for (PlannedOperation& operation : second.operations) operation.clock = core::Megahertz(600);
  rig.give(small_plan(1, 1));
  rig.give(second);
  for (int i = 0; i < 4; ++i) rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215, 900, 915, 1200, 1215, 600));
  EXPECT_EQ(rig.session->state().generation, 2U);
}

TEST(RankSessionTest, APreparedPlanIsNotRun) {
  SessionRig rig;
  RankPlan plan = small_plan();
  plan.from_step.reset();
  rig.give(plan);
  rig.step();
  EXPECT_THAT(rig.clocks(), IsEmpty());
}

TEST(RankSessionTest, AnUnknownComputationMeansBaselineUntilTheStepEnds) {  // fault table, row 16
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kForward, 7);
  rig.run(Kind::kForward, 1);
  EXPECT_EQ(rig.session->state().generation, 0U);
  rig.session->end_step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 0));
  rig.session->work();
  EXPECT_EQ(rig.session->state().unknown, 1U);
  EXPECT_EQ(rig.session->state().missing, 2U);
  EXPECT_THAT(rig.lines, testing::Contains("! generation 1 does not have F0 of microbatch 7 (or not twice): "
                                           "baseline clocks until the step ends; told once"));
  rig.lines.clear();
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  rig.session->begin_step();
  rig.run(Kind::kRecompute, 0);
  rig.run(Kind::kForward, 0, 0.01, 9);
  rig.session->end_step();
  rig.session->work();
  EXPECT_EQ(rig.session->state().unknown, 3U);
  EXPECT_THAT(rig.lines, IsEmpty());
}

TEST(RankSessionTest, TheSameComputationTwiceInAStepIsUnknown) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kForward, 0);
  EXPECT_EQ(rig.session->state().unknown, 1U);
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 0));
}

TEST(RankSessionTest, AnotherOrderMeansBaselineUntilTheStepEnds) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 1);
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kBackward, 0);
  rig.run(Kind::kBackward, 1);
  rig.session->end_step();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(915, 0));
  EXPECT_EQ(rig.session->state().reordered, 1U);
  EXPECT_EQ(rig.session->state().unknown, 0U);
  EXPECT_EQ(rig.session->state().missing, 0U);
  EXPECT_THAT(rig.lines, testing::Contains("! computations come in another order than generation 1 was made "
                                           "for: baseline clocks until the step ends; told once"));
}

TEST(RankSessionTest, MissingComputationsAreCounted) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.session->end_step();
  rig.session->work();
  EXPECT_EQ(rig.session->state().missing, 3U);
  EXPECT_THAT(rig.lines, testing::Contains("! computations of generation 1 did not happen; told once"));
}

TEST(RankSessionTest, TheInputGradientOfStageZeroMayBeAbsent) {
  SessionRig rig;
  RankPlan plan = small_plan();
  plan.operations = {planned(Kind::kForward, 0, 0, 900), planned(Kind::kBackwardInput, 0, 0, 900),
                     planned(Kind::kBackwardWeight, 0, 0, 915)};
  rig.give(plan);
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.run(Kind::kBackwardWeight, 0);
  rig.session->end_step();
  EXPECT_EQ(rig.session->state().missing, 0U);
  EXPECT_EQ(rig.session->state().reordered, 0U);
}

TEST(RankSessionTest, OutsideOfStepsTheClockIsTheBaselineAfterAPause) {
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  static_cast<void>(rig.clocks());
  rig.pass(0.5);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());  // a loop without a pause does not flap
  rig.pass(0.001);
  rig.session->work();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  rig.session->begin(Kind::kForward, 0, 0);  // an evaluation
  rig.session->end(Kind::kForward, 0, 0);
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
}

TEST(RankSessionTest, AHangInsideAStepMeansBaselineAndTheNextStepTakesThePlanBack) {  // row 4
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.session->begin(Kind::kForward, 0, 0);
  static_cast<void>(rig.clocks());
  rig.pass(10);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.pass(0.001);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_EQ(rig.session->state().hook_timeouts, 1U);
  EXPECT_THAT(rig.lines, testing::Contains("! no computation began or ended for 10.0 s inside of step 0: "
                                           "baseline clocks until the next step"));
  rig.session->end(Kind::kForward, 0, 0);
  rig.run(Kind::kForward, 1);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.session->end_step();
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  EXPECT_EQ(rig.session->state().hook_timeouts, 1U);
}

TEST(RankSessionTest, AClockThatOvertakesTheWatchdogIsTakenBack) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.pass(11);
  rig.session->work();
  rig.sink->post({.mhz = 900});  // as if the hook had looked just before
  rig.session->work();
  EXPECT_EQ(rig.sink->wanted(), 0U);
}

TEST(RankSessionTest, TheHangLimitGrowsWithThePromise) {
  SessionRig rig;
  RankPlan plan = small_plan();
  plan.promised_time = core::Seconds(20);
  rig.give(plan);
  rig.session->begin_step();
  rig.pass(60);
  rig.session->work();
  EXPECT_EQ(rig.session->state().hook_timeouts, 0U);
  rig.pass(0.1);
  rig.session->work();
  EXPECT_EQ(rig.session->state().hook_timeouts, 1U);
}

TEST(RankSessionTest, APlanOutlivesTheServerForItsTimeToLive) {  // row 1
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  rig.pass(59);
  rig.step();
  EXPECT_EQ(rig.session->state().generation, 1U);
  rig.pass(1);
  static_cast<void>(rig.clocks());
  rig.step();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_EQ(rig.session->state().generation, 0U);
  EXPECT_EQ(rig.session->state().plans_expired, 1U);
  rig.link->listener->on_contact();
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  rig.session->work();
  EXPECT_EQ(rig.session->state().plans_expired, 1U);
}

TEST(RankSessionTest, TheTimeToLiveEndsInsideOfALongStepToo) {
  SessionRig rig;
  RankPlan plan = small_plan();
  plan.ttl = core::Seconds(5);
  rig.give(plan);
  rig.session->begin_step();
  rig.run(Kind::kForward, 0, 5.1);
  rig.session->work();
  rig.run(Kind::kForward, 1);
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 0));
}

TEST(RankSessionTest, ARefusedRankRunsAtTheBaselineUntilAPlanComes) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.link->listener->on_refused(core::Error(core::ErrorCode::kPermission, "the incarnation is over"));
  rig.session->work();
  rig.run(Kind::kForward, 1);
  rig.session->end_step();
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 0));
  EXPECT_THAT(rig.lines,
              testing::Contains("! the server refuses this rank: baseline clocks: the incarnation is over"));
  rig.give(small_plan(2, 0));
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
}

TEST(RankSessionTest, ABaselineGenerationEndsThePlan) {
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  static_cast<void>(rig.clocks());
  RankPlan off = small_plan(2, 1);
  off.baseline = true;
  off.operations.clear();
  off.promised_time.reset();
  rig.give(off);
  rig.step();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_EQ(rig.session->state().unknown, 0U);
  EXPECT_EQ(rig.session->state().missing, 0U);
  rig.pass(100);  // there is nothing to expire
  rig.session->work();
  EXPECT_EQ(rig.session->state().plans_expired, 0U);
}

TEST(RankSessionTest, APlanThatMakesNoSenseIsRunAsBaseline) {  // row 19
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  static_cast<void>(rig.clocks());
  RankPlan wrong = small_plan(2, 1);
  wrong.operations[1] = wrong.operations[0];
  rig.give(wrong);
  rig.step();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_EQ(rig.session->state().refused_plans, 1U);
  EXPECT_THAT(rig.lines, testing::Contains("! generation 2 makes no sense (the plan has F0 of microbatch 0 "
                                           "twice): baseline clocks"));
}

TEST(RankSessionTest, AClockThatTheGpuDoesNotHaveEndsTheGeneration) {
  SessionRig rig;
  rig.give(small_plan());
  rig.session->begin_step();
  rig.run(Kind::kForward, 0);
  rig.sink->next_state = {.connected = true, .refused_clock = true};
  rig.session->work();
  rig.session->work();
  rig.run(Kind::kForward, 1);
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 0));
  EXPECT_THAT(rig.lines, testing::Contains("! generation 1 asks for 900 MHz, which the GPU does not have: "
                                           "baseline clocks"));
}

TEST(RankSessionTest, TheOtherEndHearsOfTheLoopSeldom) {
  SessionRig rig;
  rig.step(0.001);
  EXPECT_EQ(rig.sink->touches, 1);
  rig.pass(0.06);
  rig.step(0.001);
  EXPECT_EQ(rig.sink->touches, 2);
}

TEST(RankSessionTest, AStepWithoutItsEndIsEndedByTheNext) {
  SessionRig rig;
  rig.session->begin_step();
  rig.session->begin_step();
  rig.session->end_step();
  rig.session->end_step();
  EXPECT_EQ(rig.session->state().steps, 2U);
  EXPECT_EQ(rig.session->state().step, 1U);
}

TEST(RankSessionTest, AFullRingLosesMeasurementsAndNothingElse) {
  SessionRig rig({.ring = 4});
  rig.give(small_plan());
  rig.step();
  rig.step();
  rig.session->work();
  EXPECT_GT(rig.session->state().lost_records, 0U);
  EXPECT_EQ(rig.clocks().size(), 8U);
}

TEST(RankSessionTest, GpuFactsAreToldOnceEach) {
  SessionRig rig;
  rig.session->work();
  EXPECT_THAT(rig.gpus, IsEmpty());
  rig.telemetry->known = TelemetryGpu{"GPU-a", {core::Megahertz(900)}, core::Seconds(0)};
  rig.session->work();
  rig.session->work();
  rig.telemetry->known->counter_period = core::Seconds(0.1);
  rig.sink->next_state = {.connected = true, .controls = true};
  rig.session->work();
  ASSERT_EQ(rig.gpus.size(), 2U);
  EXPECT_FALSE(rig.gpus[0].second);
  EXPECT_TRUE(rig.gpus[1].second);
  EXPECT_EQ(rig.gpus[1].first.counter_period, core::Seconds(0.1));
}

TEST(RankSessionTest, CloseAsksForTheBaselineAndSaysGoodbye) {
  SessionRig rig;
  rig.give(small_plan());
  rig.step();
  static_cast<void>(rig.clocks());
  rig.session->close(core::Seconds(1));
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_TRUE(rig.sink->closed);
  EXPECT_TRUE(rig.link->stopped);
  rig.session->close(core::Seconds(1));
  EXPECT_THAT(rig.clocks(), IsEmpty());
}

TEST(RankSessionTest, TheLinksCountersAreShown) {
  SessionRig rig;
  const SessionState state = rig.session->state();
  EXPECT_EQ(state.link.dropped_reports, 1U);
  EXPECT_EQ(state.link.refused_answers, 2U);
  EXPECT_EQ(state.link.failures, 3U);
}

}  // namespace
}  // namespace perseus::client
