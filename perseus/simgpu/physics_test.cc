// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "perseus/simgpu/node.h"
#include "perseus/simgpu/test_gpu.h"

namespace perseus::simgpu {
namespace {

using core::Joules;
using core::Megahertz;
using core::Seconds;
using core::Watts;
using ::testing::ElementsAre;

constexpr std::uint32_t kIdle = 0x1, kSetting = 0x2, kPowerCap = 0x4, kHardware = 0x8,
                        kSoftwareThermal = 0x20, kHardwareThermal = 0x40;

/// A node with manual time and one GPU.
class Physics : public ::testing::Test {
 protected:
  Node& make(const NodeSpec& spec) {
    auto node = Node::create(file_.path(), spec);
    if (!node) throw std::runtime_error(node.error().text());
    node_ = std::make_unique<Node>(std::move(*node));
    return *node_;
  }
  Node& make() { return make(test_node()); }
  [[nodiscard]] Observation now() const { return node_->observe(0).value(); }
  /// Queues work that must be accepted.
  std::uint64_t start(const Work& work) { return node_->enqueue(0, work).value(); }
  /// The end of work that must be over.
  Completion end(std::uint64_t number) { return node_->poll(0, number).value().value(); }
  void pass(double seconds) { node_->advance_time(Seconds(seconds)); }

