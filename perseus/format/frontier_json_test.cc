// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/frontier_json.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <limits>

namespace perseus::format {
namespace {

using core::Joules;
using core::Seconds;
using core::Watts;

FrontierReport small_report() {
  FrontierReport report;
  report.t_min = Seconds(1.25);
  report.t_star = Seconds(1.5);
  report.t_max = Seconds(2);
  report.all_max = {"all-max", Seconds(1.25), Joules(110)};
  report.points = {{Seconds(1.25), Seconds(1.2), Joules(100.5), Joules(100.25), 0.0025, Watts(900)},
                   {Seconds(1.5), Seconds(1.5), Joules(90), Joules(0),
                    std::numeric_limits<double>::infinity(), Watts(0.1 + 0.2)}};
  report.baselines = {{"one-clock", Seconds(1.3), Joules(105)}};
  report.breakpoint_count = 1079;
  report.solver_time = Seconds(0.00071);
  return report;
}

TEST(FrontierJson, HasTheMembersOfTheDesign) {
  EXPECT_EQ(write_frontier_json(small_report()), R"({
  "t_min_s":1.25,
  "t_star_s":1.5,
  "t_max_s":2,
  "all_max":{"time_s":1.25,"energy_j":110},
  "points":[
    {"target_time_s":1.25,"time_s":1.2,"energy_j":100.5,"lower_bound_j":100.25,"gap":0.0025,"marginal_w":900},
    {"target_time_s":1.5,"time_s":1.5,"energy_j":90,"lower_bound_j":0,"gap":null,"marginal_w":0.30000000000000004}
  ],
  "baselines":[
    {"name":"one-clock","time_s":1.3,"energy_j":105}
  ],
  "solver":{"breakpoints":1079,"seconds":0.00071},
  "range":"tstar",
  "fit":"none",
  "origin":"predicted",
  "dp":1
}
)");
}

TEST(FrontierJson, WithAllThePointsAreTheBreakpoints) {
  FrontierReport report = small_report();
  report.breakpoints = {{{Seconds(1.5), Joules(90), Watts(160)}, {Seconds(1.25), Joules(100), Watts(1000)}}};
  report.baselines.clear();
  const auto object = boost::json::parse(write_frontier_json(report)).as_object();
  EXPECT_EQ(boost::json::serialize(object.at("points")),
            R"([{"target_time_s":1.5E0,"lower_bound_j":90,"marginal_w":160},)"
            R"({"target_time_s":1.25E0,"lower_bound_j":100,"marginal_w":1000}])");
  EXPECT_TRUE(object.at("baselines").as_array().empty());
  EXPECT_EQ(write_points_csv(report), "target_time_s,lower_bound_j,marginal_w\n1.5,90,160\n1.25,100,1000\n");
}

TEST(FrontierJson, DataParallelismChangesTotalsOnly) {
  FrontierReport report = small_report();
  report.data = 16;
  const auto object = boost::json::parse(write_frontier_json(report)).as_object();
  const auto& point = object.at("points").at(0);
  EXPECT_EQ(point.at("energy_j").as_double(), 100.5);
  EXPECT_EQ(point.at("job_energy_j").as_int64(), 1608);
  EXPECT_EQ(point.at("job_lower_bound_j").as_int64(), 1604);
  EXPECT_EQ(object.at("all_max").at("job_energy_j").as_int64(), 1760);
  EXPECT_EQ(object.at("baselines").at(0).at("job_energy_j").as_int64(), 1680);
  EXPECT_EQ(object.at("dp").as_int64(), 16);
}

TEST(FrontierJson, AStragglerHasAnObjectOfItsOwn) {
  FrontierReport report = small_report();
  report.straggler = FrontierStraggler{1.2,  Seconds(1.5), Seconds(1.4), Joules(95), Joules(94),
                                       0.01, Joules(125),  Joules(20),   Joules(10)};
  const auto object = boost::json::parse(write_frontier_json(report)).as_object();
  EXPECT_EQ(
      boost::json::serialize(object.at("straggler")),
      R"({"factor":1.2E0,"sync_time_s":1.5E0,"time_s":1.4E0,"energy_j":95,"lower_bound_j":94,"gap":1E-2,)"
      R"("all_max_energy_j":125,"intrinsic_bloat_j":20,"extrinsic_bloat_j":10})");
}

TEST(PointsCsv, LeavesOutWhatDoesNotExist) {
  EXPECT_EQ(write_points_csv(small_report()),
            "target_time_s,time_s,energy_j,lower_bound_j,gap,marginal_w\n"
            "1.25,1.2,100.5,100.25,0.0025,900\n"
            "1.5,1.5,90,0,,0.30000000000000004\n");
}

}  // namespace
}  // namespace perseus::format
