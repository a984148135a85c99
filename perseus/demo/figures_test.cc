// SPDX-License-Identifier: Apache-2.0
//
// What the demo measures, reads and tells.
#include <gmock/gmock.h>

#include "perseus/demo/demo_result.h"
#include "perseus/demo/job_run.h"
#include "perseus/demo/measured_report.h"
#include "perseus/demo/meter.h"
#include "perseus/demo/rank.h"
#include "perseus/demo/server_log.h"
#include "perseus/demo/server_view.h"

namespace perseus::demo {
namespace {

using core::Joules;
using core::Seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<Boundary> boundaries() {
  return {{0, 1, Seconds(10), Joules(1000)},
          {1, 2, Seconds(12), Joules(1300)},
          {2, 2, Seconds(15), Joules(1500)},
          {3, 2, Seconds(17), Joules(1900)},
          {4, 3, Seconds(19), Joules(2000)}};
}

TEST(MeterTest, MeansAreTakenFromTheFirstEndToTheLast) {
  const auto measured = measured_between(boundaries(), 1, 3);
  ASSERT_TRUE(measured);
  EXPECT_EQ(measured->iterations, 3U);
  EXPECT_DOUBLE_EQ(measured->mean.time.value(), 7.0 / 3);
  EXPECT_DOUBLE_EQ(measured->mean.energy.value(), 300);
  EXPECT_NEAR(measured->time_deviation.value(), 0.5773502692, 1e-9);  // of 2, 3 and 2 s
}

TEST(MeterTest, IterationsWhoseEndsAreNotKnownAreNotMeasured) {
  EXPECT_FALSE(measured_between(boundaries(), 0, 0));  // where step 0 began is not known
  EXPECT_FALSE(measured_between(boundaries(), 4, 5));
  EXPECT_FALSE(measured_between(boundaries(), 3, 2));
  EXPECT_EQ(measured_between(boundaries(), 2, 2)->time_deviation, Seconds(0));
}

TEST(MeterTest, IterationsUnderTwoPlansAreNotMixed) {
  EXPECT_FALSE(measured_between(boundaries(), 2, 4));
  EXPECT_TRUE(measured_between(boundaries(), 4, 4));
}

TEST(RankTest, ActionsAreReadStrictly) {
  EXPECT_EQ(*parse_action("12=pause:0.5"), (Action{ActionKind::kPause, 12, 0.5}));
  EXPECT_EQ(*parse_action("0=extra"), (Action{ActionKind::kExtra, 0, 0}));
  for (const char* wrong : {"", "12", "12=", "x=extra", "12=extra:1", "12=pause", "12=stall:x", "12=stall:-1",
                            "12=dance", "-1=extra"}) {
    const auto action = parse_action(wrong);
    ASSERT_FALSE(action) << wrong;
    EXPECT_EQ(action.error().message(),
              "\"" + std::string(wrong) +
                  "\" is no action: STEP=pause:SECONDS, STEP=stall:SECONDS, STEP=extra, STEP=missing or "
                  "STEP=reorder");
  }
}

TEST(JobRunTest, LinesOfRanksAreReadWithWhatMayBeAdded) {
  const auto event = parse_rank_event(
      R"({"event":"step","pipeline":1,"stage":3,"step":17,"begin_ns":5,"end_ns":9,"generation":4,"guard_trips":2,"new":[1]})");
  ASSERT_TRUE(event) << event.error().text();
  EXPECT_EQ(event->event, "step");
  EXPECT_EQ(event->pipeline, 1U);
  EXPECT_EQ(event->stage, 3U);
  EXPECT_EQ(event->step, 17U);
  EXPECT_EQ(event->generation, 4U);
  EXPECT_EQ(event->guard_trips, 2U);
  EXPECT_FALSE(parse_rank_event("Segmentation fault"));
}

TEST(ServerViewTest, AJobIsReadAsTheServerTellsIt) {
  const auto job = parse_job(
      R"({"job":"demo","state":"planned","planner_error":null,"predicted":{"time_s":0.7,"energy_j":24000.5},)"
      R"("deployment":{"generation":7,"incarnation":1,"reason":"straggler","baseline":false,"from_step":31,"plans":[]},)"
      R"("guard":{"rank":"1.2.0","iterations":10},"profiling":{"running":true,"windows_done":3,"windows_planned":16},)"
      R"("profile_facts":{"blocking_power":[{"power_w":800,"clock_mhz":1410},{"power_w":820}],"notes":[]},"notices":[{"id":"auto","cause":"heat","pipeline":1,"slowdown":1.2}]})");
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_EQ(job->state, "planned");
  EXPECT_FALSE(job->planner_error);
  ASSERT_TRUE(job->predicted);
  EXPECT_EQ(job->predicted->time, Seconds(0.7));
  EXPECT_EQ(job->predicted->energy, Joules(24000.5));
  ASSERT_TRUE(job->deployed);
  EXPECT_EQ(job->deployed->generation, 7U);
  EXPECT_EQ(job->deployed->reason, "straggler");
  EXPECT_EQ(job->deployed->from_step, 31U);
  EXPECT_EQ(job->guard, "1.2.0");
  ASSERT_EQ(job->notices.size(), 1U);
  EXPECT_EQ(job->notices[0].pipeline, 1U);
  EXPECT_EQ(job->blocking_power, core::Watts(810));
  EXPECT_EQ(job->progress_text(), "planned, window 3 of 16");
}

TEST(ServerViewTest, WhatIsNotThereYetIsAbsent) {
  const auto job = parse_job(
      R"({"state":"waiting","planner_error":"no","predicted":null,"deployment":null,"guard":null,"notices":[]})");
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_EQ(job->planner_error, "no");
  EXPECT_FALSE(job->predicted);
  EXPECT_FALSE(job->deployed);
  EXPECT_FALSE(job->guard);
  EXPECT_FALSE(parse_job("<html>"));
}

TEST(ServerLogTest, TheTimeOfReplanningIsThatFromNoticeToPlan) {
  const auto replan = last_replan_in(
      R"({"time":"2026-11-24T10:00:00.000Z","level":"info","event":"plan.deployed","reason":"fastest"})"
      "\n"
      R"({"time":"2026-11-24T10:00:05.990Z","level":"info","event":"straggler.detected","cause":"slow"})"
      "\nnot a line of JSON\n"
      R"({"time":"2026-11-24T10:00:06.002Z","level":"info","event":"plan.deployed","reason":"straggler"})"
      "\n"
      R"({"time":"2026-11-24T10:00:09.000Z","level":"info","event":"plan.deployed","reason":"recovered"})");
  ASSERT_TRUE(replan) << replan.error().text();
  EXPECT_NEAR(replan->milliseconds, 12, 1e-6);
  EXPECT_EQ(replan->cause, "slow");
  EXPECT_FALSE(replan->announced);
}

TEST(ServerLogTest, MidnightMayPassInBetween) {
  const auto replan =
      last_replan_in(R"({"time":"2026-11-24T23:59:59.999Z","event":"straggler.noticed","cause":"told"})"
                     "\n"
                     R"({"time":"2026-11-25T00:00:00.001Z","event":"plan.deployed","reason":"straggler"})");
  ASSERT_TRUE(replan);
  EXPECT_NEAR(replan->milliseconds, 2, 1e-6);
  EXPECT_TRUE(replan->announced);
}

TEST(ServerLogTest, WithoutAStragglerThereIsNoTime) {
  EXPECT_EQ(last_replan_in("").error().message(), "the server's log tells of no plan for a straggler");
}

TEST(MeasuredReportTest, RealSecondsBecomeSimulatedOnes) {
  core::Profile profile;
  profile.entries.push_back({.stage = 0, .instruction = "forward", .stage_b = {}, .options = {}});
  profile.entries[0].options.push_back(
      {.clock = core::Megahertz(1410), .time = Seconds(0.025), .energy = Joules(100), .knobs = {}});
  profile.entries[0].options[0].time_std = Seconds(0.001);
  const core::Profile simulated = to_simulated_time(profile, 16);
  EXPECT_DOUBLE_EQ(simulated.entries[0].options[0].time.value(), 0.4);
  EXPECT_DOUBLE_EQ(simulated.entries[0].options[0].time_std->value(), 0.016);
  EXPECT_EQ(simulated.entries[0].options[0].energy, Joules(100));
}

DemoResult good() {
  DemoResult result;
  result.all_max.mean = {Seconds(10), Joules(1000)};
  result.predicted = {Seconds(10), Joules(890)};
  result.measured.mean = {Seconds(10.05), Joules(900)};
  result.waiting.mean = {Seconds(12), Joules(1000)};
  result.replanned.mean = {Seconds(12), Joules(800)};
  result.straggler_factor = 1.2;
  result.replan_ms = 7.5;
  result.ideal = Seconds(9.9);
  return result;
}

TEST(DemoResultTest, OneLineOfJsonWithTheFiguresThatWerePromised) {
  EXPECT_EQ(result_json(good()),
            R"({"all_max":{"time_s":10,"energy_j":1000},"predicted":{"time_s":10,"energy_j":890},)"
            R"("measured":{"time_s":10.05,"energy_j":900},"intrinsic_saved_pct":9.999999999999998,)"
            R"("extrinsic_saved_pct":19.999999999999996,"straggler":{"factor":1.2,"replan_ms":7.5},)"
            R"("gpus_left_locked":0})");
}

TEST(DemoResultTest, FiguresWithinTheirBoundsNeedNoExcuse) {
  EXPECT_THAT(deviations(good()), ElementsAre());
}

TEST(DemoResultTest, WhatIsOutsideIsSaidWithItsReason) {
  DemoResult result = good();
  result.measured.mean = {Seconds(10.2), Joules(920)};
  result.guard_trips = 1;
  result.gpus_left_locked = 2;
  EXPECT_THAT(
      deviations(result),
      ElementsAre(
          HasSubstr("measured energy is +3.37 % off the predicted one (bound 2 %): the measured iteration is "
                    "+2.00 % off the predicted one in time; the reference itself takes 1.01 % longer"),
          HasSubstr("the measured iteration time is +2.00 % off all-max (bound 1 %)"),
          HasSubstr("the guard of 1 ranks went off"), HasSubstr("2 GPUs were left with a locked clock")));
}

}  // namespace
}  // namespace perseus::demo
