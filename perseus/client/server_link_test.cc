// SPDX-License-Identifier: Apache-2.0
//
// The link's conversation with a server that does as it should, or forgets, refuses and begins anew; its end.
#include "perseus/client/server_link.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <filesystem>

#include "perseus/client/test_link.h"

namespace perseus::client {
namespace {

using core::Megahertz;
using core::Seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;
using Action = TestHttpServer::Action;
using Request = TestHttpServer::Request;

// ---- The conversation as it should be

TEST_F(ServerLinkTest, registers_says_hello_follows_plans_and_says_goodbye) {
  PlanServer server;
  ServerLink& link = open(server.http().url());
  link.at_step(7);
  server.set_plan(plan(1, std::nullopt));
  listener_.wait_for_plans(1);
  server.set_plan(plan(1, 9), true);  // the agreed step, without operations
  listener_.wait_for_plans(2);
  link.stop(10s);

  const auto plans = listener_.plans();
  EXPECT_EQ(*plans[0], plan(1, std::nullopt));
  EXPECT_EQ(*plans[1], plan(1, 9));
  const auto requests = server.http().requests();
  EXPECT_EQ(requests[0].method + " " + requests[0].target, "PUT /api/v1/jobs/gpt");
  EXPECT_EQ(requests[1].method + " " + requests[1].target, "POST /api/v1/jobs/gpt/ranks");
  EXPECT_THAT(requests[1].body, HasSubstr(R"("rank":"0.0.0")"));
  const auto polls = server.http().requests_to("/plan");
  EXPECT_THAT(polls[0].target, HasSubstr("/api/v1/jobs/gpt/ranks/0.0.0/plan?incarnation=1&have=0&step="));
  EXPECT_THAT(polls[0].target, testing::EndsWith("&wait_s=55"));
  EXPECT_THAT(polls[1].target, HasSubstr("have=2&step=7"));
  const auto leave = server.http().requests_to("/leave");
  ASSERT_EQ(leave.size(), 1U);
  EXPECT_EQ(leave[0].body,
            fmt::format(R"({{"incarnation":1,"sequence":{},"step":7}})", sequence_of(requests[1]) + 1));
  EXPECT_EQ(polls[0].connection, polls[1].connection);  // one connection each
  EXPECT_EQ(leave[0].connection, requests[0].connection);
  EXPECT_NE(leave[0].connection, polls[0].connection);
  const auto counters = link.counters();
  EXPECT_EQ(counters.failures + counters.refused_answers + counters.dropped_reports, 0U);
  EXPECT_TRUE(lines().empty());
}

TEST_F(ServerLinkTest, other_ranks_say_hello_until_the_job_is_registered) {
  std::atomic<int> hellos = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (r.target.ends_with("/ranks") && ++hellos < 4) return TestHttpServer::answer(404);
    return std::nullopt;
  });
  ServerLinkOptions o = options();
  o.place = {.dp = 1, .pp = 0, .tp = 0};
  server.set_plan(plan(1, 0));
  open(server.http().url(), o);
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  EXPECT_EQ(hellos, 4);
  for (const Request& r : server.http().requests()) EXPECT_NE(r.method, "PUT");
  EXPECT_THAT(lines(), ElementsAre("job gpt is not registered yet; waiting for rank 0.0.0"));
  EXPECT_EQ(link_->counters().failures, 0U);
}

TEST_F(ServerLinkTest, renews_at_a_third_of_what_the_server_grants) {
  PlanServer server([](const Request& r) -> std::optional<Action> {
    if (is_poll(r)) return std::nullopt;
    return TestHttpServer::answer(200, R"({"applied":true,"revision":0,"rank_ttl_s":0.3})");
  });
  ServerLink& link = open(server.http().url());
  link.at_step(3);
  server.http().wait_for("/renew", 3);
  const auto renewals = server.http().requests_to("/renew");
  EXPECT_LT(sequence_of(renewals[0]), sequence_of(renewals[1]));
  EXPECT_THAT(renewals[2].body, testing::EndsWith(R"("step":3})"));
  listener_.wait_for_contacts(3);  // hello and renewals
}

