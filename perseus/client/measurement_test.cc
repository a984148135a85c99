// SPDX-License-Identifier: Apache-2.0
//
// The parts that measure: times, energy, throttling, the guard's count.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "perseus/client/energy_ledger.h"
#include "perseus/client/kind_times.h"
#include "perseus/client/promise_guard.h"
#include "perseus/client/telemetry.h"
#include "perseus/client/throttle_log.h"
#include "tests/support/property.h"

namespace perseus::client {
namespace {

using core::Joules;
using core::Kind;
using core::Seconds;

constexpr KindKey kForward{Kind::kForward, 0, 1410};
constexpr KindKey kBackward{Kind::kBackward, 0, 1410};
constexpr std::uint64_t kMs = 1'000'000;

TEST(KindSamplesTest, MeanAndSpreadOfWhatIsBelievable) {
  KindSamples samples;
  for (const double time : {0.029, 0.030, 0.031, 0.030, 0.030, 0.031, 0.029}) {
    samples.add(kForward, Seconds(time), Seconds(0.028));
  }
  samples.add(kForward, Seconds(0.2), Seconds(0.5));  // a page fault
  samples.reject(kForward);                           // a throttled one
  samples.reject(kBackward);                          // nothing else of this kind
  const auto times = samples.take();
  ASSERT_EQ(times.size(), 1U);
  EXPECT_EQ(times[0].count, 7U);
  EXPECT_EQ(times[0].rejected, 2U);
  EXPECT_NEAR(times[0].time.value(), 0.030, 1e-12);
  EXPECT_NEAR(times[0].deviation.value(), std::sqrt(4e-6 / 6), 1e-12);
  EXPECT_NEAR(times[0].expected.value(), 0.028, 1e-12);
  EXPECT_EQ(times[0].clock, core::Megahertz(1410));
  EXPECT_TRUE(samples.empty());
}

TEST(KindSamplesTest, EqualTimesDoNotMakeTheirNeighbourAnOutlier) {
  KindSamples samples;
  for (int i = 0; i < 10; ++i) samples.add(kForward, Seconds(0.01), Seconds(0));
  samples.add(kForward, Seconds(0.01004), Seconds(0));
  samples.add(kForward, Seconds(0.0102), Seconds(0));
  const auto times = samples.take();
  ASSERT_EQ(times.size(), 1U);
  EXPECT_EQ(times[0].count, 11U);
  EXPECT_EQ(times[0].rejected, 1U);
}

TEST(KindSamplesTest, KeysAreKeptApart) {
  KindSamples samples;
  samples.add(kForward, Seconds(0.01), Seconds(0));
  samples.add(kBackward, Seconds(0.02), Seconds(0));
  samples.add({Kind::kForward, 1, 1410}, Seconds(0.03), Seconds(0));
  samples.add({Kind::kForward, 0, 900}, Seconds(0.04), Seconds(0));
  EXPECT_EQ(samples.take().size(), 4U);
}

TEST(KindSamplesTest, NoMoreThanAServerTakes) {
  KindSamples samples;
  for (std::uint32_t stage = 0; stage < KindSamples::kMostKeys + 5; ++stage) {
    samples.add({Kind::kForward, stage, 900}, Seconds(0.01), Seconds(0));
    samples.reject({Kind::kForward, stage, 900});
  }
  EXPECT_EQ(samples.take().size(), KindSamples::kMostKeys);
}

TEST(ThrottleLogTest, ASampleSpeaksForTheTimeBeforeIt) {
  ThrottleLog log;
  log.add({100, false});
  log.add({200, true});
  log.add({300, true});
  log.add({400, false});
  log.add({500, false});
  EXPECT_DOUBLE_EQ(log.share(), 0.4);
  EXPECT_FALSE(log.touches(50, 99));
  EXPECT_TRUE(log.touches(50, 100));
  EXPECT_TRUE(log.touches(250, 260));
  EXPECT_TRUE(log.touches(300, 350));
  EXPECT_FALSE(log.touches(301, 500));
  log.restart();
  EXPECT_DOUBLE_EQ(log.share(), 0);
  EXPECT_TRUE(log.touches(250, 260));
}

TEST(PromiseGuardTest, TenSlowIterationsInARowTrip) {
  PromiseGuard guard({});
  guard.begin_plan(4, Seconds(1));
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(guard.add(Seconds(1.06), true));
  const auto trip = guard.add(Seconds(1.16), true);
  ASSERT_TRUE(trip);
  EXPECT_EQ(trip->generation, 4U);
  EXPECT_EQ(trip->iterations, 10U);
  EXPECT_NEAR(trip->measured.value(), 1.07, 1e-12);
  EXPECT_EQ(trip->promised, Seconds(1));
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(guard.add(Seconds(9), true));  // once per plan
}

TEST(PromiseGuardTest, ASlowCheckpointStepTripsNothing) {
  PromiseGuard guard({});
  guard.begin_plan(1, Seconds(1));
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(guard.add(Seconds(100), true));
    EXPECT_FALSE(guard.add(Seconds(1.05), true));  // just within the margin
  }
}

TEST(PromiseGuardTest, WaitingForAnotherPipelineHasMorePatience) {
  PromiseGuard guard({});
  guard.begin_plan(1, Seconds(1));
  for (int i = 0; i < 59; ++i) EXPECT_FALSE(guard.add(Seconds(2), false));
  const auto trip = guard.add(Seconds(2), false);
  ASSERT_TRUE(trip);
  EXPECT_EQ(trip->iterations, 60U);
}

TEST(PromiseGuardTest, ANewPlanStartsTheCountAgainAndNoPromiseIsNoGuard) {
  PromiseGuard guard({});
  guard.begin_plan(1, Seconds(1));
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(guard.add(Seconds(2), true));
  guard.begin_plan(2, Seconds(1));
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(guard.add(Seconds(2), true));
  guard.begin_plan(3, std::nullopt);
  for (int i = 0; i < 99; ++i) EXPECT_FALSE(guard.add(Seconds(2), true));
}

TEST(UpdateCatcherTest, AnUpdateLiesBetweenTwoLooks) {
  UpdateCatcher catcher;
  EXPECT_FALSE(catcher.note(0, 2, {Joules(5)}));
  EXPECT_FALSE(catcher.note(10, 12, {Joules(5)}));
  const auto update = catcher.note(20, 22, {Joules(8)});
  ASSERT_TRUE(update);
  EXPECT_EQ(update->t_ns, 16U);
  EXPECT_EQ(update->total, Joules(8));
  EXPECT_FALSE(catcher.note(30, 32, {Joules(8)}));
  EXPECT_EQ(catcher.note(40, 42, {Joules(1), gpu::EnergySource::kCounter, 1})->epoch, 1U);
}

TEST(EnergyLedgerTest, SplitsAnIntervalByWhatRanInIt) {
  EnergyLedger ledger;
  ledger.add_update({0, Joules(100)});
  ledger.add_operation(kForward, 10 * kMs, 40 * kMs);
  ledger.add_operation(kBackward, 50 * kMs, 120 * kMs);
  ledger.add_operation(kForward, 130 * kMs, 200 * kMs);
  ledger.add_step(0, 200 * kMs, true);
  ledger.add_update({100 * kMs, Joules(125)});
  ledger.add_update({200 * kMs, Joules(155)});
  const auto sums = ledger.sums();
  ASSERT_TRUE(sums);
  EXPECT_EQ(sums->intervals, 2U);
  EXPECT_NEAR(sums->seconds.value(), 0.2, 1e-12);
  EXPECT_NEAR(sums->joules.value(), 55, 1e-12);
  EXPECT_EQ(sums->columns, (std::vector<std::string>{"F0@1410", "B0@1410", "idle"}));
  // Rows (0.03, 0.05, 0.02 | 25) and (0.07, 0.02, 0.01 | 30).
  const std::vector<double> xtx = {0.0058, 0.0029, 0.0013, 0.0029, 0.0012, 0.0005};
  const std::vector<double> xty = {0.75 + 2.1, 1.25 + 0.6, 0.5 + 0.3};
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(sums->xtx[i], xtx[i], 1e-12);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(sums->xty[i], xty[i], 1e-12);
  EXPECT_NEAR(sums->yty, 625 + 900, 1e-9);
  EXPECT_NEAR(ledger.mean_power()->value(), 275, 1e-9);
}

TEST(EnergyLedgerTest, DropsWhatIsNotOfThisStretch) {
  EnergyLedger ledger;
  ledger.add_step(0, 250 * kMs, true);
  ledger.add_step(260 * kMs, 400 * kMs, false);  // not measured
  ledger.add_step(400 * kMs, 900 * kMs, true);
  ledger.add_step(1'500 * kMs, 2'000 * kMs, true);  // after a checkpoint
  std::uint32_t epoch = 0;
  double total = 0;
  for (std::uint64_t t = 0; t <= 2'000; t += 100) {
    if (t == 700) {  // restarted, and its source noticed
      ++epoch;
      total = 0;
    }
    if (t == 1'800) total = 1;  // restarted, and nobody noticed
    ledger.add_update({t * kMs, Joules(total), epoch});
    total += 10;
  }
  // 0-200, 400-600, 700-900, 1500-1700, 1800-2000: ten intervals of 10 J.
  const auto sums = ledger.sums();
  ASSERT_TRUE(sums);
  EXPECT_EQ(sums->intervals, 10U);
  EXPECT_NEAR(sums->joules.value(), 100, 1e-9);
}

TEST(EnergyLedgerTest, ClearKeepsTheUpdateThatBeginsTheNextInterval) {
  EnergyLedger ledger;
  for (std::uint64_t t = 0; t <= 500; t += 100) {
    ledger.add_update({t * kMs, Joules(static_cast<double>(t))});
  }
  ledger.clear(250 * kMs);
  EXPECT_FALSE(ledger.sums());
  ledger.add_step(200 * kMs, 500 * kMs, true);
  EXPECT_EQ(ledger.sums()->intervals, 3U);
}

TEST(EnergyLedgerTest, TooManyColumnsGiveNoSums) {
  EnergyLedger ledger;
  ledger.add_step(0, 200 * kMs, true);
  ledger.add_update({0, Joules(0)});
  ledger.add_update({100 * kMs, Joules(1)});
  for (std::uint32_t stage = 0; stage < 63; ++stage) ledger.add_operation({Kind::kForward, stage, 900}, 0, 0);
  EXPECT_EQ(ledger.sums()->columns.size(), EnergyLedger::kMostColumns);
  ledger.add_operation({Kind::kForward, 63, 900}, 0, 0);
  EXPECT_FALSE(ledger.sums());
  EXPECT_NEAR(ledger.mean_power()->value(), 10, 1e-9);
}

/// Solves the normal equations by elimination with pivoting; the powers in the columns' order.
std::vector<double> solve(const EnergySums& sums) {
  const std::size_t n = sums.columns.size();
  std::vector<std::vector<double>> a(n, std::vector<double>(n + 1));
  std::size_t cell = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) a[i][j] = a[j][i] = sums.xtx[cell++];
    a[i][n] = sums.xty[i];
  }
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c + 1; r < n; ++r) {
      if (std::abs(a[r][c]) > std::abs(a[pivot][c])) pivot = r;
    }
    std::swap(a[c], a[pivot]);
    for (std::size_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double factor = a[r][c] / a[c][c];
      for (std::size_t k = c; k <= n; ++k) a[r][k] -= factor * a[c][k];
    }
  }
  std::vector<double> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(a[i][n] / a[i][i]);
  return out;
}

