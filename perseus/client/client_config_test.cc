// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/client_config.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <string>

namespace perseus::client {
namespace {

using core::ErrorCode;
using Variables = std::map<std::string, std::string>;

core::Result<ClientConfig> resolve(const perseus_options& options, Variables variables = {}) {
  return resolve_config(options, [variables = std::move(variables)](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

perseus_options defaults() {
  return PERSEUS_OPTIONS_INIT;
}

perseus_options job() {
  perseus_options options = defaults();
  options.job = "gpt3";
  options.pp = 4;
  options.pp_rank = 2;
  options.dp = 2;
  options.dp_rank = 1;
  options.schedule = "1f1b";
  options.microbatches = 8;
  options.server = "http://127.0.0.1:7787";
  return options;
}

TEST(ClientConfigTest, NothingSaidIsTelemetryOnly) {
  const auto config = resolve(defaults());
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->off);
  EXPECT_EQ(config->server.url, "");
  EXPECT_EQ(config->backend, ClockBackend::kAgent);
  EXPECT_EQ(config->agent_socket, "/run/perseus/agent.sock");
  EXPECT_EQ(config->gpu, "0");
  EXPECT_EQ(config->trigger, TriggerKind::kHost);
  EXPECT_EQ(config->job.incarnation, 1U);
  EXPECT_EQ(config->reader, gpu::BackendKind::kAuto);
}

TEST(ClientConfigTest, ZeroSwitchesEverythingOffEvenNonsense) {
  perseus_options options = job();
  options.backend = "nonsense";
  EXPECT_TRUE(resolve(options, {{"PERSEUS", "0"}})->off);
}

TEST(ClientConfigTest, TheJobAsItIsBuilt) {
  const auto config = resolve(job(), {{"PERSEUS_TOKEN_FILE", "/t"}, {"PERSEUS_CA_FILE", "/c"}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->job.name, "gpt3");
  EXPECT_EQ(config->job.schedule.pipeline(), 4U);
  EXPECT_EQ(config->job.schedule.microbatches, 8U);
  ASSERT_TRUE(config->job.named);
  EXPECT_EQ(config->job.named->name, "1f1b");
  EXPECT_EQ(config->job.data, 2U);
  EXPECT_EQ(config->job.tensor, 1U);
  EXPECT_EQ(config->place.pp, 2U);
  EXPECT_EQ(config->place.dp, 1U);
  EXPECT_EQ(config->server.token_file, "/t");
  EXPECT_EQ(config->server.ca_file, "/c");
  EXPECT_TRUE(config->job.blocking_power.empty());
  ASSERT_TRUE(config->job.profiling);
  EXPECT_TRUE(config->job.profiling->online);
}

TEST(ClientConfigTest, OrdersInsteadOfAName) {
  perseus_options options = job();
  options.schedule = nullptr;
  options.pp = 2;
  options.pp_rank = 0;
  const std::array<const char*, 2> orders = {"0F0,0F1,0B0,0B1", "1F0,1B0,1F1,1B1"};
  options.orders = orders.data();
  const auto config = resolve(options);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_FALSE(config->job.named);
  EXPECT_EQ(config->job.schedule.microbatches, 2U);
  EXPECT_EQ(config->job.schedule.ranks[1].size(), 4U);
  const std::array<const char*, 2> too_few = {"0F0,0B0", nullptr};
  options.orders = too_few.data();
  EXPECT_EQ(resolve(options).error().text(), "the order of pipeline rank 1 is missing; there must be pp = 2");
  const std::array<const char*, 2> wrong = {"0F0,0Q", "1F0"};
  options.orders = wrong.data();
  EXPECT_EQ(resolve(options).error().origin().source, "orders");
}

TEST(ClientConfigTest, ASchedulesOwnVirtualStagesNeedNotBeSaid) {
  perseus_options options = job();
  options.schedule = "zbv";
  const auto config = resolve(options);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->job.schedule.virtual_stages, 2U);
}

TEST(ClientConfigTest, TheEnvironmentSpeaksWhereOptionsAreSilent) {
  perseus_options options = job();
  options.job = nullptr;
  options.server = nullptr;
  const auto config = resolve(options, {{"PERSEUS_JOB_ID", "bloom"},
                                        {"PERSEUS_SERVER", "https://head"},
                                        {"PERSEUS_BACKEND", "log:/tmp/clocks.jsonl"},
                                        {"PERSEUS_AGENT_SOCKET", "/a.sock"},
                                        {"PERSEUS_TRIGGER", "host"},
                                        {"PERSEUS_FINGERPRINT", "a100"},
                                        {"PERSEUS_PROFILE_CLOCKS", "8"},
                                        {"PERSEUS_PROFILE_STEPS", "2"},
                                        {"PERSEUS_PROFILE_WINDOW_S", "1.5"},
                                        {"PERSEUS_PROFILE_BUDGET_S", "12.5"},
                                        {"PERSEUS_PROFILE_MAX_SLOWDOWN_PCT", "80"},
                                        {"PERSEUS_SIM_NVML", "/lib.so"},
                                        {"LOCAL_RANK", "3"}});
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->job.name, "bloom");
  EXPECT_EQ(config->server.url, "https://head");
  EXPECT_EQ(config->backend, ClockBackend::kLog);
  EXPECT_EQ(config->log_file, "/tmp/clocks.jsonl");
  EXPECT_EQ(config->agent_socket, "/a.sock");
  EXPECT_EQ(config->job.fingerprint, "a100");
  EXPECT_FALSE(config->job.profiling->online);  // a dry run sets no clocks to measure at
  EXPECT_EQ(config->job.profiling->clocks, 8U);
  EXPECT_EQ(config->job.profiling->steps, 2U);
  EXPECT_EQ(config->job.profiling->window, core::Seconds(1.5));
  EXPECT_EQ(config->job.profiling->budget, core::Seconds(12.5));
  EXPECT_EQ(config->job.profiling->max_slowdown_pct, 80);
  EXPECT_EQ(config->reader, gpu::BackendKind::kSim);
  EXPECT_EQ(config->gpu, "3");
}

TEST(ClientConfigTest, OptionsGoBeforeTheEnvironment) {
  perseus_options options = job();
  options.backend = "direct";
  options.gpu = "GPU-7";
  options.incarnation = 9;
  options.blocking_power_w = 85;
  const auto config = resolve(options, {{"PERSEUS_SERVER", "https://head"},
                                        {"PERSEUS_BACKEND", "agent"},
                                        {"PERSEUS_INCARNATION", "4"},
                                        {"PERSEUS_PROFILE", "off"},
                                        {"LOCAL_RANK", "3"}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->server.url, "http://127.0.0.1:7787");
  EXPECT_EQ(config->backend, ClockBackend::kDirect);
  EXPECT_EQ(config->gpu, "GPU-7");
  EXPECT_EQ(config->job.incarnation, 9U);
  EXPECT_EQ(config->job.blocking_power, std::vector<core::Watts>{core::Watts(85)});
  EXPECT_FALSE(config->job.profiling->online);
  options.server = "";
  EXPECT_EQ(resolve(options, {{"PERSEUS_SERVER", "https://head"}})->server.url, "");
}

TEST(ClientConfigTest, IncarnationsAreCountedFromOne) {
  EXPECT_EQ(resolve(defaults(), {{"PERSEUS_INCARNATION", "4"}, {"TORCHELASTIC_RESTART_COUNT", "7"}})
                ->job.incarnation,
            4U);
  EXPECT_EQ(resolve(defaults(), {{"TORCHELASTIC_RESTART_COUNT", "0"}})->job.incarnation, 1U);
  EXPECT_EQ(resolve(defaults(), {{"SLURM_RESTART_COUNT", "2"}})->job.incarnation, 3U);
}

TEST(ClientConfigTest, TheLocalRanksGpuIsTheOneThatCudaShowsIt) {
  EXPECT_EQ(resolve(defaults(), {{"LOCAL_RANK", "1"}, {"CUDA_VISIBLE_DEVICES", "6,4"}})->gpu, "4");
  EXPECT_EQ(resolve(defaults(), {{"CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b"}})->gpu, "GPU-a");
  EXPECT_EQ(resolve(defaults(), {{"LOCAL_RANK", "5"}, {"CUDA_VISIBLE_DEVICES", "2"}})->gpu, "5");
}

TEST(ClientConfigTest, TheGuardIsTheSites) {
  const GuardSettings guard =
      resolve(defaults(), {{"PERSEUS_GUARD_MARGIN_PCT", "12.5"}, {"PERSEUS_GUARD_ITERATIONS", "20"}})->guard;
  EXPECT_DOUBLE_EQ(guard.margin, 0.125);
  EXPECT_EQ(guard.iterations, 20U);
  EXPECT_EQ(guard.patience, 120U);
}

TEST(ClientConfigTest, RefusalsNameTheOptionOrVariable) {
  const auto refusal = [](const perseus_options& options, const Variables& variables = {}) {
    const auto config = resolve(options, variables);
    EXPECT_FALSE(config);
    return config ? "" : config.error().text();
  };
  perseus_options options = job();
  options.pp_rank = 4;
  EXPECT_EQ(refusal(options), "pp_rank is 4; it must be below pp = 4");
  options = job();
  options.backend = "log:";
  EXPECT_EQ(refusal(options), "backend: \"log:\" is none of agent, direct and log:FILE");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_BACKEND", "nvml"}}),
            "PERSEUS_BACKEND: \"nvml\" is none of agent, direct and log:FILE");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_TRIGGER", "sync"}}),
            "PERSEUS_TRIGGER: \"sync\" is none of host, stream_write and event_poll");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_TRIGGER", "event_poll"}}),
            "PERSEUS_TRIGGER: event_poll needs a stream");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_PROFILE", "maybe"}}),
            "PERSEUS_PROFILE: \"maybe\" is neither online nor off");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_PROFILE_CLOCKS", "-1"}}),
            "PERSEUS_PROFILE_CLOCKS: \"-1\" is no number");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_GUARD_MARGIN_PCT", "-1"}}),
            "PERSEUS_GUARD_MARGIN_PCT: -1 is not in 0 to 1000");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_GUARD_MARGIN_PCT", "nan"}}),
            "PERSEUS_GUARD_MARGIN_PCT: nan is not in 0 to 1000");
  EXPECT_EQ(refusal(job(), {{"PERSEUS_GUARD_ITERATIONS", "0"}}),
            "PERSEUS_GUARD_ITERATIONS: 0 is not in 1 to 1000");
  options = job();
  options.job = nullptr;
  EXPECT_EQ(refusal(options), "no job is named; set job or PERSEUS_JOB_ID");
  options = job();
  options.schedule = nullptr;
  EXPECT_EQ(refusal(options), "neither schedule nor orders are given; a server needs one of them");
  options = job();
  options.microbatches = 0;
  EXPECT_FALSE(resolve(options));
  options = job();
  options.blocking_power_w = std::nan("");
  EXPECT_EQ(refusal(options), "blocking_power_w is nan");
}

}  // namespace
}  // namespace perseus::client
