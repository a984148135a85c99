// SPDX-License-Identifier: Apache-2.0
//
// A GPU with round numbers and a state file that removes itself, for this room's tests.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "perseus/simgpu/node.h"
#include "tests/support/temporary_folder.h"

namespace perseus::simgpu {

/// Five clocks from 200 to 1000 MHz; no heat and no leakage; every switch takes 10 ms; idle 30 W; 40 W and
/// 20, 40, 70, 120 or 200 W more under full load.
inline GpuSpec test_gpu() {
  GpuSpec gpu;
  gpu.name = "Test GPU";
  const double dynamic_w[] = {20, 40, 70, 120, 200};
  for (std::uint32_t i = 0; i < 5; ++i) {
    gpu.clocks.push_back({core::Megahertz(200 * (i + 1)), core::Watts(dynamic_w[i]), core::Watts(40)});
  }
  gpu.memory_clock = core::Megahertz(1500);
  gpu.idle_power = core::Watts(30);
  gpu.memory_power = core::Watts(50);
  gpu.power_limit = core::Watts(400);
  gpu.least_power_limit = core::Watts(100);
  gpu.thermal.resistance_k_per_w = 0;
  gpu.thermal.leakage_w_per_k = 0;
  gpu.latency = {core::Seconds(0.01), 0, 0, core::Seconds(0.001), core::Seconds(0.1)};
  return gpu;
}

/// One such machine whose time stands still.
inline NodeSpec test_node(std::size_t gpus = 1) {
  NodeSpec spec;
  spec.gpus.assign(gpus, test_gpu());
  spec.manual_time = true;
  return spec;
}

/// A folder of its own with a path for a state file; both are gone with the object.
class TestFile {
 public:
  [[nodiscard]] std::string path() const { return folder_.file("state"); }

 private:
  tests::TemporaryFolder folder_{"/dev/shm"};
};

}  // namespace perseus::simgpu
