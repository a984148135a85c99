// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/server/test_service.h"
#include "perseus/server/zeus_routes.h"

namespace perseus::server {
namespace {

using core::Seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(ServiceTest, a_job_is_registered_profiled_planned_and_polled) {
  run_job();
  const HttpResponse plan = ask("GET", poll_target("1.1.0", 0));
  ASSERT_EQ(plan.status, 200U);
  const auto body = json(plan);
  EXPECT_EQ(body.at("generation").as_int64(), 1);
  EXPECT_EQ(body.at("from_step").as_int64(), 0);  // agreed before the first rank came
  EXPECT_EQ(body.at("reason").as_string(), "fastest");
  EXPECT_FALSE(body.at("baseline").as_bool());
  EXPECT_EQ(body.at("operations").as_array().size(), 8U);
  EXPECT_EQ(body.at("operations").as_array()[0], boost::json::parse(R"(["F",1,0,1410,0.035])"));
}

TEST_F(ServiceTest, registration_is_idempotent) {
  run_job();
  const std::size_t before = stored_.size();
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(1)).status, 200U);
  EXPECT_EQ(stored_.size(), before);
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(1, 2, 2, 8)).status, 409U);
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(2)).status, 200U);
  EXPECT_THAT(text(ask("PUT", "/api/v1/jobs/gpt", registration_body(1))),
              HasSubstr("incarnation 1 of job gpt is over; it is in incarnation 2"));
}

TEST_F(ServiceTest, nothing_is_acknowledged_that_is_not_stored) {
  disk_full_ = true;
  const HttpResponse refused = ask("PUT", "/api/v1/jobs/gpt", registration_body());
  EXPECT_EQ(refused.status, 503U);
  EXPECT_EQ(text(refused), R"({"error":{"code":"io","message":"disk full"}})");
  EXPECT_EQ(ask("GET", "/api/v1/jobs/gpt").status, 404U);
  disk_full_ = false;
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body()).status, 201U);
  const Answer waits = send("PUT", "/api/v1/jobs/gpt/profile", profile_csv(), {}, "text/csv");
  EXPECT_FALSE(waits->has_value());  // neither read nor stored yet
  settle();
  EXPECT_EQ((*waits)->status, 200U);
}

TEST_F(ServiceTest, a_notice_reaches_all_waiting_ranks_and_then_the_agreed_step) {
  run_job();
  std::vector<Answer> polls;
  for (const char* rank : {"0.0.0", "0.1.0", "1.0.0", "1.1.0"})
    polls.push_back(send("GET", poll_target(rank, 3)));
  for (const Answer& poll : polls) EXPECT_FALSE(poll->has_value());
  const HttpResponse posted = ask("POST", "/api/v1/jobs/gpt/stragglers",
                                  R"({"id":"s1","pipeline":1,"slowdown":1.25,"cause":"thermal"})");
  EXPECT_EQ(posted.status, 201U);
  EXPECT_EQ(text(posted), R"({"id":"s1","ttl_s":600})");
  for (const Answer& poll : polls) {
    ASSERT_TRUE(poll->has_value());
    EXPECT_EQ(json(**poll).at("generation").as_int64(), 2);
    EXPECT_TRUE(json(**poll).at("from_step").is_null());
    EXPECT_EQ(json(**poll).at("operations").as_array().size(), 8U);
  }
  // The others run slower; the slow pipeline itself keeps its fastest clocks.
  EXPECT_NE(json(**polls[0]).at("plan_sha256"), json(**polls[2]).at("plan_sha256"));
  EXPECT_EQ(json(**polls[3]).at("operations").as_array()[0].as_array()[3], 1410);

  polls.clear();
  for (const char* rank : {"0.0.0", "0.1.0", "1.0.0", "1.1.0"}) {
    for (const Answer& poll : polls) EXPECT_FALSE(poll->has_value());
    polls.push_back(send("GET", poll_target(rank, 4, 21)));
  }
  settle();
  for (const Answer& poll : polls) {
    ASSERT_TRUE(poll->has_value());
    EXPECT_EQ(json(**poll).at("from_step").as_int64(), 23);
    EXPECT_FALSE(json(**poll).contains("operations"));  // they have them
  }

  const Answer waits = send("GET", poll_target("0.0.0", 5, 30));
  EXPECT_EQ(ask("DELETE", "/api/v1/jobs/gpt/stragglers/s1").status, 204U);
  ASSERT_TRUE(waits->has_value());
  EXPECT_EQ(json(**waits).at("reason").as_string(), "recovered");
  EXPECT_EQ(json(**waits).at("from_step").as_int64(), 31);
}