TEST_F(ServerLinkTest, the_gpu_may_become_known_later) {
  PlanServer server;
  ServerLink& link = open(server.http().url());
  server.http().wait_for("/ranks", 1);
  link.set_gpu({.uuid = "GPU-1", .clocks = {Megahertz(1410)}, .clock_control = true});
  server.http().wait_for("/ranks", 2);
  link.set_gpu({.uuid = "GPU-1", .clocks = {Megahertz(1410)}, .clock_control = true});  // no news
  link.stop(10s);
  const auto hellos = server.http().requests_to("/ranks");
  ASSERT_EQ(hellos.size(), 2U);
  EXPECT_THAT(hellos[0].body, testing::Not(HasSubstr("gpu_uuid")));
  EXPECT_THAT(hellos[1].body, HasSubstr(R"("gpu_uuid":"GPU-1","clocks_mhz":[1410],"clock_control":true)"));
}

TEST_F(ServerLinkTest, proxy_variables_are_not_looked_at) {
  for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy"}) setenv(name, "http://127.0.0.1:1", 1);
  PlanServer server;
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(1);
  EXPECT_EQ(link_->counters().failures, 0U);
  for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy"}) unsetenv(name);
}

// ---- Reports

TEST_F(ServerLinkTest, reports_wait_for_the_server_and_of_too_many_the_oldest_are_dropped) {
  std::atomic<bool> open_now = false;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!open_now && !is_poll(r)) return TestHttpServer::answer(503, "{}");
    return std::nullopt;
  });
  ServerLink& link = open(server.http().url());
  for (std::uint64_t step = 0; step < 300; ++step) link.report(report_of(step));
  EXPECT_EQ(link.counters().dropped_reports, 44U);
  open_now = true;
  server.http().wait_for("/measurements", 256);
  link.stop(10s);
  const auto reports = server.http().requests_to("/measurements");
  ASSERT_EQ(reports.size(), 256U);
  for (std::size_t i = 0; i < reports.size(); ++i) {
    EXPECT_THAT(reports[i].body, HasSubstr(fmt::format("\"step\":{},", i + 44)));
    if (i != 0) {
      EXPECT_LT(sequence_of(reports[i - 1]), sequence_of(reports[i]));
    }
  }
}

TEST_F(ServerLinkTest, a_report_whose_answer_was_lost_is_said_again_with_its_number) {
  std::atomic<int> tries = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!r.target.ends_with("/measurements")) return std::nullopt;
    ++tries;
    if (tries == 1) return TestHttpServer::bytes("HTTP/1.1 200 OK\r\n");
    if (tries == 2) return TestHttpServer::answer(503);
    return std::nullopt;
  });
  ServerLink& link = open(server.http().url());
  link.report(report_of(1));
  link.report(report_of(2));
  server.http().wait_for("/measurements", 4);
  link.stop(10s);
  const auto reports = server.http().requests_to("/measurements");
  ASSERT_EQ(reports.size(), 4U);
  EXPECT_EQ(reports[0].body, reports[1].body);
  EXPECT_EQ(reports[0].body, reports[2].body);
  EXPECT_EQ(sequence_of(reports[3]), sequence_of(reports[0]) + 1);
  EXPECT_EQ(link.counters().failures, 2U);
}

TEST_F(ServerLinkTest, a_report_that_the_server_does_not_take_is_dropped) {
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (r.target.ends_with("/guard")) return TestHttpServer::answer(400, R"({"message":"no"})");
    if (r.target.ends_with("/windows")) return TestHttpServer::answer(404, R"({"message":"nothing here"})");
    return std::nullopt;
  });
  ServerLink& link = open(server.http().url());
  link.report(GuardTripReport{1, Seconds(1), Seconds(2), 3});
  link.report(WindowReport{.generation = 1, .iterations = 1, .iteration_time = Seconds(1)});
  link.report(report_of(1));
  server.http().wait_for("/measurements", 1);
  link.stop(10s);
  EXPECT_EQ(link.counters().dropped_reports, 2U);
  // 404 may mean that the rank is not known: it says hello and tries once more.
  EXPECT_EQ(server.http().requests_to("/windows").size(), 2U);
  EXPECT_EQ(server.http().requests_to("/ranks").size(), 2U);
  EXPECT_THAT(lines(), ElementsAre("the server does not take a report to guard (400: no)",
                                   "the server does not take a report to windows (404: nothing here)"));
}

