// SPDX-License-Identifier: Apache-2.0
//
// The NVML backend on the simulated driver: what is set there is what the backend set, and what it reads is
// what is there.
#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "perseus/gpu/backend.h"
#include "perseus/gpu/counter_period.h"
#include "perseus/simgpu/node.h"

namespace perseus::gpu {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Megahertz;
using core::Seconds;
using core::Watts;
using simgpu::FaultKind;
using testing::ElementsAre;
using testing::HasSubstr;

simgpu::GpuSpec small_gpu() {
  simgpu::GpuSpec gpu;
  gpu.name = "NVIDIA A100-SXM4-80GB";
  for (std::uint32_t mhz = 210; mhz <= 1410; mhz += 300) {
    gpu.clocks.push_back(
        {.clock = Megahertz{mhz}, .dynamic_power = Watts{mhz * 0.2}, .static_power = Watts{70}});
  }
  gpu.idle_power = Watts{60};
  gpu.memory_power = Watts{50};
  gpu.power_limit = Watts{400};
  gpu.least_power_limit = Watts{100};
  return gpu;
}

std::string text(const core::Status& status) {
  return status ? "accepted"
                : std::string(core::info(status.error().code()).name) + ": " + status.error().text();
}

/// A node of two GPUs whose time stands still, and a backend on it.
class SimBackendTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("perseus-gpu-test-" + std::to_string(::getpid()));
    simgpu::NodeSpec spec;
    spec.gpus.assign(2, small_gpu());
    spec.manual_time = true;
    auto node = simgpu::Node::create(path_, spec);
    ASSERT_TRUE(node) << node.error().text();
    node_.emplace(*std::move(node));
    ::setenv(simgpu::kEnvironment, path_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): no other thread yet
    ::setenv("PERSEUS_SIM_NVML", PERSEUS_SIM_NVML_PATH, 1);  // NOLINT(concurrency-mt-unsafe)
    open();
  }
  void open(const std::string& library = "") {
    backend_.reset();
    auto opened = open_backend({.kind = BackendKind::kSim, .library = library});
    ASSERT_TRUE(opened) << opened.error().text();
    backend_ = *std::move(opened);
  }
  void TearDown() override {
    backend_.reset();
    node_.reset();
    ASSERT_TRUE(simgpu::Node::destroy(path_));
  }
  void inject(std::uint32_t gpu, FaultKind kind, double value = 0) {
    ASSERT_TRUE(node_->inject(gpu, {kind, value}));
  }
  Device& gpu(std::size_t i = 0) { return *backend_->devices().at(i); }
  simgpu::Observation truth(std::uint32_t i = 0) { return node_->observe(i).value(); }

  std::string path_;
  std::optional<simgpu::Node> node_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(SimBackendTest, IdentityAndClocksAreTheNodes) {
  EXPECT_EQ(backend_->name(), "sim");
  EXPECT_EQ(backend_->driver_version(), node_->driver_version());
  ASSERT_EQ(backend_->devices().size(), 2U);
  const simgpu::Identity identity = node_->identity(1).value();
  EXPECT_EQ(gpu(1).identity().uuid, identity.uuid);
  EXPECT_EQ(gpu(1).identity().pci_bus_id, identity.pci_bus_id);
  EXPECT_EQ(gpu(1).identity().name, "NVIDIA A100-SXM4-80GB");
  EXPECT_THAT(gpu().supported_clocks().value(),
              ElementsAre(Megahertz{210}, Megahertz{510}, Megahertz{810}, Megahertz{1110}, Megahertz{1410}));
  EXPECT_TRUE(gpu().clock_control()->possible);
}

TEST_F(SimBackendTest, LocksAndReadsUnderLoad) {
  ASSERT_TRUE(node_->enqueue(0, {.duration = Seconds{100}}));
  ASSERT_TRUE(gpu().lock_clock(Megahertz{810}));
  EXPECT_EQ(truth().locked, Megahertz{810});
  EXPECT_EQ(truth(1).locked, std::nullopt);
  node_->advance_time(Seconds{3});
  EXPECT_EQ(gpu().sm_clock().value(), Megahertz{810});
  EXPECT_EQ(gpu().sm_clock().value(), truth().sm_clock);
  EXPECT_NEAR(gpu().power()->momentary.value().value(), truth().power.value(), 0.001);
  EXPECT_EQ(gpu().energy()->total, truth().counter);
  EXPECT_EQ(gpu().energy()->source, EnergySource::kCounter);
  EXPECT_NEAR(gpu().temperature()->value(), truth().temperature.value(), 1);
  EXPECT_EQ(gpu().enforced_power_limit().value(), Watts{400});
  EXPECT_NEAR(gpu().utilization().value(), 1, 0.01);
  EXPECT_THAT(gpu().processes().value(), ElementsAre(::getpid()));
  ASSERT_TRUE(gpu().reset_clock());
  EXPECT_EQ(truth().locked, std::nullopt);
  node_->advance_time(Seconds{1});
  EXPECT_EQ(gpu().sm_clock().value(), Megahertz{1410});
}

// Locked clocks survive the process that set them, as with persistence mode on real servers.
TEST_F(SimBackendTest, LocksOutliveTheBackend) {
  ASSERT_TRUE(gpu().lock_clock(Megahertz{510}));
  backend_.reset();
  EXPECT_EQ(truth().locked, Megahertz{510});
  open();
  ASSERT_TRUE(gpu().reset_clock());
  EXPECT_EQ(truth().locked, std::nullopt);
}