TEST_F(ServiceTest, a_poll_ends_without_news_after_its_time) {
  run_job();
  const Answer poll = send("GET", poll_target("0.0.0", 3, 10, 5));
  later(4.9);
  EXPECT_FALSE(poll->has_value());
  later(0.2);
  ASSERT_TRUE(poll->has_value());
  EXPECT_EQ((*poll)->status, 204U);
  EXPECT_EQ(ask("GET", poll_target("0.0.0", 3, 10, 0)).status, 204U);
}

TEST_F(ServiceTest, a_second_poll_of_a_rank_ends_the_first) {
  run_job();
  const Answer first = send("GET", poll_target("0.0.0", 3));
  const Answer second = send("GET", poll_target("0.0.0", 3));
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ((*first)->status, 204U);
  EXPECT_FALSE(second->has_value());
}

TEST_F(ServiceTest, a_new_incarnation_ends_the_polls_of_the_old_one) {
  run_job();
  const Answer poll = send("GET", poll_target("0.0.0", 3));
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(2)).status, 200U);
  ASSERT_TRUE(poll->has_value());
  EXPECT_EQ((*poll)->status, 409U);
  EXPECT_EQ(ask("GET", poll_target("0.0.0", 3)).status, 409U);
}

TEST_F(ServiceTest, a_full_disk_holds_slow_downs_back_but_no_speed_up) {
  run_job();
  EXPECT_EQ(
      ask("POST", "/api/v1/jobs/gpt/stragglers", R"({"id":"s1","pipeline":1,"slowdown":1.25,"cause":"x"})")
          .status,
      201U);
  ask("GET", poll_target("0.0.0", 0));
  disk_full_ = true;
  const Answer poll = send("GET", poll_target("0.0.0", 4));
  EXPECT_EQ(ask("DELETE", "/api/v1/jobs/gpt/stragglers/s1").status, 503U);
  ASSERT_TRUE(poll->has_value());
  EXPECT_EQ(json(**poll).at("reason").as_string(), "recovered");
  EXPECT_EQ(ask("POST", "/api/v1/jobs/gpt/stragglers", R"({"pipeline":1,"slowdown":1.5,"cause":"x"})").status,
            503U);
}

TEST_F(ServiceTest, a_restart_finds_job_profile_plan_and_notice_and_changes_no_plan) {
  run_job();
  ask("POST", "/api/v1/jobs/gpt/stragglers", R"({"id":"s1","pipeline":1,"slowdown":1.25,"cause":"x"})");
  for (const char* rank : {"0.0.0", "0.1.0", "1.0.0", "1.1.0"}) send("GET", poll_target(rank, 4, 21));
  settle();
  const std::string before = text(ask("GET", poll_target("0.0.0", 0)));
  EXPECT_THAT(before, HasSubstr(R"("revision":5)"));
  now_ = Seconds(100);
  restart(snapshot());
  EXPECT_THAT(findings_, IsEmpty());
  // Ranks register again with the same incarnation, whatever number their messages have come to.
  EXPECT_EQ(ask("GET", poll_target("0.0.0", 5)).status, 404U);
  EXPECT_EQ(hello("0.0.0", 1, 500).status, 200U);
  EXPECT_EQ(text(ask("GET", poll_target("0.0.0", 0))), before);
  const auto job = json(ask("GET", "/api/v1/jobs/gpt"));
  EXPECT_EQ(job.at("generation").as_int64(), 2);
  EXPECT_NEAR(job.at("notices").as_array()[0].at("left_s").to_number<double>(), 500, 1);
  later(501);
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs/gpt")).at("generation").as_int64(),
            3);  // the notice ended: recovered
}

