// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/gpu_physics.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace perseus::model {
namespace {

using core::Megahertz;

const GpuModel& a100() {
  return **find_gpu("a100-sxm-80g");
}

TEST(Voltage, IsFlatBelowTheKneeAndLinearAbove) {
  EXPECT_EQ(relative_voltage(a100(), Megahertz(210)), 1);
  EXPECT_EQ(relative_voltage(a100(), Megahertz(1080)), 1);
  EXPECT_DOUBLE_EQ(relative_voltage(a100(), Megahertz(1245)), 1.1);
  EXPECT_DOUBLE_EQ(relative_voltage(a100(), Megahertz(1410)), 1.2);
}

TEST(DynamicPower, IsClockTimesVoltageSquared) {
  EXPECT_DOUBLE_EQ(dynamic_power(a100(), Megahertz(1000)).value(), 209);
  EXPECT_DOUBLE_EQ(dynamic_power(a100(), Megahertz(1410)).value(), 0.209 * 1410 * 1.44);
}

TEST(Run, CostsAComputeBoundKernelByHand) {
  // 108 SMs x 2048 FLOP x 1 GHz x 0.66 for 1e12 FLOP; 2.039e9 B of memory traffic take 1 ms of that.
  const std::vector<Kernel> work{{KernelClass::kGemm, 1e12, 2.039e9, 3}};
  const double one = 1e12 / (108 * 2048 * 1e9 * 0.66);
  const Cost cost = run_unlimited(a100(), 1, work, Megahertz(1000));
  EXPECT_NEAR(cost.time.value(), 3 * one, 1e-12);
  EXPECT_NEAR(cost.energy.value(), 3 * ((50 + 209) * one + 64 * 0.001), 1e-9);
}

TEST(Run, CostsAMemoryBoundKernelByHand) {
  // The GEMM needs 10 ms of memory and hardly any of the tensor cores: their load is the floor of 0.3.
  const std::vector<Kernel> work{{KernelClass::kGemm, 1, 20.39e9, 1},
                                 {KernelClass::kMemory, 0, 0.85 * 20.39e9, 1}};
  const Cost cost = run_unlimited(a100(), 1, work, Megahertz(1000));
  EXPECT_NEAR(cost.time.value(), 0.02, 1e-12);
  EXPECT_NEAR(cost.energy.value(), 0.01 * (50 + 0.3 * 209 + 64) + 0.01 * (50 + 0.3 * 209 + 0.85 * 64), 1e-9);
}

TEST(Run, MemoryAndLinksDoNotCareForTheClock) {
  const std::vector<Kernel> work{{KernelClass::kMemory, 0, 1e9, 2}, {KernelClass::kLink, 0, 1e9, 2}};
  EXPECT_EQ(run_unlimited(a100(), 8, work, Megahertz(1410)).time,
            run_unlimited(a100(), 8, work, Megahertz(210)).time);
}

TEST(Run, AllReducesUseThePairLinkBetweenTwo) {
  const GpuModel& a40 = **find_gpu("a40");
  const std::vector<Kernel> work{{KernelClass::kLink, 0, 45e9, 1}};
  EXPECT_NEAR(run_unlimited(a40, 2, work, Megahertz(1740)).time.value(), 1 + 2e-5, 1e-12);
  EXPECT_NEAR(run_unlimited(a40, 4, work, Megahertz(1740)).time.value(), 45 / 19.2 + 2e-5, 1e-12);
}

TEST(HeldClock, StepsDownUntilThePowerLimitHolds) {
  // A GEMM at 1410 MHz would take 50 + 0.209 x 1410 x 1.44 = 474 W. 1305 MHz with (1 + 0.2 x 225 / 330)^2 is
  // 402 W, 1290 MHz 390 W.
  const std::vector<Kernel> gemm{{KernelClass::kGemm, 1e12, 0, 1}};
  EXPECT_EQ(held_clock(a100(), 1, gemm, Megahertz(1410)), Megahertz(1290));
  EXPECT_EQ(held_clock(a100(), 1, gemm, Megahertz(1200)), Megahertz(1200));
  const Cost limited = run(a100(), 1, gemm, Megahertz(1410));
  EXPECT_EQ(limited.time, run_unlimited(a100(), 1, gemm, Megahertz(1290)).time);
  EXPECT_LE(limited.energy / limited.time, core::Watts(400));
}

/// Average power of a large GEMM, in watts.
double gemm_power(const GpuModel& gpu, std::uint32_t clock) {
  // One layer's worth of GPT-3 175B on 8 GPUs: 2048 x 12288 x 6144.
  const std::vector<Kernel> gemm{
      {KernelClass::kGemm, 2.0 * 2048 * 12288 * 6144, 2.0 * (2048 * 12288 + 12288 * 6144 + 2048 * 6144), 1}};
  const Cost cost = run_unlimited(gpu, 8, gemm, Megahertz(clock));
  return cost.energy.value() / cost.time.value();
}

TEST(Calibration, A100PowerOverClockIsThePublishedProfiles) {
  // Forward of GPT-3 175B on A100 SXM (github.com/ml-energy/zeus, sosp24_data/emulation/stage_profile):
  // energy over time.
  for (const auto& [clock, watts] : std::vector<std::pair<std::uint32_t, double>>{
           {855, 234.6}, {960, 257.1}, {1080, 282.3}, {1200, 343.5}, {1290, 413.1}}) {
    EXPECT_NEAR(gemm_power(a100(), clock) / watts, 1, 0.06) << clock;
  }
}

TEST(Calibration, A40PowerOverClockIsThePublishedProfiles) {
  for (const auto& [clock, watts] : std::vector<std::pair<std::uint32_t, double>>{
           {855, 176.7}, {960, 187.9}, {1080, 199.8}, {1200, 223.7}, {1320, 254.5}, {1440, 293.6}}) {
    EXPECT_NEAR(gemm_power(**find_gpu("a40"), clock) / watts, 1, 0.06) << clock;
  }
}

}  // namespace
}  // namespace perseus::model