  TestFile file_;
  std::unique_ptr<Node> node_;
};

TEST_F(Physics, IdleGpuDrawsIdlePowerAtItsLowestClock) {
  make();
  pass(10);
  const Observation seen = now();
  EXPECT_EQ(seen.sm_clock, Megahertz(200));
  EXPECT_EQ(seen.reasons, kIdle);
  EXPECT_DOUBLE_EQ(seen.power.value(), 30);
  EXPECT_DOUBLE_EQ(seen.energy.value(), 300);
  EXPECT_EQ(seen.utilization, 0);
}

TEST_F(Physics, WorkAtTheTopClockTakesItsDurationAndDrawsStaticAndDynamicPower) {
  make();
  const auto work = start({.duration = Seconds(2)});
  pass(1.5);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  EXPECT_EQ(now().reasons, 0U);
  EXPECT_DOUBLE_EQ(now().power.value(), 240);
  EXPECT_FALSE(node_->poll(0, work).value().has_value());
  pass(1.5);
  EXPECT_EQ(end(work).begin_ns, 0);
  EXPECT_EQ(end(work).end_ns, 2'000'000'000);
  EXPECT_DOUBLE_EQ(end(work).time.value(), 2);
  EXPECT_DOUBLE_EQ(end(work).energy.value(), 480);
}

TEST_F(Physics, UtilizationAndMemoryScaleTheirPower) {
  make();
  const auto work = start({.duration = Seconds(1), .utilization = 0.25, .memory_utilization = 0.5});
  pass(1);
  EXPECT_DOUBLE_EQ(end(work).energy.value(), 40 + 0.25 * 200 + 0.5 * 50);
}

TEST_F(Physics, OnlyTheShareThatIsNotMemoryBoundScalesWithTheClock) {
  make();
  ASSERT_EQ(node_->lock_clock(0, 400, 400), Answer::kOk);
  pass(1);  // the new clock has arrived
  const auto work = start({.duration = Seconds(1), .memory_bound = 0.2});
  pass(10);
  EXPECT_EQ(end(work).end_ns - end(work).begin_ns, 2'200'000'000);  // 0.8 x 1000 / 400 + 0.2
  EXPECT_NEAR(end(work).energy.value(), 2.2 * 80, 1e-9);
}

TEST_F(Physics, ClockSwitchesInTheMiddleOfWorkAfterItsLatency) {
  make();
  const auto work = start({.duration = Seconds(1)});
  pass(0.39);
  ASSERT_EQ(node_->lock_clock(0, 500, 500), Answer::kOk);  // between two steps: the lower one, 400 MHz
  pass(0.005);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  pass(0.005);
  EXPECT_EQ(now().sm_clock, Megahertz(400));  // 10 ms after the call
  EXPECT_EQ(now().reasons, kSetting);
  EXPECT_EQ(now().locked, Megahertz(500));
  pass(10);
  // 0.4 s at the top clock, then 0.6 s of work at 400 MHz take 1.5 s.
  EXPECT_EQ(end(work).end_ns, 1'900'000'000);
  EXPECT_NEAR(end(work).energy.value(), 0.4 * 240 + 1.5 * 80, 1e-9);
}

TEST_F(Physics, LaterSettingReplacesTheOneThatHasNotArrived) {
  make();
  start({.duration = Seconds(10)});
  node_->lock_clock(0, 400, 400);
  pass(0.006);
  node_->lock_clock(0, 800, 800);
  pass(0.006);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));  // 400 MHz never came
  pass(0.004);
  EXPECT_EQ(now().sm_clock, Megahertz(800));
  node_->reset_clock(0);
  pass(0.01);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  EXPECT_EQ(now().locked, std::nullopt);
}

TEST_F(Physics, WorksOfOneGpuRunOneAfterAnother) {
  make();
  const auto first = start({.duration = Seconds(1)});
  const auto second = start({.duration = Seconds(0.5)});
  EXPECT_EQ(now().works_waiting, 2U);
  pass(5);
  EXPECT_EQ(end(first).end_ns, 1'000'000'000);
  EXPECT_EQ(end(second).begin_ns, 1'000'000'000);
  EXPECT_EQ(end(second).end_ns, 1'500'000'000);
}

TEST_F(Physics, ClockStaysUpForAWhileAfterTheLastWork) {
  make();
  start({.duration = Seconds(1)});
  pass(1.2);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  EXPECT_DOUBLE_EQ(now().power.value(), 40);  // static power only
  pass(0.3);
  EXPECT_EQ(now().sm_clock, Megahertz(200));
  EXPECT_DOUBLE_EQ(now().energy.value(), 240 + 0.5 * 40);
}

TEST_F(Physics, CounterShowsItsLastUpdateInWholeMillijoules) {
  NodeSpec spec = test_node();
  spec.gpus[0].idle_power = Watts(30.0001);
  make(spec);
  std::set<double> values;
  double last_change_s = 0;
  std::vector<double> periods_s;
  for (int ms = 1; ms <= 1000; ++ms) {
    pass(0.001);
    const double counter = now().counter.value();
    EXPECT_NEAR(counter * 1e3, std::round(counter * 1e3), 1e-6);
    if (values.insert(counter).second && values.size() > 1) {
      if (last_change_s > 0) periods_s.push_back(ms * 1e-3 - last_change_s);
      last_change_s = ms * 1e-3;
    }
  }
  ASSERT_GE(periods_s.size(), 8U);
  for (const double period : periods_s) EXPECT_NEAR(period, 0.1, 1e-9);
  EXPECT_LE(now().energy.value() - now().counter.value(), 0.1 * 30.0001 + 1e-3);
}

TEST_F(Physics, AveragePowerIsThatOfTheLastSecondThatHasEnded) {
  make();
  pass(2);
  start({.duration = Seconds(0.5)});
  pass(0.75);  // 2.75 s: the window is 1.7 s to 2.7 s; 0.3 s idle, 0.5 s busy, 0.2 s static
  EXPECT_NEAR(now().average_power.value(), 0.3 * 30 + 0.5 * 240 + 0.2 * 40, 1e-9);
  EXPECT_NEAR(now().utilization, 0.5, 1e-9);
  EXPECT_DOUBLE_EQ(now().power.value(), 40);
}

TEST_F(Physics, LookingDoesNotChangeADigit) {
  NodeSpec spec = test_node(2);
  for (GpuSpec& gpu : spec.gpus) gpu.thermal = ThermalSpec{};
  make(spec);
  const auto begin = [&](std::uint32_t gpu) {
    node_->lock_clock(gpu, 600, 600);
    node_->enqueue(gpu, {.duration = Seconds(3), .memory_bound = 0.3}).value();
  };
  begin(0);
  begin(1);
  for (int i = 0; i < 1000; ++i) {
    pass(0.0051);
    node_->observe(0).value();  // GPU 1 is left alone
  }
  const Observation watched = node_->observe(0).value();
  const Observation alone = node_->observe(1).value();
  EXPECT_EQ(watched.energy.value(), alone.energy.value());
  EXPECT_EQ(watched.temperature.value(), alone.temperature.value());
  EXPECT_EQ(watched.average_power.value(), alone.average_power.value());
  EXPECT_EQ(node_->poll(0, 0).value()->end_ns, node_->poll(1, 0).value()->end_ns);
}

TEST_F(Physics, TemperatureAndLeakageFollowTheirClosedForm) {
  NodeSpec spec = test_node();
  ThermalSpec& thermal = spec.gpus[0].thermal;
  thermal.resistance_k_per_w = 0.1;
  thermal.leakage_w_per_k = 0.5;
  thermal.time_constant = Seconds(20);
  make(spec);
  // In balance T = ambient + R P(T), P(T) = P + k (T - reference).
  const auto balance = [](double p) { return (30 + 0.1 * (p - 0.5 * 60)) / (1 - 0.1 * 0.5); };
  EXPECT_NEAR(now().temperature.value(), balance(30), 1e-12);
  start({.duration = Seconds(100)});
  pass(30);
  const double rate = (1 - 0.1 * 0.5) / 20;
  const double swing = balance(30) - balance(240);
  const double temperature = balance(240) + swing * std::exp(-rate * 30);
  EXPECT_NEAR(now().temperature.value(), temperature, 1e-9);
  EXPECT_NEAR(now().power.value(), 240 + 0.5 * (temperature - 60), 1e-9);
  const double energy =
      (240 + 0.5 * (balance(240) - 60)) * 30 + 0.5 * swing * (1 - std::exp(-rate * 30)) / rate;
  EXPECT_NEAR(now().energy.value(), energy, 1e-7);
}

TEST_F(Physics, HeatLowersTheClockUntilTheChipHasCooled) {
  NodeSpec spec = test_node();
  ThermalSpec& thermal = spec.gpus[0].thermal;
  thermal.resistance_k_per_w = 0.3;  // 240 W: 102 C in balance; 160 W at 800 MHz: 78 C
  thermal.throttle = core::Celsius(87);
  thermal.hysteresis_k = 3;
  thermal.time_constant = Seconds(10);
  make(spec);
  start({.duration = Seconds(1000)});
  const double hot_s = 10 * std::log((102 - 39.0) / (102 - 87.0));  // from 39 C, where it idles
  pass(hot_s - 0.001);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  pass(0.002);
  EXPECT_EQ(now().sm_clock, Megahertz(800));
  EXPECT_EQ(now().reasons, kSoftwareThermal);
  const double cool_s = 10 * std::log((87 - 78.0) / (84 - 78.0));
  pass(cool_s);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  EXPECT_EQ(now().reasons, 0U);
  for (int i = 0; i < 600; ++i) {
    pass(0.1);
    EXPECT_LE(now().temperature.value(), 87 + 1e-6);
  }
}

TEST_F(Physics, PowerNeverExceedsTheLimitWhileTheLowestClockKeepsIt) {
  make();
  ASSERT_EQ(node_->set_power_limit(0, Watts(150)), Answer::kOk);
  const auto work = start({.duration = Seconds(1)});
  EXPECT_EQ(now().sm_clock, Megahertz(600));
  EXPECT_EQ(now().reasons, kPowerCap);
  EXPECT_DOUBLE_EQ(now().power.value(), 110);
  EXPECT_DOUBLE_EQ(now().enforced_power_limit.value(), 150);
  pass(5);
  EXPECT_NEAR(end(work).time.value(), 1000.0 / 600, 1e-9);
  EXPECT_EQ(node_->set_power_limit(0, Watts(99)), Answer::kInvalidArgument);
  EXPECT_EQ(node_->set_power_limit(0, Watts(401)), Answer::kInvalidArgument);
}

TEST_F(Physics, LowestClockMayExceedAPowerCap) {
  make();
  ASSERT_TRUE(node_->inject(0, {FaultKind::kPowerCap, 50}));
  start({.duration = Seconds(1)});
  EXPECT_EQ(now().sm_clock, Megahertz(200));
  EXPECT_DOUBLE_EQ(now().power.value(), 60);
  EXPECT_EQ(now().reasons, kPowerCap);
  ASSERT_TRUE(node_->clear_fault(0, FaultKind::kPowerCap));
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
}

TEST_F(Physics, SustainedUtilizationIsTheMostThatHoldsTheTopClock) {
  NodeSpec spec = test_node();
  spec.gpus[0].power_limit = Watts(200);
  make(spec);
  const double most = sustained_utilization(spec.gpus[0], 0.2);
  EXPECT_NEAR(most, (200 - 40 - 10) / 200.0, 1e-8);
  start({.duration = Seconds(1), .utilization = most, .memory_utilization = 0.2});
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
  EXPECT_EQ(now().reasons, 0U);
  EXPECT_EQ(sustained_utilization(test_gpu(), 0), 1);
}

TEST_F(Physics, HardwareThrottleHoldsTheClockAndSaysSo) {
  make();
  start({.duration = Seconds(100)});
  ASSERT_TRUE(node_->inject(0, {FaultKind::kThrottle, 0}));
  EXPECT_EQ(now().sm_clock, Megahertz(400));  // half of 1000, rounded down to a step
  EXPECT_EQ(now().reasons, kHardware | kHardwareThermal);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kThrottle, 800}));
  EXPECT_EQ(now().sm_clock, Megahertz(800));
}

TEST_F(Physics, ApplicationClocksBoundTheClockWhereNoLockIs) {
  make();
  start({.duration = Seconds(100)});
  EXPECT_EQ(node_->set_application_clocks(0, 1500, 700), Answer::kInvalidArgument);  // not supported
  EXPECT_EQ(node_->set_application_clocks(0, 1501, 600), Answer::kInvalidArgument);
  ASSERT_EQ(node_->set_application_clocks(0, 1500, 600), Answer::kOk);
  pass(0.01);
  EXPECT_EQ(now().sm_clock, Megahertz(600));
  node_->lock_clock(0, 800, 800);
  pass(0.01);
  EXPECT_EQ(now().sm_clock, Megahertz(800));
  node_->reset_clock(0);
  node_->reset_application_clocks(0);
  pass(0.01);
  EXPECT_EQ(now().sm_clock, Megahertz(1000));
}

TEST_F(Physics, TenThousandSecondsInOneStepAreCheapAndExact) {
  make();
  for (int i = 0; i < 900; ++i) start({.duration = Seconds(10)});
  pass(10'000);
  EXPECT_EQ(end(899).end_ns, 9'000'000'000'000);
  EXPECT_NEAR(now().energy.value(), 9000 * 240 + 0.5 * 40 + 999.5 * 30, 1e-4);
}

/// Arrival times of alternating switches, in nanoseconds after the call.
std::vector<std::int64_t> latencies(Node& node, const std::vector<std::uint32_t>& targets_mhz) {
  std::vector<std::int64_t> found;
  node.enqueue(0, {.duration = Seconds(1e5)}).value();
  for (const std::uint32_t mhz : targets_mhz) {
    const std::int64_t called = node.now_ns();
    EXPECT_EQ(node.lock_clock(0, mhz, mhz), Answer::kOk);
    while (node.observe(0).value().sm_clock != Megahertz(mhz)) node.advance_time(Seconds(1e-5));
    found.push_back(node.now_ns() - called);
  }
  return found;
}

TEST_F(Physics, LatenciesFollowTheSeedAndTheTargetClock) {
  NodeSpec spec = test_node();
  spec.gpus[0].latency = {Seconds(0.01), 0.5, 0.02, Seconds(0.004), Seconds(0.03)};
  std::vector<std::uint32_t> targets_mhz;
  for (int i = 0; i < 20; ++i) targets_mhz.insert(targets_mhz.end(), {400, 800, 200, 600});
  const auto first = latencies(make(spec), targets_mhz);
  ASSERT_TRUE(Node::destroy(file_.path()));
  EXPECT_EQ(latencies(make(spec), targets_mhz), first);
  ASSERT_TRUE(Node::destroy(file_.path()));
  spec.seed = 2;
  EXPECT_NE(latencies(make(spec), targets_mhz), first);
  for (std::size_t target = 0; target < 4; ++target) {
    for (std::size_t i = target; i < first.size(); i += 4) {
      EXPECT_GE(first[i], 3'990'000);
      EXPECT_LE(first[i], 30'010'000);
      // Each target has a latency of its own, from which single switches differ by a few times 2 %.
      EXPECT_NEAR(static_cast<double>(first[i]) / static_cast<double>(first[target]), 1, 0.15);
    }
  }
  EXPECT_GT(std::set<std::int64_t>(first.begin(), first.begin() + 4).size(), 3U);
}

TEST_F(Physics, IdentityComesFromTheSeed) {
  make(test_node(3));
  std::set<std::string> uuids;
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Identity identity = node_->identity(i).value();
    EXPECT_EQ(identity.index, i);
    EXPECT_THAT(
        identity.uuid,
        ::testing::MatchesRegex("GPU-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
    uuids.insert(identity.uuid);
  }
  EXPECT_EQ(uuids.size(), 3U);
  EXPECT_EQ(node_->identity(0).value().pci_bus_id, "00000000:07:00.0");
  EXPECT_EQ(node_->identity(2).value().pci_bus_id, "00000000:0D:00.0");
  EXPECT_EQ(node_->identity(3).error().message(), "GPU 3 does not exist: this simulated machine has 3");
}

}  // namespace
}  // namespace perseus::simgpu
