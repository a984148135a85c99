// SPDX-License-Identifier: Apache-2.0
//
// The bodies letter by letter: tests/python sends them to a real server.
#include "perseus/client/rank_messages.h"

#include <gtest/gtest.h>

#include "perseus/schedule/generate.h"

namespace perseus::client {
namespace {

using core::Joules;
using core::Kind;
using core::Megahertz;
using core::Seconds;
using core::Watts;

JobFacts job() {
  const schedule::Request request{.name = "1f1b", .pipeline = 2, .microbatches = 2};
  JobFacts facts{.name = "gpt", .incarnation = 3};
  facts.schedule = *schedule::generate(request);
  facts.named = request;
  facts.tensor = 4;
  facts.data = 2;
  facts.blocking_power = {Watts(85)};
  return facts;
}

TEST(RankMessages, a_job_by_the_name_of_its_schedule) {
  EXPECT_EQ(registration_body(job()),
            R"({"incarnation":3,"parallel":{"pipeline":2,"tensor":4,"data":2},"blocking_power_w":85,)"
            R"("pipeline":{"schedule":"1f1b","microbatches":2}})");
  JobFacts facts = job();
  facts.named->virtual_stages = 2;
  facts.named->group_size = 4;
  facts.blocking_power = {Watts(80), Watts(90.5)};
  facts.p2p_lag = Seconds(0.001);
  EXPECT_EQ(
      registration_body(facts),
      R"({"incarnation":3,"parallel":{"pipeline":2,"tensor":4,"data":2},"blocking_power_w":[80,90.5],)"
      R"("pipeline":{"schedule":"1f1b","microbatches":2,"virtual_stages":2,"group_size":4},"p2p_lag_s":0.001})");
}

TEST(RankMessages, a_job_by_its_orders) {
  JobFacts facts = job();
  facts.named.reset();
  EXPECT_EQ(registration_body(facts),
            R"({"incarnation":3,"parallel":{"pipeline":2,"tensor":4,"data":2},"blocking_power_w":85,)"
            R"("orders":[["0F0","0F1","0B0","0B1"],["1F0","1B0","1F1","1B1"]]})");
}

TEST(RankMessages, a_job_that_is_profiled_while_it_trains) {
  JobFacts facts = job();
  facts.blocking_power.clear();
  facts.profiling = ProfilingSettings{.online = true};
  facts.fingerprint = "gpt3/a100";
  EXPECT_EQ(
      registration_body(facts),
      R"({"incarnation":3,"parallel":{"pipeline":2,"tensor":4,"data":2},)"
      R"("pipeline":{"schedule":"1f1b","microbatches":2},"profiling":{"mode":"online","clocks":16,"steps":3,)"
      R"("window_s":2,"skip":1,"budget_s":600,"max_slowdown_pct":100},"fingerprint":"gpt3/a100"})");
  facts.profiling = ProfilingSettings{};
  EXPECT_TRUE(registration_body(facts).find(R"("profiling":{"mode":"off"},)") != std::string::npos);
}

TEST(RankMessages, hello_with_and_without_a_gpu) {
  EXPECT_EQ(hello_body({3, 7}, {1, 0, 2}, "abc", {}, 11),
            R"({"incarnation":3,"sequence":7,"rank":"1.0.2","schedule_sha256":"abc","step":11})");
  const GpuFacts gpu{"GPU-1", {Megahertz(1410), Megahertz(1395)}, Seconds(0.1), false};
  EXPECT_EQ(hello_body({3, 8}, {1, 0, 2}, "abc", gpu, 11),
            R"({"incarnation":3,"sequence":8,"rank":"1.0.2","schedule_sha256":"abc","gpu_uuid":"GPU-1",)"
            R"("clocks_mhz":[1410,1395],"clock_control":false,"counter_period_s":0.1,"step":11})");
}

TEST(RankMessages, renewal) {
  EXPECT_EQ(renewal_body({3, 9}, 12), R"({"incarnation":3,"sequence":9,"step":12})");
}

TEST(RankMessages, what_was_measured_under_a_plan) {
  StepReport report{.generation = 2, .step = 40, .iterations = 10, .iteration_time = Seconds(0.5)};
  EXPECT_EQ(report_route(report), "measurements");
  EXPECT_EQ(
      report_body({3, 10}, report),
      R"({"incarnation":3,"sequence":10,"generation":2,"step":40,"iteration_time_s":0.5,"iterations":10})");
  report.energy = Joules(120);
  report.kinds = {
      {Kind::kForward, 1, Megahertz(1200), 40, 2, Seconds(0.03), Seconds(0.0001), Seconds(0.031)}};
  report.throttled = 0.25;
  report.unknown = 3;
  report.missing = 4;
  EXPECT_EQ(
      report_body({3, 11}, report),
      R"({"incarnation":3,"sequence":11,"generation":2,"step":40,"iteration_time_s":0.5,"iterations":10,)"
      R"("energy_j":120,"kinds":[{"kind":"F","stage":1,"clock_mhz":1200,"count":40,"rejected":2,)"
      R"("time_s":0.03,"time_std_s":0.0001,"expected_s":0.031}],"throttled":0.25,"unknown":3,"missing":4})");
}

TEST(RankMessages, a_window_of_a_sweep) {
  WindowReport report{
      .generation = 2, .window = 1, .step = 11, .iterations = 3, .iteration_time = Seconds(0.9)};
  report.kinds = {{Kind::kBackward, 0, Megahertz(1410), 24, 0, Seconds(0.031), Seconds(0.0002), {}}};
  EXPECT_EQ(report_route(report), "windows");
  const std::string head =
      R"({"incarnation":3,"sequence":12,"generation":2,"window":1,"step":11,"iterations":3,"iteration_time_s":0.9,)"
      R"("throttled":0,"kinds":[{"kind":"B","stage":0,"clock_mhz":1410,"count":24,"rejected":0,"time_s":0.031,)"
      R"("time_std_s":0.0002}],"energy":)";
  EXPECT_EQ(report_body({3, 12}, report), head + R"(null,"counter_period_s":0})");
  report.energy = EnergySums{.intervals = 27,
                             .seconds = Seconds(2.7),
                             .joules = Joules(800),
                             .columns = {"F0@1410", "idle"},
                             .xtx = {1, 0.5, 2},
                             .xty = {3, 4},
                             .yty = 5};
  report.counter_period = Seconds(0.1);
  EXPECT_EQ(report_body({3, 12}, report),
            head +
                R"({"intervals":27,"seconds":2.7,"joules":800,"columns":["F0@1410","idle"],"xtx":[1,0.5,2],)"
                R"("xty":[3,4],"yty":5},"counter_period_s":0.1})");
}

TEST(RankMessages, a_guard_that_went_off) {
  const GuardTripReport report{
      .generation = 2, .promised = Seconds(0.5), .measured = Seconds(0.6), .iterations = 5};
  EXPECT_EQ(report_route(report), "guard");
  EXPECT_EQ(
      report_body({3, 13}, report),
      R"({"incarnation":3,"sequence":13,"generation":2,"promised_time_s":0.5,"measured_time_s":0.6,"iterations":5})");
}

}  // namespace
}  // namespace perseus::client
