// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/telemetry_pages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace perseus::server {
namespace {

using core::Seconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

/// Files that are written at second 1,000 of a clock which the test moves.
class TelemetryPagesTest : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    const std::array<timespec, 2> times = {timespec{.tv_sec = 1000, .tv_nsec = 0},
                                           timespec{.tv_sec = 1000, .tv_nsec = 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path(name).c_str(), times.data(), 0), 0);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.file(name); }

  HttpResponse ask(const std::string& target, const std::string& method = "GET") {
    TelemetryPages pages(
        {.folder = folder_.path(), .max_age = Seconds(15)}, [] { return Moment(0); },
        [this] { return std::chrono::system_clock::time_point(now_); });
    HttpRequest request;
    request.method = method;
    request.target = *parse_target(target);
    std::optional<HttpResponse> answer;
    pages.handle({}, std::move(request), [&](HttpResponse response) { answer = std::move(response); });
    return answer.value();
  }
  std::string refusal(const std::string& target) {
    const HttpResponse answer = ask(target);
    EXPECT_EQ(answer.status, 503U);
    return *answer.body;
  }

  const tests::TemporaryFolder folder_;
  std::chrono::milliseconds now_{1'000'000};
};

TEST_F(TelemetryPagesTest, metrics_are_the_agents_and_the_age_of_both_files) {
  write("metrics.prom", "perseus_agent_info 1\n");
  write("intended.json", "{}\n");
  now_ += std::chrono::milliseconds(1250);
  const HttpResponse answer = ask("/metrics");
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(*answer.body,
            "perseus_agent_info 1\n"
            "# HELP perseus_telemetry_file_age_seconds Time since the agent wrote the file\n"
            "# TYPE perseus_telemetry_file_age_seconds gauge\n"
            "perseus_telemetry_file_age_seconds{file=\"metrics.prom\"} 1.250\n"
            "perseus_telemetry_file_age_seconds{file=\"intended.json\"} 1.250\n");
}

TEST_F(TelemetryPagesTest, intended_clocks_are_the_file_as_it_is) {
  write("intended.json", "{\"format\":\"perseus-intended/1\"}\n");
  const HttpResponse answer = ask("/intended");
  EXPECT_EQ(answer.status, 200U);
  EXPECT_EQ(answer.content_type, "application/json");
  EXPECT_EQ(*answer.body, "{\"format\":\"perseus-intended/1\"}\n");
}

TEST_F(TelemetryPagesTest, an_age_that_is_not_known_is_left_out) {
  write("metrics.prom", "a 1\n");
  EXPECT_THAT(*ask("/metrics").body, EndsWith("{file=\"metrics.prom\"} 0.000\n"));
}

TEST_F(TelemetryPagesTest, an_absent_file_is_503_with_the_reason) {
  EXPECT_EQ(
      refusal("/metrics"),
      fmt::format(R"({{"error":{{"code":"not_found","message":"{}: No such file or directory: no agent )"
                  R"(publishes here; does perseus-agent run? `perseus doctor` tells more"}}}})",
                  path("metrics.prom")));
}

TEST_F(TelemetryPagesTest, a_file_is_fresh_to_the_last_moment_and_stale_after_it) {
  write("metrics.prom", "a 1\n");
  now_ = std::chrono::milliseconds(1'015'000);
  EXPECT_EQ(ask("/metrics").status, 200U);
  now_ += std::chrono::milliseconds(100);
  EXPECT_THAT(
      refusal("/metrics"),
      AllOf(StartsWith(R"({"error":{"code":"timeout")"),
            HasSubstr("was written 15.1 s ago; more than 15 s is stale: the agent has stopped or hangs")));
}

TEST_F(TelemetryPagesTest, a_clock_that_was_set_back_does_not_make_a_dead_agent_look_alive) {
  write("intended.json", "{}\n");
  now_ = std::chrono::milliseconds(990'000);
  EXPECT_EQ(ask("/intended").status, 200U);
  now_ = std::chrono::milliseconds(900'000);
  EXPECT_THAT(refusal("/intended"), HasSubstr("is dated 100.0 s in the future: the clock was set back"));
}

TEST_F(TelemetryPagesTest, what_the_agent_did_not_write_is_not_served) {
  write("metrics.prom", "perseus_agent_inf");
  EXPECT_THAT(refusal("/metrics"), HasSubstr("does not end with a line"));
  write("metrics.prom", "");
  EXPECT_THAT(refusal("/metrics"), HasSubstr("does not end with a line"));
  write("metrics.prom", std::string(kMaxPublishedBytes, 'x') + "\n");
  EXPECT_THAT(refusal("/metrics"), HasSubstr("has more than 4194304 bytes"));
  std::filesystem::remove(path("metrics.prom"));
  write("secret", "key\n");
  std::filesystem::create_symlink(path("secret"), path("metrics.prom"));
  EXPECT_THAT(refusal("/metrics"), HasSubstr("Too many levels of symbolic links"));
  std::filesystem::remove(path("metrics.prom"));
  ASSERT_EQ(::mkfifo(path("metrics.prom").c_str(), 0600), 0);
  EXPECT_THAT(refusal("/metrics"), HasSubstr("is no regular file"));
}

TEST_F(TelemetryPagesTest, there_is_nothing_else_and_nothing_to_change) {
  write("metrics.prom", "a 1\n");
  for (const char* target : {"/", "/metrics.prom", "/metrics/x", "/secret", "/%2e.%2fetc"}) {
    EXPECT_EQ(ask(target).status, 404U) << target;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "HEAD"}) {
    EXPECT_EQ(ask("/metrics", method).status, 405U) << method;
  }
}

}  // namespace
}  // namespace perseus::server