TEST_F(ServerLinkTest, what_waits_at_the_end_is_said_before_goodbye) {
  PlanServer server;
  ServerLink& link = open(server.http().url());
  server.http().wait_for("/plan", 1);
  for (std::uint64_t step = 0; step < 20; ++step) link.report(report_of(step));
  link.stop(10s);
  EXPECT_EQ(server.http().requests_to("/measurements").size(), 20U);
  const auto requests = server.http().requests();
  EXPECT_TRUE(requests.back().target.ends_with("/leave"));
}

// ---- A server that forgets, refuses or begins anew

TEST_F(ServerLinkTest, a_forgotten_rank_says_hello_again_and_keeps_its_plan) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (is_poll(r) && ++polls == 2) return TestHttpServer::answer(404, "{}");
    return std::nullopt;
  });
  server.set_plan(plan(3, 0));
  open(server.http().url());
  server.http().wait_for("/plan", 4);  // news, 404, asks for everything, waits
  link_->stop(10s);
  const auto hellos = server.http().requests_to("/ranks");
  ASSERT_EQ(hellos.size(), 2U);
  EXPECT_LT(sequence_of(hellos[0]), sequence_of(hellos[1]));
  EXPECT_THAT(hellos[1].body, HasSubstr(R"("incarnation":1)"));
  const auto asked = server.http().requests_to("/plan");
  EXPECT_EQ(have_of(asked[1]), 7U);
  EXPECT_EQ(have_of(asked[2]), 0U);
  EXPECT_EQ(have_of(asked[3]), 7U);
  EXPECT_EQ(listener_.plans().size(), 1U);  // the same plan is no news
  EXPECT_TRUE(listener_.refusals().empty());
}

TEST_F(ServerLinkTest, an_older_revision_is_dropped_unless_the_server_began_anew) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!is_poll(r)) return std::nullopt;
    switch (++polls) {
      case 1:
        return TestHttpServer::answer(200, rank_plan_text(plan(5, 0)));
      case 2:
        return TestHttpServer::answer(200, rank_plan_text(plan(4, 0)));  // late
      case 3:
        return TestHttpServer::answer(404);
      default:
        return std::nullopt;
    }
  });
  server.set_plan(plan(1, 0));  // as after the loss of its store
  open(server.http().url());
  listener_.wait_for_plans(2);
  link_->stop(0ms);
  EXPECT_EQ(*listener_.plans()[0], plan(5, 0));
  EXPECT_EQ(*listener_.plans()[1], plan(1, 0));
  EXPECT_EQ(link_->counters().refused_answers, 1U);
}

TEST_F(ServerLinkTest, sequences_go_on_above_what_the_server_has_seen) {
  constexpr std::uint64_t kSeen = std::uint64_t{1} << 45U;  // a clock ahead by a thousand years
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!r.target.ends_with("/ranks") || sequence_of(r) > kSeen) return std::nullopt;
    return TestHttpServer::answer(200, R"({"applied":false,"revision":0,"rank_ttl_s":30})");
  });
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(1);
  const auto hellos = server.http().requests_to("/ranks");
  ASSERT_GT(hellos.size(), 2U);
  EXPECT_EQ(sequence_of(hellos[1]) - sequence_of(hellos[0]), (std::uint64_t{1} << 32U) + 1);
  EXPECT_EQ(sequence_of(hellos[2]) - sequence_of(hellos[1]), (std::uint64_t{1} << 33U) + 1);
  EXPECT_LT(sequence_of(hellos.back()), std::uint64_t{1} << 47U);
}

TEST_F(ServerLinkTest, a_server_that_never_takes_a_hello_is_not_asked_in_a_tight_loop) {
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!r.target.ends_with("/ranks")) return std::nullopt;
    return TestHttpServer::answer(200, R"({"applied":false,"revision":0,"rank_ttl_s":30})");
  });
  open(server.http().url());
  wait_for_counters([](const auto& c) { return c.refused_answers >= 1; });
  link_->stop(0ms);
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("hello is not taken, whatever its sequence")));
  EXPECT_EQ(listener_.contacts(), 0);
}