TEST(EnergyLedgerTest, TheSumsSolveToThePowersOfAnyTrace) {
  tests::check_property([] {
    std::mt19937_64 random(*rc::gen::arbitrary<std::uint64_t>());
    const auto ms = [&](std::uint64_t least, std::uint64_t most) {
      return std::uniform_int_distribution(least, most)(random) * kMs;
    };
    const auto power_f = static_cast<double>(*rc::gen::inRange(100, 700));
    const auto power_b = static_cast<double>(*rc::gen::inRange(100, 700));
    const auto power_idle = static_cast<double>(*rc::gen::inRange(40, 150));
    const std::uint64_t period = ms(20, 100);
    EnergyLedger ledger;
    std::uint64_t t = 1'000 * kMs;
    double joules = 500;
    std::uint64_t next_update = t + ms(0, 99);
    // Power is constant until `end`: updates on the way see the energy at their own moment.
    const auto pass = [&](double power, std::uint64_t duration) {
      const std::uint64_t end = t + duration;
      while (next_update <= end) {
        joules += power * static_cast<double>(next_update - t) / 1e9;
        t = next_update;
        ledger.add_update({t, Joules(joules)});
        next_update += period;
      }
      joules += power * static_cast<double>(end - t) / 1e9;
      t = end;
    };
    const auto run = [&](const KindKey& key, double power) {
      const std::uint64_t begin = t;
      pass(power, ms(5, 60));
      ledger.add_operation(key, begin, t);
      pass(power_idle, ms(0, 30));
    };
    for (int step = 0; step < 12; ++step) {
      const std::uint64_t begin = t;
      for (int mb = 0; mb < 4; ++mb) run(kForward, power_f);
      for (int mb = 0; mb < 4; ++mb) run(kBackward, power_b);
      ledger.add_step(begin, t, true);
    }
    const auto sums = ledger.sums();
    RC_ASSERT(sums.has_value());
    RC_ASSERT(sums->columns.size() == 3U);
    const auto powers = solve(*sums);
    RC_ASSERT(std::abs(powers[0] - power_f) < 1e-6 * power_f);
    RC_ASSERT(std::abs(powers[1] - power_b) < 1e-6 * power_b);
    RC_ASSERT(std::abs(powers[2] - power_idle) < 1e-5 * power_idle);
  });
}

}  // namespace
}  // namespace perseus::client
