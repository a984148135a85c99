// SPDX-License-Identifier: Apache-2.0
//
// Whole jobs against simulated ranks that know the truth.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/server/test_ranks.h"
#include "perseus/server/test_service.h"

namespace perseus::server {
namespace {

using core::Seconds;
using testing::HasSubstr;
using testing::IsEmpty;

class ProfilingTest : public ServiceTest {
 protected:
  ProfilingTest() : job_(registration()), pipeline_(*core::Pipeline::build(job_.schedule)) {
    for (const std::uint32_t dp : {0U, 1U}) {
      for (const std::uint32_t pp : {0U, 1U}) {
        const RankId id{dp, pp, 0};
        ranks_.emplace(id, Rank{SimulatedRank(pipeline_, usual_truth(), 10 * dp + pp)});
      }
    }
  }
  struct Rank {
    SimulatedRank gpu;
    std::uint64_t sequence = 1;
    std::uint64_t have = 0;
    boost::json::object plan;  ///< newest that came with operations or windows
    std::optional<std::uint64_t> from_step;
  };

  static std::string online_body(const std::string& more = "", std::uint64_t incarnation = 1) {
    return fmt::format(R"({{"incarnation":{},"parallel":{{"pipeline":2,"tensor":1,"data":2}},)"
                       R"("pipeline":{{"schedule":"1f1b","microbatches":4}},)"
                       R"("profiling":{{"mode":"online","clocks":10}}{}}})",
                       incarnation, more);
  }
  static std::string path(const std::string& rest = "") { return "/api/v1/jobs/gpt" + rest; }
  void greet(const std::string& more = "", const std::string& job = "gpt") {
    std::string clocks;
    for (const core::Megahertz c : usual_clocks(705))
      clocks += fmt::format("{}{}", clocks.empty() ? "" : ",", c.value());
    for (auto& [id, rank] : ranks_) {
      const HttpResponse answer = ask(
          "POST", "/api/v1/jobs/" + job + "/ranks",
          fmt::format(
              R"({{"incarnation":1,"sequence":{},"rank":"{}","schedule_sha256":"{}","step":{},"clocks_mhz":[{}]{}}})",
              ++rank.sequence, to_text(id), *fence_of(job_), step_, clocks, more));
      EXPECT_EQ(answer.status, 200U) << text(answer);
    }
  }
  boost::json::object detail() { return json(ask("GET", path())); }