TEST_F(ServerLinkTest, a_refusal_is_told_once_and_asked_about_again) {
  std::atomic<int> hellos = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (r.target.ends_with("/ranks") && ++hellos <= 3) {
      return TestHttpServer::answer(409, R"({"error":{"code":"busy","message":"incarnation 1 is over"}})");
    }
    return std::nullopt;
  });
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  EXPECT_EQ(hellos, 4);
  EXPECT_THAT(listener_.refusals(), ElementsAre("409: incarnation 1 is over"));
  EXPECT_THAT(lines(),
              ElementsAre(fmt::format("the server at {} refuses this rank (409: incarnation 1 is over)",
                                      server.http().url())));
  EXPECT_EQ(link_->counters().failures, 0U);
}

TEST_F(ServerLinkTest, a_plan_that_waits_ends_with_the_incarnation) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (is_poll(r) && ++polls == 2) return TestHttpServer::answer(409, R"({"message":"over"})");
    if (polls >= 2) return TestHttpServer::answer(409, R"({"message":"over"})");
    return std::nullopt;
  });
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_refusals(1);
  server.http().wait_for("/ranks", 3);
  EXPECT_THAT(listener_.refusals(), ElementsAre("409: over"));
}

TEST_F(ServerLinkTest, a_rank_that_is_taken_again_hears_its_plan_again) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (is_poll(r) && ++polls == 2) return TestHttpServer::answer(403, R"({"message":"not for this"})");
    return std::nullopt;
  });
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(2);
  link_->stop(0ms);
  EXPECT_THAT(listener_.refusals(), ElementsAre("403: not for this"));
  EXPECT_EQ(*listener_.plans()[0], *listener_.plans()[1]);
}

TEST_F(ServerLinkTest, a_token_that_was_replaced_is_read_again) {
  const std::string old(32, 'a');
  const std::string fresh(32, 'b');
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (r.authorization == "Bearer " + fresh) return std::nullopt;
    return TestHttpServer::answer(401, R"({"message":"a bearer token is needed"})");
  });
  server.set_plan(plan(1, 0));
  ServerLinkOptions o = options();
  o.server.token_file = token_file(old);
  open(server.http().url(), o);
  listener_.wait_for_refusals(1);
  EXPECT_EQ(server.http().requests()[0].authorization, "Bearer " + old);
  token_file(fresh);
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  EXPECT_THAT(listener_.refusals(), ElementsAre("401: a bearer token is needed"));
  for (const std::string& line : lines()) {
    EXPECT_THAT(line, testing::Not(testing::AnyOf(HasSubstr(old), HasSubstr(fresh))));
  }
  ::unlink(o.server.token_file.c_str());
}

// ---- Ends

TEST_F(ServerLinkTest, stop_does_not_wait_for_a_server_that_hangs) {
  const TestHttpServer server([](const Request&) { return TestHttpServer::hang(); });
  open(server.url());
  server.wait_for("/gpt", 1);
  link_->stop(10ms);
  link_->stop(10ms);
  EXPECT_EQ(listener_.contacts(), 0);
}

TEST_F(ServerLinkTest, stop_before_start_and_start_after_stop_do_nothing) {
  ServerLinkOptions o = options();
  o.server.url = "http://127.0.0.1:1";
  auto link = make_server_link(o);
  ASSERT_TRUE(link);
  (*link)->report(report_of(1));
  (*link)->stop(1s);
  (*link)->start(listener_);
  EXPECT_EQ((*link)->counters().failures, 0U);
}

TEST_F(ServerLinkTest, a_name_that_nobody_knows_is_a_failure_like_others) {
  open("http://no-such-host.invalid:7787");
  wait_for_counters([](const auto& c) { return c.failures >= 2; });
  link_->stop(0ms);
  EXPECT_THAT(lines().at(0), HasSubstr("no-such-host.invalid"));
}

TEST_F(ServerLinkTest, sockets_are_closed_on_exec_and_in_children_of_fork) {
  PlanServer server;
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(1);
  server.http().wait_for("/plan", 2);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    if (fd <= 2 || !std::filesystem::is_socket(std::filesystem::status(entry.path()))) continue;
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << fd;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    // Nothing here may wait for the thread, which only the parent has.
    link_->at_step(1);
    link_->report(report_of(1));
    link_->set_gpu({.uuid = "GPU-2"});
    link_->stop(1s);
    link_.reset();
    ::_exit(7);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 7);
  // The parent's link goes on.
  server.set_plan(plan(2, 0));
  listener_.wait_for_plans(2);
  EXPECT_EQ(link_->counters().failures, 0U);
}

