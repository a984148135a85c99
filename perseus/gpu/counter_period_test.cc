// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/counter_period.h"

#include <gmock/gmock.h>

#include <cmath>

#include "perseus/gpu/energy_meter.h"
#include "tests/fake_gpu/fake_device.h"
#include "tests/fake_gpu/manual_time.h"

namespace perseus::gpu {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Seconds;
using core::Watts;

class CounterPeriodTest : public testing::Test {
 protected:
  /// A counter that is refreshed every `period` and a power that is refreshed every 25 ms.
  std::function<void(Seconds)> world(double period) {
    return [this, period](Seconds now) {
      gpu_.set_energy({Joules(90 * period * std::floor(now.value() / period)), EnergySource::kCounter, 0});
      const double tick = std::floor(now.value() / 0.025);
      gpu_.set_power({.momentary = std::nullopt, .averaged = Watts(90 + std::fmod(tick, 7))});
    };
  }
  tests::FakeBackend backend_{1};
  tests::FakeDevice& gpu_ = backend_.device(0);
};

TEST_F(CounterPeriodTest, MeasuresWhatIsThere) {
  for (const double period : {0.02, 0.1}) {
    tests::ManualTime time(world(period));
    time.sleep(Seconds{0.007});
    const auto measured = measure_period(gpu_, Reading::kEnergy, time, {}).value();
    EXPECT_NEAR(measured.median.value(), period, 0.0011);
    EXPECT_NEAR(measured.longest.value(), period, 0.0011);
    EXPECT_NEAR(measured.resolution.value(), 0.001, 1e-9);
    EXPECT_EQ(measured.updates, 20U);
    EXPECT_NEAR(measure_period(gpu_, Reading::kPower, time, {})->median.value(), 0.025, 0.0011);
  }
}

TEST_F(CounterPeriodTest, MakesDoWithFewUpdates) {
  tests::ManualTime time(world(2.0));
  time.sleep(Seconds{0.007});
  const auto measured = measure_period(gpu_, Reading::kEnergy, time, {}).value();
  EXPECT_EQ(measured.updates, 2U);
  EXPECT_NEAR(measured.median.value(), 2.0, 0.0011);
}

TEST_F(CounterPeriodTest, SaysWhatItCannotMeasure) {
  tests::ManualTime time([](Seconds) {});
  EXPECT_EQ(measure_period(gpu_, Reading::kEnergy, time, {}).error().text(),
            "GPU 0 (GPU-fa4e0000-0000-0000-0000-000000000000): its energy changed never in 5 s, so its "
            "period cannot "
            "be told");
  tests::ManualTime slow(world(4.0));
  slow.sleep(Seconds{0.007});
  EXPECT_EQ(measure_period(gpu_, Reading::kEnergy, slow, {.time_limit = Seconds{4.5}}).error().code(),
            ErrorCode::kTimeout);
  gpu_.set_energy({Joules{1}, EnergySource::kIntegrated, 0});
  EXPECT_EQ(
      measure_period(gpu_, Reading::kEnergy, time, {}).error().text(),
      "GPU 0 (GPU-fa4e0000-0000-0000-0000-000000000000): it has no energy counter, so none to measure the "
      "period of (its energy is power added up)");
  gpu_.fail(tests::Call::kPower, core::Error(ErrorCode::kDeviceLost, "gone"));
  EXPECT_EQ(measure_period(gpu_, Reading::kPower, time, {}).error().text(), "gone");
}

TEST(EnergyCrossCheck, BelievesWithinAQuarter) {
  const auto verdict = [](double factor) {
    EnergyCrossCheck check;
    EXPECT_EQ(check.add(Seconds{10}, Joules{500}, Joules{7}), std::nullopt);
    EXPECT_EQ(check.add(Seconds{11.9}, Joules{1e6}, Joules{100}), std::nullopt) << "too early";
    return check.add(Seconds{12}, Joules{500 + 200 * factor}, Joules{207});
  };
  EXPECT_EQ(verdict(1.0), true);
  EXPECT_EQ(verdict(1.25), true);
  EXPECT_EQ(verdict(1.26), false);
  EXPECT_EQ(verdict(0.8), true);
  EXPECT_EQ(verdict(0.79), false);
  EXPECT_EQ(verdict(0.0), false);
  EXPECT_EQ(verdict(-1.0), false);
}

TEST(EnergyCrossCheck, WaitsUntilThereIsSomethingToCompare) {
  EnergyCrossCheck check;
  EXPECT_EQ(check.add(Seconds{0}, Joules{0}, Joules{0}), std::nullopt);
  EXPECT_EQ(check.add(Seconds{100}, Joules{0}, Joules{0}), std::nullopt);
  EXPECT_EQ(check.add(Seconds{101}, Joules{10}, Joules{10}), true);
  EXPECT_EQ(check.add(Seconds{102}, Joules{0}, Joules{99}), true) << "a verdict stands";
  EXPECT_EQ(check.ratio(), 1.0);
}

TEST(PowerIntegrator, AddsTrapezoidsAndDropsGaps) {
  PowerIntegrator integrator;
  EXPECT_EQ(integrator.sample(Seconds{5}, Watts{100}).total, Joules{0});
  EXPECT_EQ(integrator.sample(Seconds{5.5}, Watts{300}).total, Joules{100});
  const EnergyReading after_gap = integrator.sample(Seconds{7}, Watts{300});
  EXPECT_EQ(after_gap.total, Joules{100});
  EXPECT_EQ(after_gap.epoch, 1U);
  EXPECT_EQ(after_gap.source, EnergySource::kIntegrated);
  EXPECT_EQ(integrator.sample(Seconds{8}, Watts{300}).total, Joules{400});
}

TEST(EnergyEpochs, MoveOnWithEveryBreak) {
  EnergyEpochs epochs;
  const auto note = [&](double joules, EnergySource source, std::uint32_t epoch) {
    return epochs.note({Joules{joules}, source, epoch}).epoch;
  };
  EXPECT_EQ(note(5, EnergySource::kCounter, 0), 0U);
  EXPECT_EQ(note(5, EnergySource::kCounter, 0), 0U);
  EXPECT_EQ(note(4, EnergySource::kCounter, 0), 1U);
  EXPECT_EQ(note(9, EnergySource::kIntegrated, 0), 2U);
  EXPECT_EQ(note(9, EnergySource::kIntegrated, 1), 3U);
  EXPECT_EQ(note(10, EnergySource::kIntegrated, 1), 3U);
}

}  // namespace
}  // namespace perseus::gpu
