// SPDX-License-Identifier: Apache-2.0
//
// The link against servers that do not do what they should.
#include "perseus/client/server_link.h"
#include "perseus/client/test_link.h"

namespace perseus::client {
namespace {

using core::Seconds;
using testing::HasSubstr;
using namespace std::chrono_literals;
using Action = TestHttpServer::Action;
using Request = TestHttpServer::Request;

// ---- A server that does not do what it should

/// What a poll is answered with, what must be counted, and a part of what the log says.
struct Misbehaviour {
  const char* name;
  std::function<Action()> act;
  bool nonsense;  ///< counted as an answer that makes no sense; else as a failure
  const char* line;
};

void PrintTo(const Misbehaviour& m,
             std::ostream* out) {  // NOLINT(readability-identifier-naming): googletest's
  *out << m.name;
}

Misbehaviour body(const char* name, const std::function<void(RankPlan&)>& change, const char* line) {
  RankPlan changed = plan(1, 0);
  change(changed);
  return {name, [text = rank_plan_text(changed)] { return TestHttpServer::answer(200, text); }, true, line};
}

std::vector<Misbehaviour> misbehaviours() {
  using Server = TestHttpServer;
  return {
      {"no_http", [] { return Server::bytes("SSH-2.0-OpenSSH_9.2\r\n\r\n"); }, true, "not HTTP"},
      {"binary", [] { return Server::bytes(std::string(3000, '\xa5')); }, true, "not HTTP"},
      {"no_json", [] { return Server::answer(200, "<html>"); }, true, "where an object must stand"},
      {"html", [] { return Action{Server::message(200, "<html>", "", "text/html")}; }, true,
       "the answer is \"text/html\", not application/json"},
      {"redirect", [] { return Server::answer(302, "", "Location: http://127.0.0.1:1/\r\n"); }, true,
       "the server answers 302, which is not followed"},
      {"other_success", [] { return Server::answer(206, "{}"); }, true, "206"},
      {"ten_gigabytes",
       [] {
         return Server::bytes(
             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n{");
       },
       true, "body limit exceeded"},
      {"endless_chunks",
       [] {
         std::string chunks =
             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
         for (int i = 0; i < 40; ++i) chunks += "80000\r\n" + std::string(0x80000, ' ') + "\r\n";
         return Server::bytes(chunks);
       },
       true, "body limit exceeded"},
      {"endless_head", [] { return Server::bytes("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x')); },
       true, "header limit exceeded"},
      {"closes", [] { return Server::close(); }, false, ""},
      {"cut_off_head", [] { return Server::bytes("HTTP/1.1 200 OK\r\nContent-"); }, false, "partial message"},
      {"cut_off_body",
       [] {
         return Server::bytes(
             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
       },
       false, "partial message"},
      {"unavailable", [] { return Server::answer(503, R"({"message":"disk full"})", "Retry-After: 0\r\n"); },
       false, "503: disk full"},
      {"too_many", [] { return Server::answer(429, ""); }, false, "429: nothing more"},
      body(
          "other_job", [](RankPlan& p) { p.job = "bert"; }, "a plan of job bert, not gpt"),
      body(
          "other_incarnation", [](RankPlan& p) { p.incarnation = 2; }, "a plan of incarnation 2, not 1"),
      body(
          "other_schedule", [](RankPlan& p) { p.schedule_sha256 = std::string(64, 'f'); },
          "a plan for schedule ffffffff"),
      body(
          "wrong_revision", [](RankPlan& p) { p.revision = 9; }, "revision 9 does not fit generation 1"),
      {"nothing_to_complete", [] { return Server::answer(200, rank_plan_text(plan(1, 0), true)); }, true,
       "generation 1 came without operations, and this rank has none"},
  };
}

class Misbehaving : public ServerLinkTest, public testing::WithParamInterface<Misbehaviour> {};

TEST_P(Misbehaving, is_counted_refused_and_tried_again) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (is_poll(r) && ++polls <= 3) return GetParam().act();
    return std::nullopt;
  });
  server.set_plan(plan(1, 0));
  open(server.http().url());
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  const auto counters = link_->counters();
  EXPECT_EQ(*listener_.plans().at(0), plan(1, 0));
  EXPECT_EQ(counters.refused_answers, GetParam().nonsense ? 3U : 0U);
  EXPECT_EQ(counters.failures, GetParam().nonsense ? 0U : 3U);
  ASSERT_EQ(lines().size(), 2U) << testing::PrintToString(lines());  // one when lost, one when back
  EXPECT_THAT(lines()[0], testing::StartsWith(
                              fmt::format("the server at {} gives no usable answer (", server.http().url())));
  EXPECT_THAT(lines()[0], HasSubstr(GetParam().line));
  EXPECT_THAT(lines()[1], HasSubstr(" answers again after "));
  EXPECT_THAT(lines()[1], testing::EndsWith(" s and 3 failed attempts"));
}

INSTANTIATE_TEST_SUITE_P(All, Misbehaving, testing::ValuesIn(misbehaviours()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(ServerLinkTest, silence_has_a_deadline) {
  std::atomic<int> asked = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    // Each kind of message once: registration, hello and the poll are not answered.
    if (++asked <= 3 && r.target.find("leave") == std::string::npos) return TestHttpServer::hang();
    return std::nullopt;
  });
  server.set_plan(plan(1, 0));
  ServerLinkOptions o = options();
  o.times.answer = 50ms;
  o.times.poll_wait = 0s;
  o.times.poll_grace = 50ms;
  open(server.http().url(), o);
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  EXPECT_EQ(link_->counters().failures, 3U);
  EXPECT_THAT(lines().at(0), HasSubstr("waiting for the answer: too slow"));
}

TEST_F(ServerLinkTest, an_answer_that_drips_has_a_deadline) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!is_poll(r) || ++polls > 2) return std::nullopt;
    const std::string text = TestHttpServer::message(200, rank_plan_text(plan(1, 0)));
    // The head in drops, then the body in drops.
    if (polls == 1) return TestHttpServer::drip(text);
    return TestHttpServer::drip(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n" +
        std::string(900, ' '));
  });
  server.set_plan(plan(1, 0));
  ServerLinkOptions o = options();
  o.times.answer = 300ms;
  o.times.poll_wait = 0s;
  o.times.poll_grace = 100ms;
  open(server.http().url(), o);
  listener_.wait_for_plans(1);
  link_->stop(0ms);
  EXPECT_EQ(link_->counters().failures, 2U);
}