TEST_F(SimBackendTest, RefusalsSayWhy) {
  const std::string name = "GPU 0 (" + gpu().identity().uuid + "): ";
  inject(0, FaultKind::kPermission);
  EXPECT_THAT(text(gpu().lock_clock(Megahertz{810})),
              HasSubstr("permission: " + name + "nvmlDeviceSetGpuLockedClocks: "));
  EXPECT_THAT(text(gpu().lock_clock(Megahertz{810})), HasSubstr("let `perseus agent` do it"));
  inject(1, FaultKind::kMig);
  EXPECT_EQ(gpu(1).clock_control()->reason,
            "MIG is enabled, and the driver locks no clock of a partitioned GPU");
  EXPECT_THAT(text(gpu(1).lock_clock(Megahertz{810})), HasSubstr("unsupported: GPU 1"));
  EXPECT_TRUE(gpu(1).sm_clock());
  EXPECT_EQ(text(gpu(1).lock_clock(Megahertz{811})),
            "invalid_input: GPU 1 (" + gpu(1).identity().uuid +
                "): 811 MHz is not one of its clocks; the nearest are 810 and 1110 MHz");
}

TEST_F(SimBackendTest, VirtualGpusRead) {
  inject(0, FaultKind::kVgpu);
  EXPECT_EQ(gpu().clock_control()->reason,
            "this is a virtual GPU (vGPU): its clocks belong to the machine that hosts it");
  EXPECT_TRUE(gpu().sm_clock());
}

TEST_F(SimBackendTest, LostGpuComesBackByReopening) {
  inject(0, FaultKind::kLost);
  EXPECT_EQ(gpu().sm_clock().error().code(), ErrorCode::kDeviceLost);
  EXPECT_TRUE(gpu(1).sm_clock());
  ASSERT_TRUE(node_->clear_fault(0, FaultKind::kLost));
  EXPECT_EQ(gpu().sm_clock().error().code(), ErrorCode::kDeviceLost);
  ASSERT_TRUE(backend_->reopen());
  EXPECT_TRUE(gpu().sm_clock());
}

TEST_F(SimBackendTest, SurvivesAReloadOfTheDriver) {
  ASSERT_TRUE(gpu().lock_clock(Megahertz{510}));
  node_->advance_time(Seconds{10});
  EXPECT_EQ(gpu().energy()->epoch, 0U);
  inject(0, FaultKind::kReload, 5);
  EXPECT_EQ(gpu().sm_clock().error().code(), ErrorCode::kDriver);
  EXPECT_EQ(backend_->reopen().error().code(), ErrorCode::kDriver);
  node_->advance_time(Seconds{5});
  ASSERT_TRUE(backend_->reopen());
  EXPECT_TRUE(gpu().sm_clock());
  EXPECT_EQ(truth().locked, std::nullopt) << "a reload takes locks away";
  EXPECT_EQ(gpu().energy()->epoch, 1U);
}

TEST_F(SimBackendTest, CounterRestartIsAnEpoch) {
  node_->advance_time(Seconds{10});
  const EnergyReading before = gpu().energy().value();
  inject(0, FaultKind::kCounterRestart);
  const EnergyReading after = gpu().energy().value();
  EXPECT_LT(after.total, before.total);
  EXPECT_EQ(after.epoch, before.epoch + 1);
}

TEST_F(SimBackendTest, ReasonsOfHeatAndPower) {
  ASSERT_TRUE(node_->enqueue(0, {.duration = Seconds{100}}));
  inject(0, FaultKind::kThrottle, 510);
  node_->advance_time(Seconds{1});
  EXPECT_TRUE(gpu().clock_reasons()->has(ClockReason::kHardwareThermal));
  EXPECT_TRUE(gpu().clock_reasons()->throttled());
  EXPECT_EQ(gpu().sm_clock().value(), Megahertz{510});
  EXPECT_TRUE(gpu(1).clock_reasons()->has(ClockReason::kIdle));
}

TEST_F(SimBackendTest, NoCounterIsIntegrated) {
  inject(0, FaultKind::kNoEnergyCounter);
  EXPECT_EQ(gpu().energy()->source, EnergySource::kIntegrated);
  EXPECT_EQ(gpu(1).energy()->source, EnergySource::kCounter);
}

/// The node's own clock.
class NodeTime final : public TimeSource {
 public:
  explicit NodeTime(simgpu::Node& node) : node_(node) {}
  Seconds now() override { return Seconds(static_cast<double>(node_.now_ns()) * 1e-9); }
  void sleep(Seconds duration) override { node_.advance_time(duration); }

 private:
  simgpu::Node& node_;
};

TEST_F(SimBackendTest, CounterPeriodIsMeasured) {
  NodeTime time(*node_);
  const auto period = measure_period(gpu(), Reading::kEnergy, time, {}).value();
  EXPECT_NEAR(period.median.value(), 0.1, 0.0011);
  EXPECT_EQ(period.updates, 20U);
}

TEST_F(SimBackendTest, DriverOf2020IsRead) {
  open(PERSEUS_SIM_NVML_OLD_PATH);
  EXPECT_TRUE(gpu().clock_reasons()) << "under its older name";
  EXPECT_TRUE(gpu().temperature());
  EXPECT_TRUE(gpu().power());
  EXPECT_TRUE(gpu().processes());
  ASSERT_TRUE(gpu().lock_clock(Megahertz{810}));
  EXPECT_EQ(truth().locked, Megahertz{810});
}

TEST(OpenBackend, SimNeedsASimulatedDriver) {
  ::unsetenv("PERSEUS_SIM_NVML");  // NOLINT(concurrency-mt-unsafe)
  const auto refused = open_backend({.kind = BackendKind::kSim});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(refused.error().text(),
            "no simulated driver: PERSEUS_SIM_NVML is not set; run `eval \"$(perseus sim create --gpus 8 "
            "--gpu-model "
            "a100-sxm-80g)\"` first");
}

}  // namespace
}  // namespace perseus::gpu
