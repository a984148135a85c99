// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/agent_config.h"

#include <gmock/gmock.h>

#include "perseus/format/files.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::Megahertz;
using core::Seconds;
using testing::ElementsAre;

std::string error_of(std::string_view bytes) {
  const auto parsed = parse_agent_config(bytes, "agent.yaml");
  return parsed ? "accepted" : parsed.error().text();
}

TEST(AgentConfig, an_empty_map_means_the_defaults) {
  const auto parsed = parse_agent_config("{}\n", "agent.yaml");
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(*parsed, AgentConfig{});
}

TEST(AgentConfig, every_key_is_read) {
  const auto bytes =
      read_file(PERSEUS_SOURCE_DIR "/fuzz/corpus/agent_config/full.yaml", kMaxAgentConfigBytes);
  ASSERT_TRUE(bytes);
  const auto parsed = parse_agent_config(*bytes, "agent.yaml");
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(parsed->min_clock, Megahertz{600});
  EXPECT_EQ(parsed->max_clock, Megahertz{1980});
  EXPECT_EQ(parsed->baseline, Megahertz{1980});
  EXPECT_EQ(parsed->max_changes_per_second, 100U);
  EXPECT_EQ(parsed->max_connections, 16U);
  EXPECT_EQ(parsed->max_connections_per_uid, 8U);
  EXPECT_EQ(parsed->requests_per_second, 20U);
  EXPECT_EQ(parsed->first_message, Seconds{2.5});
  EXPECT_EQ(parsed->idle, Seconds{30});
  EXPECT_EQ(parsed->sample_period, Seconds{0.1});
  EXPECT_EQ(parsed->write_period, Seconds{2});
  EXPECT_EQ(parsed->degraded_after, Seconds{3});
  EXPECT_EQ(parsed->settle, Seconds{0.25});
  EXPECT_THAT(parsed->lock_command, ElementsAre("/opt/site/gpuclock", "lock", "{uuid}", "{mhz}"));
  EXPECT_THAT(parsed->reset_command, ElementsAre("/opt/site/gpuclock", "reset", "{uuid}"));
  EXPECT_EQ(parsed->command_time_limit, Seconds{5});
}

TEST(AgentConfig, what_is_written_reads_back_to_the_same) {
  AgentConfig config;
  EXPECT_EQ(parse_agent_config(write_agent_config(config), "again").value(), config);
  config.min_clock = Megahertz{210};
  config.baseline = Megahertz{1410};
  config.sample_period = Seconds{0.05};
  config.lock_command = {"/a b/\"c\"", "{mhz}"};
  config.reset_command = {"/r"};
  EXPECT_EQ(parse_agent_config(write_agent_config(config), "again").value(), config);
}

TEST(AgentConfig, refusals_name_key_value_and_place) {
  EXPECT_EQ(error_of(""), "agent.yaml: the configuration is empty");
  EXPECT_EQ(error_of("clock: {}\n"),
            "agent.yaml:1:1: unknown key \"clock\" in the configuration; did you mean clocks?");
  EXPECT_EQ(error_of("clocks:\n  min_mhz: 0\n"),
            "agent.yaml:2:12: min_mhz is \"0\"; it must be a whole number from 1 to 65535");
  EXPECT_EQ(error_of("clocks:\n  min_mhz: 99999\n"),
            "agent.yaml:2:12: min_mhz is \"99999\"; it must be a whole number from 1 to 65535");
  EXPECT_EQ(error_of("clocks: {min_mhz: '900'}\n"),
            "agent.yaml:1:19: min_mhz is the text \"900\"; it must be a whole number from 1 to 65535");
  EXPECT_EQ(
      error_of("clocks: {baseline: fast}\n"),
      "agent.yaml:1:20: baseline is \"fast\"; it must be default, or a whole number of MHz from 1 to 65535");
  EXPECT_EQ(error_of("telemetry: {sample_period_s: nan}\n"),
            "agent.yaml:1:30: sample_period_s is \"nan\"; it must be a number of s from 0.02 to 10");
  EXPECT_EQ(error_of("clients: 7\n"),
            "agent.yaml:1:10: clients is \"7\"; it must be a map with the keys max_connections, "
            "max_connections_per_uid, requests_per_s, first_message_s, idle_s");
}

TEST(AgentConfig, limits_that_contradict_each_other_are_refused) {
  EXPECT_EQ(error_of("clocks: {min_mhz: 900, max_mhz: 600}\n"),
            "agent.yaml:1:9: min_mhz 900 is over max_mhz 600");
  EXPECT_EQ(error_of("clocks: {baseline: 500, min_mhz: 600}\n"),
            "agent.yaml:1:9: baseline 500 lies outside min_mhz and max_mhz");
  EXPECT_EQ(error_of("command: {lock: [/bin/x]}\n"), "agent.yaml:1:10: command needs both lock and reset");
  EXPECT_EQ(error_of("command: {lock: [x], reset: [/bin/x]}\n"),
            "agent.yaml:1:18: element 1 of lock is \"x\"; it must be the absolute path of a program");
}

TEST(AgentConfig, a_file_over_the_limit_is_not_parsed) {
  const auto parsed = parse_agent_config(std::string(kMaxAgentConfigBytes + 1, '#'), "agent.yaml");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), ErrorCode::kLimit);
}

}  // namespace
}  // namespace perseus::format