TEST_F(ServiceTest, a_damaged_plan_is_left_out_and_made_anew_under_a_higher_number) {
  run_job();
  Snapshot found = snapshot();
  found.plans[0].json = "{}";
  restart(found);
  ASSERT_EQ(findings_.size(), 1U);
  EXPECT_THAT(findings_[0], HasSubstr("what job gpt had deployed was left out: "));
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs/gpt")).at("generation").as_int64(), 2);
}

TEST_F(ServiceTest, a_bad_profile_is_refused_and_the_old_plan_stays) {
  run_job();
  const HttpResponse refused =
      ask("PUT", "/api/v1/jobs/gpt/profile", "stage,instruction,frequency,time,energy\n0,forward,0,1,1\n", {},
          "text/csv");
  EXPECT_EQ(refused.status, 400U);
  EXPECT_THAT(text(refused), HasSubstr("profile:2"));
  // One that can be read but does not cover the job: the planner says so, and nothing else changes.
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt/profile", profile_csv(1), {}, "text/csv").status, 200U);
  const auto job = json(ask("GET", "/api/v1/jobs/gpt"));
  EXPECT_THAT(std::string(job.at("planner_error").as_string()), HasSubstr("1F0"));
  EXPECT_EQ(job.at("generation").as_int64(), 1);
  EXPECT_EQ(job.at("state").as_string(), "planned");
}

TEST_F(ServiceTest, a_frontier_in_the_making_shows_how_far_it_is) {
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body()).status, 201U);
  EXPECT_TRUE(json(ask("GET", "/api/v1/jobs/gpt")).at("planner").is_null());
  const Answer uploaded = send("PUT", "/api/v1/jobs/gpt/profile", profile_csv(), {}, "text/csv");
  settle_until_answered(uploaded);
  now_ += core::Seconds(2);
  const Answer shown = send("GET", "/api/v1/jobs/gpt");
  const auto job = json(**shown);
  EXPECT_EQ(job.at("state").as_string(), "planning");
  const auto& planner = job.at("planner").as_object();
  EXPECT_FALSE(planner.at("running").as_bool());  // it waits in the test's queue
  EXPECT_EQ(planner.at("done_pct").to_number<double>(), 0);
  EXPECT_EQ(planner.at("elapsed_s").to_number<double>(), 2);
  settle();
  EXPECT_TRUE(json(ask("GET", "/api/v1/jobs/gpt")).at("planner").is_null());
}

TEST_F(ServiceTest, a_solve_that_nobody_waits_for_is_stopped) {
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body()).status, 201U);
  // Every solve looks at its stop before it begins: the older one of two profiles is not worth its time.
  const Answer first = send("PUT", "/api/v1/jobs/gpt/profile", profile_csv(), {}, "text/csv");
  const Answer second = send("PUT", "/api/v1/jobs/gpt/profile", profile_csv() + "\n", {}, "text/csv");
  settle();
  EXPECT_EQ((*first)->status, 200U);
  EXPECT_EQ((*second)->status, 200U);
  const auto job = json(ask("GET", "/api/v1/jobs/gpt"));
  EXPECT_EQ(job.at("state").as_string(), "planned");
  EXPECT_TRUE(job.at("planner_error").is_null()) << "what was stopped is no failure";
  // A server that stops ends them all; what is left undone is not reported as a failure of the planner.
  const Answer last = send("PUT", "/api/v1/jobs/gpt/profile", profile_csv() + "\n\n", {}, "text/csv");
  settle_until_answered(last);
  service_->wind_up();
  settle();
  EXPECT_TRUE(json(ask("GET", "/api/v1/jobs/gpt")).at("planner_error").is_null());
}

TEST_F(ServiceTest, the_guard_is_baseline_for_all_until_it_is_released) {
  run_job();
  for (const char* rank : {"0.0.0", "0.1.0", "1.1.0"}) send("GET", poll_target(rank, 3));
  const Answer poll = send("GET", poll_target("1.0.0", 3));
  EXPECT_EQ(
      ask("POST", "/api/v1/jobs/gpt/ranks/0.1.0/guard",
          R"({"incarnation":1,"sequence":2,"generation":1,"promised_time_s":1,"measured_time_s":1.2,"iterations":5})")
          .status,
      200U);
  ASSERT_TRUE(poll->has_value());
  EXPECT_TRUE(json(**poll).at("baseline").as_bool());
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs/gpt")).at("state").as_string(), "guarded");
  EXPECT_EQ(ask("DELETE", "/api/v1/jobs/gpt/guard").status, 204U);
  EXPECT_FALSE(json(ask("GET", poll_target("1.0.0", 0))).at("baseline").as_bool());
}