TEST_F(ServerLinkTest, its_thread_takes_no_signals) {
  PlanServer server;
  open(server.http().url());
  server.http().wait_for("/ranks", 1);
  int found = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "status");
    std::string name;
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Name:")) name = line.substr(6);
      // All but SIGKILL, SIGSTOP and the two that the C library keeps for itself.
      if (line.starts_with("SigBlk:") && name == "perseus-link") {
        ++found;
        EXPECT_EQ(std::stoull(line.substr(8), nullptr, 16), 0xfffffffe7ffbfeffULL) << line;
      }
    }
  }
  EXPECT_EQ(found, 1);
}

TEST_F(ServerLinkTest, stop_does_not_wait_for_a_host_that_swallows_everything) {
  // TEST-NET-1 (RFC 5737): nobody is there. The token would go there in the clear, which is said.
  ServerLinkOptions o = options();
  o.server.token_file = token_file(std::string(32, 'a'));
  open("http://192.0.2.1:7787", o);
  link_->stop(1ms);
  ASSERT_FALSE(lines().empty());
  EXPECT_EQ(lines()[0], "the token travels unencrypted to http://192.0.2.1:7787: use https");
  ::unlink(o.server.token_file.c_str());
}

// ---- Options

std::string refusal(const std::function<void(ServerLinkOptions&)>& change) {
  ServerLinkOptions o = options();
  o.server.url = "http://127.0.0.1:7787";
  change(o);
  const auto link = make_server_link(std::move(o));
  return link ? "accepted" : link.error().text();
}

TEST(ServerLinkOptions, what_makes_no_sense_is_refused) {
  EXPECT_EQ(refusal([](ServerLinkOptions&) {}), "accepted");
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.server.url = "ftp://x"; }),
            "\"ftp://x\" is no server: http://HOST:PORT or https://HOST:PORT");
  EXPECT_THAT(refusal([](ServerLinkOptions& o) { o.job.name = "../gpt"; }),
              testing::StartsWith("\"../gpt\" is no name of a job"));
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.job.incarnation = 0; }),
            "server link: incarnation 0 is outside 1 to 9007199254740991");
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.place.pp = 2; }),
            "server link: there is no rank 0.2.0 in a job of 2 pipelines x 2 ranks x 1 GPUs");
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.job.blocking_power.resize(3); }),
            "server link: 3 blocking powers for 2 pipeline ranks");
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.job.fingerprint = "a\nb"; }),
            "server link: the fingerprint \"a\\nb\" is not 1 to 128 printable characters");
  EXPECT_EQ(refusal([](ServerLinkOptions& o) { o.server.token_file = "/nowhere/token"; }),
            "/nowhere/token: No such file or directory");
  const std::string open_file = token_file(std::string(32, 'a'), 0644);
  EXPECT_EQ(refusal([&](ServerLinkOptions& o) { o.server.token_file = open_file; }),
            open_file + ": has mode 0644; tokens need 0600 or less");
  const std::string short_token = token_file("abc");
  EXPECT_EQ(refusal([&](ServerLinkOptions& o) { o.server.token_file = short_token; }),
            short_token + ": does not hold a token in its first line");
  ::unlink(open_file.c_str());
  EXPECT_THAT(refusal([](ServerLinkOptions& o) {
                o.server.url = "https://localhost";
                o.server.ca_file = "/nowhere/ca.pem";
              }),
              testing::StartsWith("/nowhere/ca.pem: no authorities could be read"));
}

TEST(ServerLinkOptions, the_environment_names_server_token_and_authorities) {
  EXPECT_EQ(server_from_environment().url, "");
  setenv("PERSEUS_SERVER", "https://head", 1);
  setenv("PERSEUS_TOKEN_FILE", "/t", 1);
  setenv("PERSEUS_CA_FILE", "/c", 1);
  const ServerAddress address = server_from_environment();
  EXPECT_EQ(address.url, "https://head");
  EXPECT_EQ(address.token_file, "/t");
  EXPECT_EQ(address.ca_file, "/c");
  for (const char* name : {"PERSEUS_SERVER", "PERSEUS_TOKEN_FILE", "PERSEUS_CA_FILE"}) unsetenv(name);
}

}  // namespace
}  // namespace perseus::client