TEST_F(ServerLinkTest, a_connection_that_was_closed_while_idle_is_no_failure) {
  // The server closes after every answer but keeps saying that it will not.
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (is_poll(r)) return std::nullopt;
    return Action{TestHttpServer::message(200, kApplied), Action::Then::kClose};
  });
  ServerLink& link = open(server.http().url());
  for (std::uint64_t step = 0; step < 5; ++step) link.report(report_of(step));
  server.http().wait_for("/measurements", 5);
  link.stop(10s);
  EXPECT_EQ(server.http().requests_to("/measurements").size(), 5U);
  EXPECT_EQ(link.counters().failures, 0U);
}

TEST_F(ServerLinkTest, bytes_that_nobody_asked_for_are_not_the_next_answer) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (!is_poll(r) || ++polls > 1) return std::nullopt;
    const std::string first = TestHttpServer::message(200, rank_plan_text(plan(1, 0)));
    return Action{first + TestHttpServer::message(200, rank_plan_text(plan(9, 0)))};
  });
  server.set_plan(plan(2, 0));
  open(server.http().url());
  listener_.wait_for_plans(2);
  link_->stop(0ms);
  EXPECT_EQ(listener_.plans()[1]->generation, 2U);
}

TEST_F(ServerLinkTest, a_dead_poll_is_noticed_by_renewals) {
  std::atomic<int> polls = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    // The second poll goes into a hole, as behind a cut network; renewals tell of news.
    if (is_poll(r)) return ++polls == 2 ? std::optional(TestHttpServer::hang()) : std::nullopt;
    return TestHttpServer::answer(
        200, fmt::format(R"({{"applied":true,"revision":{},"rank_ttl_s":0.3}})", polls >= 2 ? 5 : 3));
  });
  server.set_plan(plan(1, 0));
  ServerLinkOptions o = options();
  o.times.answer = 250ms;
  open(server.http().url(), o);
  listener_.wait_for_plans(1);
  server.set_plan(plan(2, 0));
  const int before = listener_.contacts();
  listener_.wait_for_plans(2);
  EXPECT_EQ(listener_.plans()[1]->generation, 2U);
  // The answers that told of another revision were no sign of life for the plan that is held.
  EXPECT_LE(listener_.contacts() - before, 2);
}

TEST_F(ServerLinkTest, many_reports_do_not_cut_a_poll_that_is_on_its_way) {
  std::atomic<int> reports = 0;
  PlanServer server([&](const Request& r) -> std::optional<Action> {
    if (r.target.ends_with("/measurements")) ++reports;
    // News is known from the beginning, but told by the poll only after many reports.
    if (is_poll(r) && have_of(r) == 0) {
      server_.load()->wait_until([&] { return reports >= 50; });
    }
    if (!is_poll(r)) return TestHttpServer::answer(200, R"({"applied":true,"revision":3,"rank_ttl_s":30})");
    return std::nullopt;
  });
  server_ = &server.http();
  server.set_plan(plan(1, 0));
  ServerLink& link = open(server.http().url());
  for (std::uint64_t step = 0; step < 60; ++step) link.report(report_of(step));
  listener_.wait_for_plans(1);
  link.stop(10s);
  EXPECT_EQ(link.counters().failures, 0U);
  EXPECT_EQ(have_of(server.http().requests_to("/plan").at(0)), 0U);
}

TEST_F(ServerLinkTest, a_server_that_appears_later_is_found) {
  std::uint16_t port = 0;
  {
    const PlanServer gone;
    port = const_cast<PlanServer&>(gone).http().port();
  }
  open(fmt::format("http://127.0.0.1:{}", port));
  wait_for_counters([](const auto& c) { return c.failures >= 3; });
  PlanServer server({}, port);
  server.set_plan(plan(1, 0));
  listener_.wait_for_plans(1);
  link_->stop(10s);
  ASSERT_EQ(lines().size(), 2U);
  EXPECT_THAT(lines()[0], HasSubstr("connecting: Connection refused"));
}

}  // namespace
}  // namespace perseus::client