TEST_F(ServiceTest, predicted_and_measured_stand_side_by_side) {
  run_job();
  std::uint64_t sequence = 2;
  for (const char* rank : {"0.0.0", "0.1.0", "1.0.0", "1.1.0"}) {
    EXPECT_EQ(
        ask("POST", fmt::format("/api/v1/jobs/gpt/ranks/{}/measurements", rank),
            fmt::format(
                R"({{"incarnation":1,"sequence":{},"generation":1,"step":12,"iteration_time_s":0.5,"energy_j":50}})",
                sequence))
            .status,
        200U);
  }
  const auto job = json(ask("GET", "/api/v1/jobs/gpt"));
  EXPECT_EQ(job.at("measured").at("time_s").as_double(), 0.5);
  EXPECT_EQ(job.at("measured").at("energy_j").to_number<double>(), 200);
  EXPECT_GT(job.at("predicted").at("energy_j").as_double(), 0);
  EXPECT_EQ(job.at("measured_by_pipeline_rank").as_array()[1].at("energy_j").to_number<double>(), 100);
  EXPECT_THAT(text(ask("GET", "/metrics")),
              HasSubstr("perseus_job_iteration_seconds{job=\"gpt\",origin=\"measured\"} 0.5\n"));
}

TEST_F(ServiceTest, tokens_of_a_job_reach_that_job_only) {
  run_job();
  ASSERT_EQ(ask("PUT", "/api/v1/jobs/bloom", registration_body()).status, 201U);
  const Principal gpt{Role::kJob, "gpt"};
  const Principal reader{Role::kRead, ""};
  EXPECT_EQ(ask("GET", "/api/v1/jobs/gpt", "", gpt).status, 200U);
  EXPECT_EQ(ask("GET", "/api/v1/jobs/bloom", "", gpt).status, 403U);
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/bloom", registration_body(2), gpt).status, 403U);
  EXPECT_EQ(ask("GET", "/metrics", "", gpt).status, 403U);
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs", "", gpt)).at("jobs").as_array().size(), 1U);
  EXPECT_EQ(ask("GET", "/api/v1/jobs/bloom", "", reader).status, 200U);
  EXPECT_EQ(ask("DELETE", "/api/v1/jobs/bloom", "", reader).status, 403U);
  EXPECT_EQ(ask("GET", poll_target("0.0.0", 0), "", reader).status, 403U);
}

TEST_F(ServiceTest, odd_requests_are_refused_with_a_reason) {
  run_job();
  const auto refusal = [&](const std::string& method, const std::string& target,
                           const std::string& body = "") {
    const HttpResponse answer = ask(method, target, body);
    return fmt::format("{} {}", answer.status,
                       std::string(json(answer).at("error").at("message").as_string()));
  };
  EXPECT_EQ(refusal("GET", "/nowhere"), "404 there is nothing at this path");
  EXPECT_EQ(refusal("POST", "/api/v1/jobs"), "405 this path takes GET");
  EXPECT_EQ(refusal("GET", "/api/v1/jobs/none"), "404 there is no job none");
  EXPECT_EQ(refusal("GET", "/api/v1/jobs/%2e%2e%2fx"),
            "400 \"../x\" is no name of a job: 1 to 128 of A-Z a-z 0-9 . _ + -, a letter or digit first");
  EXPECT_EQ(refusal("GET", "/api/v1/jobs/gpt/frontier?points=0"),
            "400 query parameter 'points' is 0; 1 to 1000");
  EXPECT_EQ(refusal("GET", "/api/v1/jobs/gpt/frontier?colour=red"), "400 unknown query parameter \"colour\"");
  EXPECT_EQ(refusal("GET", "/api/v1/jobs/gpt/plan?pipeline=2"), "404 no plan is deployed there");
  EXPECT_EQ(refusal("DELETE", "/api/v1/jobs/gpt/stragglers/none"), "404 there is no notice \"none\"");
  EXPECT_EQ(refusal("POST", "/api/v1/jobs/gpt/stragglers",
                    R"({"pipeline":0,"slowdown":2,"cause":"x","until":"1970-01-01T00:00:00Z"})"),
            "400 the notice would end in -1000 s; it must be within 0 to 604800 s");
  EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(), {}, "text/plain").status, 400U);
}