  void poll(const RankId& id, Rank& rank) {
    const HttpResponse answer = ask("GET", poll_target(to_text(id), rank.have, step_, 0));
    ASSERT_TRUE(answer.status == 200 || answer.status == 204) << text(answer);
    if (answer.status == 204) return;
    auto plan = json(answer);
    rank.have = static_cast<std::uint64_t>(plan.at("revision").as_int64());
    rank.from_step.reset();
    if (!plan.at("from_step").is_null())
      rank.from_step = static_cast<std::uint64_t>(plan.at("from_step").as_int64());
    if (plan.contains("windows") || plan.contains("operations") || plan.at("baseline").as_bool())
      rank.plan = std::move(plan);
  }
  bool windows_agreed() {
    return std::ranges::all_of(ranks_, [](const auto& entry) {
      return entry.second.from_step && entry.second.plan.contains("windows") &&
             entry.second.plan.at("revision").as_int64() / 2 ==
                 static_cast<std::int64_t>(entry.second.have / 2);
    });
  }
  /// The windows of the generation that all ranks have, of all pipeline ranks together.
  std::vector<SweepWindow> windows() {
    std::vector<SweepWindow> out;
    for (std::uint32_t pp = 0; pp < 2; ++pp) {
      const auto& list = ranks_.at({0, pp, 0}).plan.at("windows").as_array();
      out.resize(list.size());
      for (std::size_t w = 0; w < list.size(); ++w) {
        out[w].steps = static_cast<std::uint32_t>(list[w].at("steps").as_int64());
        out[w].skip = static_cast<std::uint32_t>(list[w].at("skip").as_int64());
        auto& clocks = out[w].ranks.emplace_back();
        for (const auto& c : list[w].at("clocks").as_array()) {
          clocks.push_back({{c.at("kind").as_string() == "F" ? core::Kind::kForward : core::Kind::kBackward,
                             static_cast<std::uint32_t>(c.at("stage").as_int64())},
                            core::Megahertz(static_cast<std::uint32_t>(c.at("clock_mhz").as_int64()))});
        }
      }
    }
    return out;
  }
  /// Trains through the agreed windows; up to `reports` reports are sent.
  void run_windows(std::size_t reports = SIZE_MAX) {
    const auto batch = windows();
    step_ = *ranks_.begin()->second.from_step;
    for (std::uint32_t w = 0; w < batch.size(); ++w) {
      step_ += batch[w].steps;
      for (auto& [id, rank] : ranks_) {
        WindowReport report = rank.gpu.measure(batch[w], id.pp);
        report.window = w;
        report.generation = rank.have / 2;
        report.step = step_ - 1;
        report.stamp = {1, ++rank.sequence};
        if (reports-- == 0) return;
        const HttpResponse answer =
            ask("POST", path("/ranks/" + to_text(id) + "/windows"), window_body(report));
        ASSERT_EQ(answer.status, 200U) << text(answer);
        EXPECT_TRUE(json(answer).at("applied").as_bool());
        ++acknowledged_;
      }
    }
    for (auto& [id, rank] : ranks_) rank.from_step.reset();
  }
  /// Lets ranks poll and train until all run a plan with operations, or so many rounds are over.
  bool train(int rounds = 100) {
    for (int i = 0; i < rounds; ++i) {
      for (auto& [id, rank] : ranks_) poll(id, rank);
      if (windows_agreed()) {
        run_windows();
      } else if (std::ranges::all_of(ranks_, [](const auto& e) {
                   return e.second.from_step && e.second.plan.contains("operations");
                 })) {
        return true;
      }
      ++step_;
      later(0.5);
    }
    return false;
  }
  /// Ten steps of a rank whose computations take `ratio` times what its plan says.
  void report_steps(const RankId& id, double ratio, double throttled = 0) {
    Rank& rank = ranks_.at(id);
    step_ += 10;
    const std::string body = fmt::format(
        R"({{"incarnation":1,"sequence":{},"generation":{},"step":{},"iteration_time_s":0.5,"iterations":10,"energy_j":90,)"
        R"("throttled":{},"kinds":[{{"kind":"F","stage":{},"clock_mhz":1410,"count":40,"rejected":0,"time_s":{},)"
        R"("time_std_s":0.001,"expected_s":0.03}}]}})",
        ++rank.sequence, rank.have / 2, step_, throttled, id.pp, 0.03 * ratio);
    const HttpResponse answer = ask("POST", path("/ranks/" + to_text(id) + "/measurements"), body);
    ASSERT_EQ(answer.status, 200U) << text(answer);
    EXPECT_TRUE(json(answer).at("applied").as_bool());
  }
  void report_all(double ratio) {
    for (auto& [id, rank] : ranks_) report_steps(id, ratio);
  }

