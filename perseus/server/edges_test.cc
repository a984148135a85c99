// SPDX-License-Identifier: Apache-2.0
//
// Request targets, tokens, rate limits, log lines, addresses.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "perseus/server/api_client.h"
#include "perseus/server/http_types.h"
#include "perseus/server/log.h"
#include "perseus/server/rate_limit.h"
#include "perseus/server/tokens.h"
#include "tests/support/temporary_folder.h"

namespace perseus::server {
namespace {

using core::Seconds;
using testing::ElementsAre;
using testing::Pair;

TEST(RequestTarget, is_taken_apart_and_decoded_once) {
  const auto target = parse_target("/schedule/2026+dp1%2Bx/?rank=0&a=%252e&b");
  ASSERT_TRUE(target) << target.error().text();
  EXPECT_THAT(target->path, ElementsAre("schedule", "2026+dp1+x"));
  EXPECT_THAT(target->query, ElementsAre(Pair("rank", "0"), Pair("a", "%2e"), Pair("b", "")));
  EXPECT_EQ(target->find("rank"), "0");
  EXPECT_FALSE(target->find("none"));
  EXPECT_TRUE(parse_target("/")->path.empty());
}

TEST(RequestTarget, what_is_odd_is_refused) {
  for (const std::string bad : {"", "api", "http://x/", "//x", "/a//b", "/../etc", "/a/%2e%2e/b", "/%2",
                                "/%zz", "/%00", "/a%0a", "/%ff", "/\x01", "/ä", "/x?a=1&a=2", "*"}) {
    EXPECT_FALSE(parse_target(bad)) << bad;
  }
  EXPECT_EQ(parse_target("/" + std::string(5000, 'a')).error().code(), core::ErrorCode::kLimit);
}

TEST(HostHeader, only_this_machine_s_own_names_are_loopback) {
  for (const char* good : {"localhost", "localhost:7787", "127.0.0.1:80", "[::1]", "[::1]:7787"}) {
    EXPECT_TRUE(is_loopback_host(good)) << good;
  }
  for (const char* bad :
       {"", "evil.example", "127.0.0.1.evil.example", "localhost:", "localhost:80x", "[::1", "::1"}) {
    EXPECT_FALSE(is_loopback_host(bad)) << bad;
  }
}

const std::string kFirst(32, 'a');
const std::string kSecond(40, 'b');

TEST(Tokens, stand_for_roles_and_jobs) {
  const auto table =
      TokenTable::parse(fmt::format("# all\n\nadmin {}\r\n  job gpt {}", kFirst, kSecond), "tokens");
  ASSERT_TRUE(table) << table.error().text();
  EXPECT_EQ(table->find(kFirst)->role, Role::kAdmin);
  EXPECT_EQ(table->find(kSecond)->role, Role::kJob);
  EXPECT_EQ(table->find(kSecond)->job, "gpt");
  EXPECT_FALSE(table->find(std::string(32, 'c')));
  EXPECT_FALSE(table->find(""));
}

TEST(Tokens, a_bad_file_is_refused_with_its_line_and_without_its_tokens) {
  const auto refusal = [](const std::string& text) {
    const auto table = TokenTable::parse(text, "tokens");
    return table ? "accepted" : table.error().text();
  };
  EXPECT_EQ(refusal("# nothing\n"), "tokens: holds no token");
  EXPECT_EQ(refusal("root " + kFirst),
            "tokens:1: is neither 'admin TOKEN', 'read TOKEN' nor 'job NAME TOKEN'");
  EXPECT_EQ(refusal("admin short"), "tokens:1: the token is not 32 to 256 of A-Z a-z 0-9 - . _ ~ + / =");
  EXPECT_EQ(refusal("admin " + kFirst + "\nread " + kFirst), "tokens:2: the token stands in an earlier line");
  EXPECT_EQ(
      refusal("\njob ../x " + kFirst),
      "tokens:2: \"../x\" is no name of a job: 1 to 128 of A-Z a-z 0-9 . _ + -, a letter or digit first");
}

TEST(Tokens, a_file_that_others_can_read_is_refused) {
  const tests::TemporaryFolder folder;
  const std::string path = folder.file("tokens");
  std::ofstream(path) << "admin " << kFirst << '\n';
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  EXPECT_EQ(TokenTable::read(path).error().text(), path + ": has mode 0640; tokens need 0600 or less");
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_TRUE(TokenTable::read(path));
  EXPECT_EQ(*format::read_token(path), kFirst);
  unlink(path.c_str());
  EXPECT_EQ(TokenTable::read(path).error().code(), core::ErrorCode::kNotFound);
}

TEST(Tokens, the_header_must_be_a_bearer_s) {
  EXPECT_EQ(bearer_token("Bearer " + kFirst), kFirst);
  EXPECT_EQ(bearer_token("bEARER " + kFirst), kFirst);
  for (const std::string& bad : {std::string(), "Basic " + kFirst, kFirst, "Bearer  " + kFirst,
                                 "Bearer " + kFirst + " x", std::string("Bearer short")}) {
    EXPECT_FALSE(bearer_token(bad)) << bad;
  }
}

TEST(RateLimit, gives_a_burst_and_then_so_many_a_second) {
  RateLimit limit(2, 3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limit.take("a", Seconds(0)));
  EXPECT_FALSE(limit.take("a", Seconds(0)));
  EXPECT_TRUE(limit.take("b", Seconds(0)));
  EXPECT_TRUE(limit.take("a", Seconds(0.5)));
  EXPECT_FALSE(limit.take("a", Seconds(0.5)));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limit.take("a", Seconds(100)));
  EXPECT_FALSE(limit.take("a", Seconds(100)));
}

TEST(RateLimit, forgets_names_rather_than_growing) {
  RateLimit limit(1, 1);
  for (std::size_t i = 0; i < 2 * RateLimit::kMostNames; ++i) limit.take(std::to_string(i), Seconds(0));
  EXPECT_LE(limit.names(), RateLimit::kMostNames);
}

TEST(Log, a_line_is_one_json_object_whatever_is_in_it) {
  std::vector<std::string> lines;
  Log log([&](std::string_view line) { lines.emplace_back(line); });
  log.write(Level::kWarning, "request.refused", {{"peer", "a\nb"}, {"reason", "\xff\"quoted\""}});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(
      lines[0],
      testing::MatchesRegex(
          R"(\{"time":"20[0-9:TZ.-]+","level":"warning","event":"request.refused","peer":"a\\nb","reason":".*quoted.*"\})"));
  EXPECT_EQ(utc_text(1'795'528'800'250), "2026-11-24T14:00:00.250Z");
}

TEST(ServerUrl, schemes_names_and_ports) {
  EXPECT_TRUE(parse_server_url("https://head-node")->tls);
  EXPECT_EQ(parse_server_url("https://head-node")->port, 7787);
  EXPECT_EQ(parse_server_url("http://[::1]:80/")->host, "::1");
  EXPECT_EQ(parse_server_url("127.0.0.1:8080")->port, 8080);
  for (const char* bad :
       {"", "http://", "ftp://x", "http://x:0", "http://x:99999", "http://x/y", "http://user@x", "[::1"}) {
    EXPECT_FALSE(parse_server_url(bad)) << bad;
  }
  EXPECT_EQ(parse_server_url("ftp://x").error().text(),
            "\"ftp://x\" is no server: http://HOST:PORT or https://HOST:PORT");
}

TEST(JobList, unknown_members_are_skipped) {
  const auto jobs = parse_jobs(
      R"({"more":[{}],"jobs":[{"job":"gpt","state":"planned","new":{"a":[1,null]},"generation":3,)"
      R"("predicted":{"time_s":0.5,"energy_j":10},"measured":null,"saved_predicted":{"intrinsic_pct":9.5,"extrinsic_pct":0}}]})");
  ASSERT_TRUE(jobs) << jobs.error().text();
  EXPECT_EQ(jobs->at(0).job, "gpt");
  EXPECT_EQ(jobs->at(0).generation, 3U);
  EXPECT_EQ(jobs->at(0).predicted_time, Seconds(0.5));
  EXPECT_FALSE(jobs->at(0).measured_time);
  EXPECT_EQ(jobs->at(0).intrinsic_pct, 9.5);
  EXPECT_FALSE(parse_jobs("[]"));
}

}  // namespace
}  // namespace perseus::server
