// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/metrics.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>

#include "perseus/format/files.h"
#include "tests/support/temporary_folder.h"

namespace perseus::agent {
namespace {

using core::Megahertz;
using testing::HasSubstr;
using testing::Not;

AgentMetrics one_gpu() {
  AgentMetrics metrics;
  metrics.status.version = "1.2.3";
  metrics.status.backend = "sim";
  metrics.status.driver = "580 \"beta\"\\";
  metrics.status.uptime_s = 12.5;
  GpuMetrics gpu;
  gpu.status = {.index = 3,
                .uuid = "GPU-a",
                .state = "leased",
                .intended = Megahertz{900},
                .sm_clock = Megahertz{915},
                .power = core::Watts{301.5}};
  gpu.changes = {.applied = 7, .equal = 2, .refused = 1, .failed = 0};
  gpu.leases.expired = 4;
  metrics.gpus.push_back(gpu);
  return metrics;
}

TEST(Metrics, every_metric_of_the_table_is_written_once_and_in_its_order) {
  const std::string text = metrics_text(one_gpu());
  EXPECT_THAT(text, Not(HasSubstr("out of its order")));
  std::size_t from = 0;
  std::set<std::string_view> names;
  for (const MetricInfo& info : metric_table()) {
    const std::string head = "# TYPE " + std::string(info.name) + " " + std::string(info.type) + "\n";
    const std::size_t at = text.find(head, from);
    ASSERT_NE(at, std::string::npos) << info.name;
    from = at;
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(info.type == "counter", info.name.ends_with("_total")) << info.name;
  }
  EXPECT_EQ(text.find("# TYPE", from + 1), std::string::npos);
}

TEST(Metrics, values_stand_with_the_labels_of_their_gpu) {
  const std::string text = metrics_text(one_gpu());
  for (const char* line :
       {"perseus_gpu_sm_clock_megahertz{gpu=\"3\",uuid=\"GPU-a\"} 915\n",
        "perseus_gpu_intended_clock_megahertz{gpu=\"3\",uuid=\"GPU-a\"} 900\n",
        "perseus_gpu_power_watts{gpu=\"3\",uuid=\"GPU-a\"} 301.5\n",
        "perseus_gpu_state{gpu=\"3\",uuid=\"GPU-a\",state=\"leased\"} 1\n",
        "perseus_gpu_state{gpu=\"3\",uuid=\"GPU-a\",state=\"free\"} 0\n",
        "perseus_gpu_clock_requests_total{gpu=\"3\",uuid=\"GPU-a\",result=\"applied\"} 7\n",
        "perseus_gpu_lease_events_total{gpu=\"3\",uuid=\"GPU-a\",event=\"expired\"} 4\n",
        "perseus_agent_uptime_seconds 12.5\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, what_is_not_known_is_absent_and_never_zero) {
  const std::string text = metrics_text(one_gpu());
  EXPECT_THAT(text, Not(HasSubstr("perseus_gpu_temperature_celsius{")));
  EXPECT_THAT(text, Not(HasSubstr("perseus_gpu_baseline_clock_megahertz{")));
}

TEST(Metrics, labels_are_escaped) {
  EXPECT_THAT(metrics_text(one_gpu()), HasSubstr(R"(driver="580 \"beta\"\\"} 1)"));
}

TEST(Metrics, the_intended_clock_is_json_for_health_checks) {
  const auto at = std::chrono::system_clock::time_point(std::chrono::seconds(1'798'740'000));
  AgentMetrics metrics = one_gpu();
  EXPECT_EQ(
      intended_json(metrics, at),
      R"({"format":"perseus-intended/1","time":"2026-12-31T18:00:00Z","gpus":[{"index":3,"uuid":"GPU-a",)"
      R"("state":"leased","intended_mhz":900,"baseline_mhz":null,"reason":""}]})"
      "\n");
  metrics.gpus[0].status.intended.reset();
  metrics.gpus[0].baseline = Megahertz{1980};
  EXPECT_THAT(intended_json(metrics, at), HasSubstr(R"("intended_mhz":null,"baseline_mhz":1980)"));
}

TEST(Metrics, a_file_is_replaced_as_a_whole_and_readable_whatever_the_umask) {
  const tests::TemporaryFolder temporary;
  const std::string& folder = temporary.path();
  const mode_t old = ::umask(0077);
  EXPECT_TRUE(publish_file(folder + "/m", "first\n"));
  EXPECT_TRUE(publish_file(folder + "/m", "second\n"));
  ::umask(old);
  EXPECT_EQ(format::read_file(folder + "/m", 100).value(), "second\n");
  struct stat status{};
  ASSERT_EQ(::stat((folder + "/m").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0644U);
  EXPECT_FALSE(std::filesystem::exists(folder + "/m.new"));
  EXPECT_EQ(publish_file(folder + "/absent/m", "x").error().code(), core::ErrorCode::kNotFound);
}

}  // namespace
}  // namespace perseus::agent