  Registration job_;
  core::Pipeline pipeline_;
  std::map<RankId, Rank> ranks_;
  std::uint64_t step_ = 10;
  std::size_t acknowledged_ = 0;
};

/// The true profile over the clocks of the GPUs.
std::string true_csv() {
  const Truth truth = usual_truth();
  std::string out = "stage,instruction,frequency,time,energy\n";
  for (std::uint32_t stage = 0; stage < 2; ++stage) {
    for (const bool forward : {true, false}) {
      const Work work{forward ? core::Kind::kForward : core::Kind::kBackward, stage};
      for (const core::Megahertz c : usual_clocks(705)) {
        const double time = truth.time_s(work, c.value());
        out += fmt::format("{},{},{},{},{}\n", stage, forward ? "forward" : "backward", c.value(), time,
                           time * truth.power_w(work, c.value()));
      }
    }
  }
  return out;
}

TEST_F(ProfilingTest, ranks_are_swept_and_get_the_plan_of_the_true_profile) {
  EXPECT_EQ(ask("PUT", path(), online_body()).status, 201U);
  EXPECT_EQ(detail().at("profiling").at("waits_for").as_string(), "0 of 4 ranks are there");
  greet();
  EXPECT_EQ(detail().at("state").as_string(), "profiling");
  ASSERT_TRUE(train()) << detail();
  const auto job = detail();
  EXPECT_EQ(job.at("state").as_string(), "planned");
  EXPECT_EQ(job.at("profile_origin").as_string(), "measured");
  EXPECT_TRUE(job.at("profiling").at("error").is_null());
  EXPECT_EQ(job.at("frontier").at("fit").as_string(), "convex");

  Registration truly = job_;
  truly.blocking_power.assign(2, core::Watts(usual_truth().idle_w(1300)));
  const auto truth = solved(truly, true_csv());
  const auto& plan = job.at("deployment").at("plans").as_array()[0];
  EXPECT_NEAR(plan.at("time_s").to_number<double>() / truth->t_min.value(), 1, 0.01);
  EXPECT_NEAR(plan.at("energy_j").to_number<double>() / truth->fastest->energy.value(), 1, 0.02);
  EXPECT_NEAR(job.at("frontier").at("all_max_energy_j").to_number<double>() / truth->all_max_energy.value(),
              1, 0.02);
  for (const auto& b : job.at("profile_facts").at("blocking_power").as_array()) {
    EXPECT_NEAR(b.at("power_w").to_number<double>(), usual_truth().idle_w(1200), 8);
  }
  EXPECT_EQ(json(ask("GET", path())).at("stages").as_array().size(), 2U);
  const HttpResponse csv = ask("GET", path("/profile"));
  EXPECT_THAT(text(csv),
              testing::StartsWith("stage,instruction,frequency,time,energy,samples,time_std,energy_std\n"));
}

TEST_F(ProfilingTest, a_killed_server_goes_on_with_its_sweep) {
  ask("PUT", path(), online_body());
  greet();
  int rounds = 0;
  while (acknowledged_ < 4 && rounds++ < 20) train(1);
  // In the middle of the second batch.
  for (int i = 0; i < 20 && !windows_agreed(); ++i) {
    for (auto& [id, rank] : ranks_) poll(id, rank);
    later(0.5);
  }
  ASSERT_TRUE(windows_agreed());
  run_windows(6);
  const auto windows_stored = [&] {
    const auto found = snapshot();
    return std::ranges::count_if(found.sweeps, [](const SweepRecord& r) { return r.part.contains('.'); });
  };
  EXPECT_EQ(windows_stored(), std::ssize(std::vector<int>(acknowledged_)));
  const auto before = detail().at("profiling");
  restart(snapshot());
  EXPECT_THAT(findings_, IsEmpty());
  EXPECT_EQ(detail().at("profiling").at("windows_done"), before.at("windows_done"));
  EXPECT_EQ(detail().at("profiling").at("reason").as_string(), "no profile");
  for (auto& [id, rank] : ranks_) rank.have = 0;
  greet();
  // The rest of that batch is never reported: ranks are past it. Half of it counts all the same.
  step_ += 100;
  greet();
  later(11);
  ASSERT_TRUE(train()) << detail();
  EXPECT_EQ(detail().at("profile_origin").as_string(), "measured");
  EXPECT_THAT(snapshot().sweeps, IsEmpty());
}

TEST_F(ProfilingTest, a_profile_of_the_same_fingerprint_is_used_without_a_sweep) {
  ask("PUT", path(), online_body(R"(,"fingerprint":"llama a100")"));
  greet();
  ASSERT_TRUE(train());
  restart(snapshot());
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/other", online_body(R"(,"fingerprint":"llama a100")")).status, 201U);
  greet("", "other");
  const auto other = json(ask("GET", "/api/v1/jobs/other"));
  EXPECT_EQ(other.at("state").as_string(), "planned");
  EXPECT_EQ(other.at("profile_origin").as_string(), "reused");
  EXPECT_EQ(other.at("profile_sha256"), detail().at("profile_sha256"));
  // Another fingerprint is another machine.
  ask("PUT", "/api/v1/jobs/third", online_body(R"(,"fingerprint":"llama h100")"));
  greet("", "third");
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs/third")).at("state").as_string(), "profiling");
}

TEST_F(ProfilingTest, a_dry_run_is_not_swept_and_planned_from_an_uploaded_profile) {
  ask("PUT", path(), online_body(R"(,"blocking_power_w":80)"));
  greet(R"(,"clock_control":false)");
  EXPECT_TRUE(detail().at("dry_run").as_bool());
  EXPECT_EQ(detail().at("profiling").at("waits_for").as_string(), "rank 0.0.0 does not control its clock");
  EXPECT_TRUE(detail().at("deployment").is_null());
  EXPECT_EQ(ask("PUT", path("/profile"), true_csv(), {}, "text/csv").status, 200U);
  EXPECT_EQ(detail().at("state").as_string(), "planned");
  EXPECT_GT(detail().at("saved_predicted").at("intrinsic_pct").to_number<double>(), 0);
}

TEST_F(ProfilingTest, an_uploaded_profile_ends_a_sweep_and_only_blocking_power_is_measured) {
  ask("PUT", path(), online_body());
  greet();
  EXPECT_EQ(detail().at("profiling").at("reason").as_string(), "no profile");
  EXPECT_EQ(ask("PUT", path("/profile"), true_csv(), {}, "text/csv").status, 200U);
  greet();
  later(1801);
  greet();
  EXPECT_EQ(detail().at("profiling").at("reason").as_string(), "no blocking power");
  ASSERT_TRUE(train()) << detail();
  EXPECT_EQ(detail().at("profile_origin").as_string(), "uploaded");
  EXPECT_EQ(text(ask("GET", path("/profile"))), true_csv());
}

TEST_F(ProfilingTest, a_straggler_is_seen_and_its_recovery_too) {
  ask("PUT", path(), registration_body());
  ask("PUT", path("/profile"), profile_csv(), {}, "text/csv");
  greet();
  ASSERT_TRUE(train());
  for (int i = 0; i < 3; ++i) report_all(1.0);
  EXPECT_THAT(detail().at("notices").as_array(), IsEmpty());
  report_all(1.0);
  report_steps({0, 1, 0}, 1.2);
  auto job = detail();
  ASSERT_EQ(job.at("notices").as_array().size(), 1U);
  const auto& notice = job.at("notices").as_array()[0];
  EXPECT_EQ(notice.at("id").as_string(), "detected:0.1.0");
  EXPECT_TRUE(notice.at("detected").as_bool());
  EXPECT_NEAR(notice.at("slowdown").to_number<double>(), 1.2, 1e-6);
  EXPECT_EQ(job.at("deployment").at("reason").as_string(), "straggler");
  EXPECT_THAT(text(ask("GET", "/metrics")),
              HasSubstr(R"(perseus_job_stragglers{job="gpt",origin="detected"} 1)"));
  // It lasts as long as reports show it, and no longer.
  for (int i = 0; i < 3; ++i) {
    later(100);
    for (auto& [id, rank] : ranks_) poll(id, rank);
    ASSERT_TRUE(train());
    report_steps({0, 1, 0}, 1.2);
    EXPECT_EQ(detail().at("notices").as_array().size(), 1U);
  }
  report_steps({0, 1, 0}, 1.0);
  EXPECT_THAT(detail().at("notices").as_array(), IsEmpty());
  EXPECT_EQ(detail().at("deployment").at("reason").as_string(), "recovered");
}

TEST_F(ProfilingTest,
       a_detected_straggler_that_falls_silent_is_forgotten_and_one_that_is_stored_is_found_again) {
  ask("PUT", path(), registration_body());
  ask("PUT", path("/profile"), profile_csv(), {}, "text/csv");
  greet();
  ASSERT_TRUE(train());
  report_all(1.0);
  report_steps({0, 1, 0}, 1.2);
  restart(snapshot());
  EXPECT_EQ(detail().at("notices").as_array()[0].at("id").as_string(), "detected:0.1.0");
  later(121);
  EXPECT_THAT(detail().at("notices").as_array(), IsEmpty());
}

TEST_F(ProfilingTest, drift_is_measured_anew_but_not_all_the_time) {
  ask("PUT", path(), online_body());
  greet();
  ASSERT_TRUE(train());
  EXPECT_EQ(detail().at("profiling").at("sweeps").as_int64(), 1);
  for (int i = 0; i < 4; ++i) report_all(1.06);
  EXPECT_THAT(std::string(detail().at("profiling").at("drift").as_string()),
              HasSubstr("drift: computations of pipeline rank 0 take 6.0 % longer than their profile says"));
  EXPECT_EQ(detail().at("state").as_string(), "planned");  // not within half an hour of the last sweep
  later(1801);
  greet();
  later(1);
  EXPECT_EQ(detail().at("state").as_string(), "profiling");
  EXPECT_THAT(std::string(detail().at("profiling").at("reason").as_string()), HasSubstr("drift"));
  ASSERT_FALSE(train(1));
  ASSERT_TRUE(train());
  EXPECT_TRUE(detail().at("profiling").at("drift").is_null());
  EXPECT_EQ(detail().at("profiling").at("sweeps").as_int64(), 2);
}

TEST_F(ProfilingTest, a_guard_means_baseline_and_then_a_new_profile) {
  ask("PUT", path(), online_body());
  greet();
  ASSERT_TRUE(train());
  Rank& rank = ranks_.at({0, 0, 0});
  EXPECT_EQ(
      ask("POST", path("/ranks/0.0.0/guard"),
          fmt::format(
              R"({{"incarnation":1,"sequence":{},"generation":{},"promised_time_s":1,"measured_time_s":1.2,"iterations":10}})",
              ++rank.sequence, rank.have / 2))
          .status,
      200U);
  EXPECT_EQ(detail().at("state").as_string(), "guarded");
  EXPECT_TRUE(detail().at("deployment").at("baseline").as_bool());
  later(1801);
  greet();
  later(1);
  EXPECT_EQ(detail().at("profiling").at("reason").as_string(), "guard of rank 0.0.0");
  ASSERT_FALSE(train(1));
  ASSERT_TRUE(train());
  EXPECT_EQ(detail().at("state").as_string(), "planned");
  EXPECT_TRUE(detail().at("guard").is_null());
}

TEST_F(ProfilingTest, a_guard_of_one_pipeline_whose_stage_is_well_elsewhere_is_a_straggler) {
  ask("PUT", path(), registration_body());
  ask("PUT", path("/profile"), profile_csv(), {}, "text/csv");
  greet();
  ASSERT_TRUE(train());
  report_all(1.0);
  const double t_min = detail().at("frontier").at("t_min_s").to_number<double>();
  const auto trip = [&] {
    Rank& rank = ranks_.at({0, 1, 0});
    EXPECT_EQ(
        ask("POST", path("/ranks/0.1.0/guard"),
            fmt::format(
                R"({{"incarnation":1,"sequence":{},"generation":{},"promised_time_s":{},"measured_time_s":{},"iterations":10}})",
                ++rank.sequence, detail().at("generation").as_int64(), t_min, 1.2 * t_min))
            .status,
        200U);
  };
  trip();
  auto job = detail();
  EXPECT_EQ(job.at("state").as_string(), "planned");
  ASSERT_EQ(job.at("notices").as_array().size(), 1U);
  EXPECT_EQ(job.at("notices").as_array()[0].at("id").as_string(), "detected:0.1.0");
  EXPECT_NEAR(job.at("deployment").at("sync_time_s").to_number<double>(), 1.2 * t_min, 1e-9);
  ASSERT_TRUE(train());
  trip();  // that did not help: the plan is wrong
  EXPECT_EQ(detail().at("state").as_string(), "guarded");
}

TEST_F(ProfilingTest, a_report_that_cannot_be_stored_is_not_acknowledged) {
  ask("PUT", path(), online_body());
  greet();
  for (int i = 0; i < 20 && !windows_agreed(); ++i) {
    for (auto& [id, rank] : ranks_) poll(id, rank);
    later(0.5);
  }
  ASSERT_TRUE(windows_agreed());
  Rank& rank = ranks_.at({0, 0, 0});
  WindowReport report = rank.gpu.measure(windows()[0], 0);
  report.generation = rank.have / 2;
  report.stamp = {1, ++rank.sequence};
  disk_full_ = true;
  EXPECT_EQ(ask("POST", path("/ranks/0.0.0/windows"), window_body(report)).status, 503U);
  disk_full_ = false;
  const auto again = json(ask("POST", path("/ranks/0.0.0/windows"), window_body(report)));
  EXPECT_TRUE(again.at("applied").as_bool());  // the same message once more
  EXPECT_FALSE(json(ask("POST", path("/ranks/0.0.0/windows"), window_body(report))).at("applied").as_bool());
  // Of another generation, or of no window: answered well, without effect.
  report.generation = 99;
  report.stamp.sequence = ++rank.sequence;
  EXPECT_FALSE(json(ask("POST", path("/ranks/0.0.0/windows"), window_body(report))).at("applied").as_bool());
}

}  // namespace
}  // namespace perseus::server
