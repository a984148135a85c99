// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/sim_gpu.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "perseus/cli/sim_library.h"
#include "perseus/model/gpu_physics.h"

namespace perseus::cli {
namespace {

std::string document() {
  std::ifstream in(PERSEUS_SOURCE_DIR "/docs/simulated_gpu.md");
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(SimulatedGpu, EveryProductOfTheZooHasOneThatIsSound) {
  ASSERT_EQ(driver_facts().size(), model::gpus().size());
  for (std::size_t i = 0; i < model::gpus().size(); ++i) {
    const model::GpuModel& gpu = model::gpus()[i];
    EXPECT_EQ(driver_facts()[i].gpu, gpu.name);
    simgpu::NodeSpec node;
    node.gpus = {simulated_gpu(gpu).value()};
    EXPECT_TRUE(simgpu::validate(node)) << gpu.name;
  }
}

TEST(SimulatedGpu, ClocksAndPowersAreTheModels) {
  const model::GpuModel& gpu = *model::find_gpu("a100-sxm-80g").value();
  const simgpu::GpuSpec spec = simulated_gpu(gpu).value();
  ASSERT_EQ(spec.clocks.size(), 81U);
  EXPECT_EQ(spec.clocks.front().clock, core::Megahertz(210));
  EXPECT_EQ(spec.clocks.back().clock, core::Megahertz(1410));
  for (const simgpu::ClockSpec& clock : spec.clocks) {
    EXPECT_EQ(clock.dynamic_power, model::dynamic_power(gpu, clock.clock));
    EXPECT_EQ(clock.static_power, core::Watts(50));
  }
  EXPECT_EQ(spec.power_limit, core::Watts(400));
  EXPECT_EQ(spec.pci_device_id, 0x20B210DEU);
}

TEST(SimulatedGpu, AtItsPowerLimitAProductStaysBelowItsThrottlingTemperature) {
  for (const model::GpuModel& gpu : model::gpus()) {
    const simgpu::GpuSpec spec = simulated_gpu(gpu).value();
    const simgpu::ThermalSpec& thermal = spec.thermal;
    EXPECT_LT(thermal.ambient.value() + thermal.resistance_k_per_w * spec.power_limit.value(),
              thermal.throttle.value())
        << gpu.name;
  }
}

TEST(SimulatedGpu, DocumentHasTheFactsOfEveryProduct) {
  const std::string page = document();
  for (const DriverFacts& facts : driver_facts()) {
    const std::string row = fmt::format(
        "| `{}` | {} | {} | {} | {} | {} | {}, {} | {} |", facts.gpu, facts.driver_name,
        facts.memory_clock.value, facts.memory_bytes.value / (1024 * 1024), facts.least_power_limit.value,
        facts.thermal_resistance.value, facts.latency_median.value * 1e3, facts.latency_most.value * 1e3,
        facts.power_usage_is_average ? "averaged" : "momentary");
    EXPECT_THAT(page, ::testing::HasSubstr(row));
  }
}

TEST(ExportLine, QuotesWhatAShellWouldTakeApart) {
  EXPECT_EQ(export_line("A", "/dev/shm/x-1:/y"), "export A=/dev/shm/x-1:/y\n");
  EXPECT_EQ(export_line("A", "a b"), "export A='a b'\n");
  EXPECT_EQ(export_line("A", "it's $HOME"), "export A='it'\\''s $HOME'\n");
  EXPECT_EQ(export_line("A", ""), "export A=''\n");
}

}  // namespace
}  // namespace perseus::cli