TEST_F(ServiceTest, the_frontier_runs_from_t_min_to_t_star) {
  run_job();
  const auto frontier = json(ask("GET", "/api/v1/jobs/gpt/frontier?points=5"));
  const auto& points = frontier.at("points").as_array();
  ASSERT_EQ(points.size(), 5U);
  EXPECT_EQ(points.front().at("target_time_s"), frontier.at("t_min_s"));
  EXPECT_EQ(points.back().at("target_time_s"), frontier.at("t_star_s"));
  for (std::size_t i = 1; i < points.size(); ++i) {
    EXPECT_LE(points[i].at("lower_bound_j").as_double(), points[i - 1].at("lower_bound_j").as_double());
  }
}

TEST_F(ServiceTest, the_end_of_a_job_takes_its_plans_back_and_keeps_its_results) {
  run_job();
  const Answer poll = send("GET", poll_target("0.0.0", 3));
  EXPECT_EQ(ask("DELETE", "/api/v1/jobs/gpt").status, 200U);
  ASSERT_TRUE(poll->has_value());
  EXPECT_TRUE(json(**poll).at("baseline").as_bool());
  restart(snapshot());
  EXPECT_EQ(json(ask("GET", "/api/v1/jobs/gpt")).at("state").as_string(), "ended");
}

/// Zeus's side of the service.
class ZeusTest : public ServiceTest {
 protected:
  Answer zeus_send(const std::string& method, const std::string& target, const std::string& body = "") {
    auto answer = std::make_shared<std::optional<HttpResponse>>();
    service_->handle_zeus({method, *parse_target(target), "application/json", body},
                          [answer](HttpResponse response) { *answer = std::move(response); });
    settle();
    return answer;
  }
  HttpResponse zeus(const std::string& method, const std::string& target, const std::string& body = "") {
    return zeus_send(method, target, body)->value_or(HttpResponse{.status = 0});
  }
  std::string register_zeus(const std::string& metadata = "gpt") {
    const HttpResponse answer = zeus("POST", "/register_job", job_info(metadata));
    EXPECT_EQ(answer.status, 200U) << text(answer);
    return std::string(boost::json::parse(text(answer)).as_string());
  }
  static std::string job_info(const std::string& metadata, unsigned pp = 2) {
    return fmt::format(
        R"({{"job_id":"","pp_degree":{},"dp_degree":2,"tp_degree":1,"world_size":{},"job_metadata":"{}"}})",
        pp, 2 * pp, metadata);
  }
  static std::string rank_info(unsigned rank, const std::string& more = "") {
    return fmt::format(
        R"({{"rank":{},"dp_rank":{},"pp_rank":{},"tp_rank":0,"available_frequencies":[1410,1200,990,780]{}}})",
        rank, rank / 2, rank % 2, more);
  }
};

TEST_F(ZeusTest, all_ranks_get_their_rows_when_the_last_has_asked) {
  run_job();
  const std::string id = register_zeus();
  EXPECT_THAT(id, testing::MatchesRegex(R"(1970-01-01-00-16-40\+dp2\+pp2\+tp1\+Perseus\+gpt\+1)"));
  std::vector<Answer> waiting;
  for (unsigned rank = 0; rank < 4; ++rank) {
    // v0.12's clients send a pipe_schedule beside the rest.
    const HttpResponse done =
        zeus("POST", "/register_rank/" + id, rank_info(rank, R"(,"pipe_schedule":["forward",{"x":[1]}])"));
    EXPECT_EQ(done.status, 200U);
    EXPECT_EQ(text(done), "null");
  }
  for (unsigned rank = 0; rank < 4; ++rank) {
    for (const Answer& answer : waiting) EXPECT_FALSE(answer->has_value());
    waiting.push_back(zeus_send("GET", fmt::format("/schedule/{}?rank={}", id, rank)));
  }
  for (const Answer& answer : waiting) ASSERT_TRUE(answer->has_value());
  EXPECT_THAT(text(**waiting[1]),
              testing::StartsWith(R"({"rank":1,"frequencies":[["forward",1410],["backward",1410],)"));
  EXPECT_EQ(json(**waiting[2]).at("frequencies").as_array().size(), 8U);
  // A restarted rank asks again and need not wait for the others.
  EXPECT_EQ(text(zeus("GET", fmt::format("/schedule/{}?rank=1", id))), text(**waiting[1]));
  EXPECT_EQ(text(zeus("POST", "/result/" + id,
                      R"({"rank":0,"iter_time":[1.5],"time_breakdown":{"forward":[[1]]}})")),
            "null");
}

