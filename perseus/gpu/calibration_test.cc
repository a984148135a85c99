// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/calibration.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/fake_gpu/fake_device.h"
#include "tests/fake_gpu/manual_time.h"

namespace perseus::gpu {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Megahertz;
using core::Seconds;
using core::Watts;

std::vector<Megahertz> mhz(std::initializer_list<std::uint32_t> values) {
  return {values.begin(), values.end()};
}

TEST(SpreadTargets, KeepsBothEnds) {
  const auto clocks = mhz({210, 225, 240, 255, 270, 285, 300});
  EXPECT_EQ(spread_targets(clocks, 2), mhz({210, 300}));
  EXPECT_EQ(spread_targets(clocks, 3), mhz({210, 255, 300}));
  EXPECT_EQ(spread_targets(clocks, 4), mhz({210, 240, 270, 300}));
  EXPECT_EQ(spread_targets(clocks, 6), mhz({210, 225, 240, 270, 285, 300}));
  EXPECT_EQ(spread_targets(clocks, 7), clocks);
  EXPECT_EQ(spread_targets(clocks, 100), clocks);
}

/// A GPU whose clock follows `clock / 100` ms after it was set, with a counter of 20 ms.
class CalibrationTest : public testing::Test {
 protected:
  CalibrationTest() {
    gpu_.set_utilization(1);
    gpu_.set_sm_clock(Megahertz{1410});
  }
  void world(Seconds now) {
    gpu_.set_energy({Joules(std::floor(now.value() / 0.02)), EnergySource::kCounter, 0});
    gpu_.set_power(
        {.momentary = Watts(100 + std::fmod(std::floor(now.value() / 0.05), 3)), .averaged = std::nullopt});
    if (wanted_ && now >= due_) gpu_.set_sm_clock(wanted_);
  }
  [[nodiscard]] Seconds latency_of(Megahertz clock) const {
    return Seconds(clock.value() * 1e-5 + call_.value());
  }
  core::Status set(Megahertz clock) {
    time_.sleep(call_);  // the driver's own time
    due_ = time_.now() - call_ + latency_of(clock);
    wanted_ = clock == stuck_ ? std::nullopt : std::optional(clock);
    return {};
  }
  core::Result<format::Calibration> run(std::vector<Megahertz> targets, std::uint32_t tries = 3) {
    return calibrate(gpu_, [this](Megahertz clock) { return set(clock); }, time_,
                     {.targets = std::move(targets), .tries = tries});
  }

  tests::FakeBackend backend_{1};
  tests::FakeDevice& gpu_ = backend_.device(0);
  tests::ManualTime time_{[this](Seconds now) { world(now); }};
  Seconds call_{0.0005};
  std::optional<Megahertz> wanted_;
  std::optional<Megahertz> stuck_;
  Seconds due_;
};

TEST_F(CalibrationTest, MeasuresEachTarget) {
  const auto result = run(mhz({210, 600, 1410}));
  ASSERT_TRUE(result) << result.error().text();
  ASSERT_EQ(result->targets.size(), 3U);
  for (const auto& target : result->targets) {
    SCOPED_TRACE(target.clock.value());
    EXPECT_EQ(target.samples, 2U * 3U);
    EXPECT_EQ(target.unsettled, 0U);
    ASSERT_TRUE(target.latency);
    // Seen at the first look at or after it happened.
    EXPECT_NEAR(target.latency->median.value(), latency_of(target.clock).value() + 0.0001, 0.00011);
    EXPECT_GE(target.latency->median.value(), latency_of(target.clock).value() - 1e-9);
    EXPECT_LE(target.latency->longest.value(), latency_of(target.clock).value() + 0.0002 + 1e-9);
  }
  ASSERT_EQ(result->pairs.size(), 6U);
  EXPECT_EQ(result->pairs[0].from, Megahertz{210});
  EXPECT_EQ(result->pairs[0].to, Megahertz{600});
  EXPECT_EQ(result->pairs[0].samples, 3U);
  EXPECT_NEAR(result->energy_period->median.value(), 0.02, 0.0011);
  EXPECT_NEAR(result->power_period->median.value(), 0.05, 0.0011);
  EXPECT_TRUE(result->energy_counter);
  EXPECT_GT(result->resolution, Seconds{0.0001});
  EXPECT_LT(result->resolution, Seconds{0.0003});
  EXPECT_EQ(result->uuid, "GPU-fa4e0000-0000-0000-0000-000000000000");
}

TEST_F(CalibrationTest, CountsWhatDoesNotSettle) {
  stuck_ = Megahertz{600};
  const auto result = run(mhz({210, 600}), 2).value();
  EXPECT_EQ(result.targets[0].samples, 2U);
  EXPECT_EQ(result.targets[1].samples, 0U);
  EXPECT_EQ(result.targets[1].unsettled, 2U);
  EXPECT_EQ(result.targets[1].latency, std::nullopt);
  ASSERT_EQ(result.pairs.size(), 1U);
  gpu_.set_clock_reasons(ClockReasons(static_cast<std::uint32_t>(ClockReason::kPowerCap)));
  EXPECT_EQ(run(mhz({210, 600}), 2)->targets[1].throttled, 2U);
}

// A clock that touches its target on the way and goes on has not settled there.
TEST_F(CalibrationTest, PassingByIsNotSettling) {
  const Megahertz target{600};
  tests::ManualTime time([&](Seconds now) {
    const double since = (now - due_).value();
    gpu_.set_sm_clock(since < 0.002                    ? Megahertz{210}
                      : since < 0.004 || since >= 0.01 ? wanted_.value_or(target)
                                                       : Megahertz{615});
  });
  const auto result = calibrate(
      gpu_,
      [&](Megahertz clock) -> core::Status {
        due_ = time.now();
        wanted_ = clock;
        return {};
      },
      time, {.targets = {Megahertz{210}, target}, .tries = 1, .periods = {.time_limit = Seconds{0.01}}});
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_NEAR(result->targets[1].latency->median.value(), 0.01, 0.00025);
  EXPECT_EQ(result->energy_period, std::nullopt) << "it never changed";
}

TEST_F(CalibrationTest, RefusesAnIdleGpu) {
  gpu_.set_utilization(0.49);
  EXPECT_EQ(run(mhz({210, 600})).error().text(),
            "GPU 0 (GPU-fa4e0000-0000-0000-0000-000000000000): it is idle (49 % busy), and the clock of an "
            "idle GPU "
            "follows no lock; run steady work on it meanwhile, such as a matrix multiplication in a loop");
  EXPECT_EQ(wanted_, std::nullopt) << "its clock was set all the same";
}

TEST_F(CalibrationTest, PassesErrorsOn) {
  EXPECT_EQ(run(mhz({210})).error().text(),
            "GPU 0 (GPU-fa4e0000-0000-0000-0000-000000000000): 1 clock to switch to; at least 2 are needed");
  gpu_.fail(tests::Call::kSmClock, core::Error(ErrorCode::kDeviceLost, "gone"));
  EXPECT_EQ(run(mhz({210, 600})).error().text(), "gone");
  gpu_.clear_failure(tests::Call::kSmClock);
  EXPECT_EQ(
      calibrate(gpu_, [](Megahertz) -> core::Status { return core::fail(ErrorCode::kPermission, "no"); },
                time_, {.targets = mhz({210, 600})})
          .error()
          .text(),
      "no");
}

}  // namespace
}  // namespace perseus::gpu
