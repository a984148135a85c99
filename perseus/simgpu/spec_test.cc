// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/spec.h"

#include <gmock/gmock.h>

#include <cmath>

#include "perseus/simgpu/test_gpu.h"

namespace perseus::simgpu {
namespace {

using core::Megahertz;
using core::Seconds;
using core::Watts;

/// What validate() says of test_node() after `change`.
template <class Change>
std::string refusal(Change change) {
  NodeSpec spec = test_node();
  change(spec, spec.gpus[0]);
  const core::Status status = validate(spec);
  return status ? "accepted" : status.error().message();
}

TEST(Spec, TestGpuIsSound) {
  EXPECT_TRUE(validate(test_node()));
}

TEST(Spec, RefusalsNameFieldValueAndLimits) {
  EXPECT_EQ(refusal([](NodeSpec& node, GpuSpec&) { node.gpus.clear(); }),
            "gpus: a number of 0 is not from 1 to 64");
  EXPECT_EQ(refusal([](NodeSpec& node, GpuSpec&) { node.gpus.resize(65, test_gpu()); }),
            "gpus: a number of 65 is not from 1 to 64");
  EXPECT_EQ(refusal([](NodeSpec& node, GpuSpec&) {
              node.manual_time = false;
              node.time_scale = NAN;
            }),
            "time_scale: nan is not from 0.001 to 1000000");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.name = std::string(96, 'x'); }),
            "name: a text of 96 bytes is not 1 to 95 printable ASCII characters");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.name = "a\nb"; }),
            "name: a text of 3 bytes is not 1 to 95 printable ASCII characters");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.clocks[2].clock = Megahertz(300); }),
            "clocks: 300 MHz after 400 MHz is not a higher clock with at least the power of the one before");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.clocks[1].dynamic_power = Watts(-1); }),
            "dynamic_power (W): -1 is not from 0 to 100000");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.counter_period = Seconds(0); }),
            "counter_period (s): 0 is not from 1e-06 to 100");
}

TEST(Spec, ThermalRunawayAndNegativePowerAreRefused) {
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) {
              gpu.thermal.resistance_k_per_w = 1;
              gpu.thermal.leakage_w_per_k = 0.95;
            }),
            "resistance_k_per_w x leakage_w_per_k: 0.95 is not from 0 to 0.9");
  EXPECT_EQ(refusal([](NodeSpec&, GpuSpec& gpu) { gpu.thermal.leakage_w_per_k = 1.5; }),
            "idle_power (W): 30 is not from 45 to 100000");
}

}  // namespace
}  // namespace perseus::simgpu
