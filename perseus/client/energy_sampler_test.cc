// SPDX-License-Identifier: Apache-2.0
//
// The sampler on the simulated driver, in real time: what comes is checked, never when.
#include "perseus/client/energy_sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "perseus/simgpu/node.h"

namespace perseus::client {
namespace {

using core::Megahertz;
using core::Seconds;
using core::Watts;

simgpu::NodeSpec one_gpu() {
  simgpu::GpuSpec gpu;
  gpu.name = "NVIDIA A100-SXM4-80GB";
  for (const std::uint32_t mhz : {1200U, 1305U, 1410U}) {
    gpu.clocks.push_back(
        {.clock = Megahertz{mhz}, .dynamic_power = Watts{mhz * 0.2}, .static_power = Watts{70}});
  }
  gpu.idle_power = Watts{60};
  gpu.memory_power = Watts{50};
  gpu.power_limit = Watts{400};
  gpu.least_power_limit = Watts{100};
  gpu.counter_period = Seconds{0.1};
  simgpu::NodeSpec node;
  node.gpus = {gpu};
  node.time_scale = 10;  // the counter changes each 10 ms
  return node;
}

class EnergySamplerTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("perseus-sampler-test-" + std::to_string(::getpid()));
    auto node = simgpu::Node::create(path_, one_gpu());
    ASSERT_TRUE(node) << node.error().text();
    node_.emplace(*std::move(node));
    ::setenv(simgpu::kEnvironment, path_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): no other thread yet
    settings_.backend = {.kind = gpu::BackendKind::kSim, .library = PERSEUS_SIM_NVML_PATH};
  }
  void TearDown() override {
    node_.reset();
    ASSERT_TRUE(simgpu::Node::destroy(path_));
  }
  template <class Holds>
  static void wait_until(EnergySampler& sampler, TelemetryNews& news, Holds&& holds) {
    while (!holds()) {
      sampler.collect(news);
      std::this_thread::yield();
    }
  }

  std::string path_;
  std::optional<simgpu::Node> node_;
  SamplerSettings settings_;
};

TEST_F(EnergySamplerTest, ShowsTheGpuAndCatchesItsUpdates) {
  settings_.gpu = node_->identity(0)->uuid;
  EnergySampler sampler(settings_);
  sampler.set_precise(true);
  ASSERT_TRUE(sampler.wait_until_open(Seconds(60)));
  EXPECT_EQ(sampler.gpu()->uuid, settings_.gpu);
  EXPECT_EQ(sampler.gpu()->clocks,
            (std::vector<Megahertz>{Megahertz(1200), Megahertz(1305), Megahertz(1410)}));
  TelemetryNews news;
  wait_until(sampler, news, [&] { return news.updates.size() >= 3 && news.reasons.size() >= 2; });
  EXPECT_GT(sampler.gpu()->counter_period, Seconds(0));
  for (std::size_t i = 1; i < news.updates.size(); ++i) {
    EXPECT_GT(news.updates[i].t_ns, news.updates[i - 1].t_ns);
    EXPECT_GT(news.updates[i].total, news.updates[i - 1].total);
    EXPECT_EQ(news.updates[i].epoch, news.updates[0].epoch);
  }
  EXPECT_FALSE(news.reasons[0].throttled);
  EXPECT_EQ(news.trouble, "");
}

TEST_F(EnergySamplerTest, AGpuByItsIndex) {
  settings_.gpu = "0";
  EnergySampler sampler(settings_);
  ASSERT_TRUE(sampler.wait_until_open(Seconds(60)));
  EXPECT_EQ(sampler.gpu()->uuid, node_->identity(0)->uuid);
}

TEST_F(EnergySamplerTest, AGpuThatIsNotThereIsTold) {
  settings_.gpu = "9";
  EnergySampler sampler(settings_);
  TelemetryNews news;
  wait_until(sampler, news, [&] { return !news.trouble.empty(); });
  EXPECT_EQ(news.trouble, "the GPU cannot be read: GPU 9 is none of the 1 that the sim driver shows");
  EXPECT_FALSE(sampler.gpu());
}

TEST_F(EnergySamplerTest, ADriverThatIsNotThereIsTold) {
  settings_.backend.library = "/nowhere/libnvidia-ml.so.1";
  EnergySampler sampler(settings_);
  TelemetryNews news;
  wait_until(sampler, news, [&] { return !news.trouble.empty(); });
  EXPECT_THAT(news.trouble, testing::HasSubstr("/nowhere/libnvidia-ml.so.1"));
}

TEST_F(EnergySamplerTest, AGpuWithoutACounterHasReasonsOnly) {
  ASSERT_TRUE(node_->inject(0, {simgpu::FaultKind::kNoEnergyCounter, 0}));
  settings_.gpu = "0";
  EnergySampler sampler(settings_);
  TelemetryNews news;
  wait_until(sampler, news, [&] { return news.reasons.size() >= 2; });
  EXPECT_EQ(sampler.gpu()->counter_period, Seconds(0));
  EXPECT_TRUE(news.updates.empty());
}

}  // namespace
}  // namespace perseus::client
