// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/workload.h"

#include <gmock/gmock.h>

namespace perseus::demo {
namespace {

using core::Seconds;

/// As much of an A100 as a workload looks at.
simgpu::GpuSpec gpu() {
  simgpu::GpuSpec spec;
  spec.clocks = {{core::Megahertz(210), core::Watts(44), core::Watts(50)},
                 {core::Megahertz(1410), core::Watts(424), core::Watts(50)}};
  spec.memory_power = core::Watts(64);
  spec.power_limit = core::Watts(400);
  return spec;
}

TEST(WorkloadTest, StagesOfTheDemoAreNotBalanced) {
  const auto workload = make_workload({}, gpu());
  ASSERT_TRUE(workload) << workload.error().text();
  ASSERT_EQ(workload->stages.size(), 4U);
  EXPECT_GT(workload->stages[1].backward / workload->stages[0].backward, 1.1);
  EXPECT_EQ(workload->shortest, workload->stages[0].forward);
  for (const StageWork& stage : workload->stages) {
    EXPECT_GT(stage.memory_bound, 0.1);
    EXPECT_LT(stage.memory_bound, 0.3);
    EXPECT_GT(stage.utilization, 0.5);
    EXPECT_LE(stage.utilization, 1);
  }
}

TEST(WorkloadTest, AModelThatTheZooDoesNotKnowIsRefused) {
  const auto workload = make_workload({.model = "gpt-99"}, gpu());
  ASSERT_FALSE(workload);
  EXPECT_EQ(workload.error().code(), core::ErrorCode::kInvalidInput);
}

TEST(WorkloadTest, TheIdealIterationIsTheLongestPath) {
  Workload workload;
  workload.stages = {{.forward = Seconds(1), .backward = Seconds(2)},
                     {.forward = Seconds(1.5), .backward = Seconds(3)}};
  // F0 of stage 0, then all of stage 1, then its last gradient comes back.
  EXPECT_EQ(*ideal_iteration(workload, 3), Seconds(1 + 3 * 4.5 + 2));
  EXPECT_EQ(*ideal_iteration(workload, 1), Seconds(7.5));
}

}  // namespace
}  // namespace perseus::demo