TEST_F(ZeusTest, a_straggler_changes_what_a_restarted_rank_gets) {
  run_job();
  const std::string id = register_zeus();
  for (unsigned rank = 0; rank < 4; ++rank) zeus("POST", "/register_rank/" + id, rank_info(rank));
  std::vector<Answer> first;
  for (unsigned rank = 0; rank < 4; ++rank)
    first.push_back(zeus_send("GET", fmt::format("/schedule/{}?rank={}", id, rank)));
  ask("POST", "/api/v1/jobs/gpt/stragglers", R"({"pipeline":1,"slowdown":1.3,"cause":"x"})");
  EXPECT_NE(text(zeus("GET", fmt::format("/schedule/{}?rank=0", id))), text(**first[0]));
  EXPECT_EQ(text(zeus("GET", fmt::format("/schedule/{}?rank=2", id))), text(**first[2]));
}

TEST_F(ZeusTest, what_does_not_fit_is_refused_in_zeus_s_form) {
  run_job();
  const auto refusal = [&](const std::string& body) {
    const HttpResponse answer = zeus("POST", "/register_job", body);
    return fmt::format("{} {}", answer.status, text(answer));
  };
  EXPECT_EQ(
      refusal("{}"),
      R"(422 {"detail":[{"loc":["body"],"msg":"body:1:1: member \"job_id\" is missing","type":"value_error"}]})");
  EXPECT_EQ(refusal(job_info("none")),
            "400 {\"detail\":\"job_metadata is \\\"none\\\"; it must name a job that was registered under "
            "/api/v1/jobs, since Zeus's protocol tells neither schedule nor profile\"}");
  EXPECT_EQ(refusal(job_info("gpt", 4)), R"(400 {"detail":"pp, dp, tp are 4, 2, 1; job gpt has 2, 2, 1"})");
  EXPECT_EQ(zeus("GET", "/schedule/none?rank=0").status, 404U);
  EXPECT_EQ(zeus("GET", "/info").status, 404U);
  EXPECT_EQ(zeus("GET", "/register_job").status, 405U);
  const std::string id = register_zeus("gpt@" + std::string(8, '0'));
  for (unsigned rank = 0; rank < 4; ++rank) zeus("POST", "/register_rank/" + id, rank_info(rank));
  std::vector<Answer> answers;
  for (unsigned rank = 0; rank < 4; ++rank)
    answers.push_back(zeus_send("GET", fmt::format("/schedule/{}?rank={}", id, rank)));
  for (const Answer& answer : answers) {
    ASSERT_TRUE(answer->has_value());
    EXPECT_EQ((*answer)->status, 400U);
    EXPECT_THAT(text(**answer), HasSubstr("job gpt is planned from profile "));
  }
}

TEST_F(ZeusTest, a_clock_that_a_gpu_lacks_is_named) {
  run_job();
  const std::string id = register_zeus();
  std::vector<Answer> answers;
  for (unsigned rank = 0; rank < 4; ++rank) {
    zeus("POST", "/register_rank/" + id,
         fmt::format(R"({{"rank":{},"dp_rank":{},"pp_rank":{},"tp_rank":0,"available_frequencies":[1980]}})",
                     rank, rank / 2, rank % 2));
  }
  for (unsigned rank = 0; rank < 4; ++rank)
    answers.push_back(zeus_send("GET", fmt::format("/schedule/{}?rank={}", id, rank)));
  EXPECT_THAT(text(**answers[1]), HasSubstr("asks for 1410 MHz, which rank 1 does not offer"));
}

}  // namespace
}  // namespace perseus::server
