// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "perseus/baseline/test_problems.h"
#include "tests/support/property.h"

namespace perseus::baseline {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Seconds;
using testing::ElementsAre;
using testing::Field;

/// Two stages, the second twice as long; clocks 1000 and 500.
core::Problem two_stages(std::uint32_t microbatches = 1, std::uint32_t tensor = 1) {
  return problem(
      2, microbatches,
      {entry(0, "backward", {{1000, 2, 20}, {500, 4, 12}}), entry(0, "forward", {{1000, 1, 10}, {500, 2, 6}}),
       entry(1, "backward", {{1000, 4, 40}, {500, 8, 24}}),
       entry(1, "forward", {{1000, 2, 20}, {500, 4, 12}})},
      1, tensor);
}

TEST(AllMax, IsCountedByHand) {
  // F0 F1 B1 B0 one after the other: 1 + 2 + 4 + 2 = 9 s; 90 J of work; 1 W x (2 ranks x 9 s - 9 s busy) = 9
  // J.
  const Baseline b = all_max(two_stages());
  EXPECT_EQ(b.name, "all-max");
  EXPECT_EQ(b.time, Seconds(9));
  EXPECT_EQ(b.energy, Joules(99));
  EXPECT_THAT(b.choice, ElementsAre(0, 0, 0, 0));
}

TEST(AllMax, CountsTheTensorWidthAndTheStraggler) {
  EXPECT_EQ(all_max(two_stages(1, 8)).energy, Joules(8 * 99));
  // Both ranks wait 11 s longer at 1 W.
  EXPECT_EQ(all_max(two_stages(), {.sync_time = Seconds(20)}).energy, Joules(99 + 22));
  EXPECT_EQ(all_max(two_stages(), {.sync_time = Seconds(1)}).energy, Joules(99)) << "a T' below its own time";
}

TEST(SingleClock, SweepsEveryCommonClock) {
  const auto sweep = single_clock_sweep(two_stages());
  EXPECT_THAT(sweep, ElementsAre(Field(&Baseline::name, "single clock 1000 MHz"),
                                 Field(&Baseline::name, "single clock 500 MHz")));
  EXPECT_EQ(sweep[1].time, Seconds(18));
  EXPECT_EQ(sweep[1].energy, Joules(54 + 18));
}

TEST(SingleClock, LeavesOutClocksThatOneComputationLacks) {
  const auto p = problem(1, 1,
                         {entry(0, "backward", {{1000, 2, 20}, {500, 4, 12}}),
                          entry(0, "forward", {{1000, 1, 10}, {700, 1.5, 8}, {500, 2, 6}})},
                         1);
  EXPECT_THAT(single_clock_sweep(p), ElementsAre(Field(&Baseline::name, "single clock 1000 MHz"),
                                                 Field(&Baseline::name, "single clock 500 MHz")));
}

TEST(SingleClock, FixedComputationsKeepTheirOnlyOption) {
  const auto p = problem(
      1, 1, {entry(0, "backward", {{123, 2, 20}}), entry(0, "forward", {{1000, 1, 10}, {500, 2, 6}})}, 1);
  const auto sweep = single_clock_sweep(p);
  ASSERT_EQ(sweep.size(), 2U);
  EXPECT_THAT(sweep[1].choice, ElementsAre(1, 0));
}

TEST(SingleClock, PicksTheThriftiestInTime) {
  EXPECT_EQ(best_single_clock(two_stages(), Seconds(17.9))->name, "single clock 1000 MHz");
  EXPECT_EQ(best_single_clock(two_stages(), Seconds(18))->name, "single clock 500 MHz");
}

TEST(SingleClock, RefusesATargetThatNoneMeets) {
  const auto result = best_single_clock(two_stages(), Seconds(8.5));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kInfeasible);
  EXPECT_EQ(result.error().message(), "no single clock ends by 8.5 s; the fastest needs 9 s");
}

TEST(SingleClock, RefusesAProfileWithoutACommonClock) {
  const auto p = problem(
      1, 1,
      {entry(0, "backward", {{1000, 2, 20}, {900, 4, 12}}), entry(0, "forward", {{800, 1, 10}, {700, 2, 6}})},
      1);
  const auto one = best_single_clock(p, Seconds(100));
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().message(), "no clock is common to all computations of the profile");
  const auto stages = best_stage_clocks(p, Seconds(100));
  ASSERT_FALSE(stages);
  EXPECT_EQ(stages.error().message(), "no clock is common to all computations of stage 0");
}

TEST(SingleClock, TakesTheFastKnobsOnlyWhereTheThriftyOnesAreLate) {
  // At 1000 MHz one knob is thrifty, the other fast.
  const auto p = problem(1, 1,
                         {entry(0, "backward", {{1000, 2, 20}}),
                          entry(0, "forward", {{1000, 1, 10}, {1000, 3, 4}, {500, 4, 2}})},
                         0);
  EXPECT_EQ(single_clock_sweep(p).size(), 3U);
  EXPECT_THAT(best_single_clock(p, Seconds(5))->choice, ElementsAre(1, 0));
  EXPECT_THAT(best_single_clock(p, Seconds(4.9))->choice, ElementsAre(0, 0));
}

TEST(StageClocks, SlowTheLightStageOnly) {
  // Four microbatches: stage 1 is the bottleneck with 6 s each; stage 0 needs 3 s, or 6 s at 500 MHz.
  const auto p = two_stages(4);
  const Baseline max = all_max(p);
  EXPECT_EQ(max.time, Seconds(1 + 4 * 6 + 2));
  const auto b = best_stage_clocks(p, Seconds(30));
  ASSERT_TRUE(b);
  EXPECT_EQ(b->name, "best clock per stage");
  EXPECT_EQ(b->time, Seconds(2 + 4 * 6 + 4));
  // 4 (18 + 60) J of work and 30 s of two ranks less 48 s busy at 1 W.
  EXPECT_EQ(b->energy, Joules(4 * 78 + 60 - 48));
}

TEST(StageClocks, RefuseATargetThatNoneMeets) {
  const auto result = best_stage_clocks(two_stages(), Seconds(8.5));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kInfeasible);
  EXPECT_EQ(result.error().message(), "no clock per stage ends by 8.5 s; the fastest needs 9 s");
}

/// A pipeline of `pipeline` uneven stages with `clocks` clocks and a convex energy curve.
core::Problem uneven(std::uint32_t pipeline, std::uint32_t microbatches, std::uint32_t clocks,
                     std::uint64_t seed) {
  tests::SplitMix random(seed);
  std::vector<core::ProfileEntry> entries;
  for (std::uint32_t s = 0; s < pipeline; ++s) {
    for (const auto& [name, scale] : std::map<std::string, double>{{"backward", 2.0}, {"forward", 1.0}}) {
      const double work = scale * random.uniform(0.5, 1.5);
      std::vector<Row> rows;
      for (std::uint32_t k = 0; k < clocks; ++k) {
        const double f = 1400 - 100.0 * k;
        rows.push_back({static_cast<std::uint32_t>(f), work * 1400 / f,
                        work * (60 * 1400 / f + 200 * f * f / 1400 / 1400) * random.uniform(0.97, 1.03)});
      }
      entries.push_back(entry(s, name, rows));
    }
  }
  return problem(pipeline, microbatches, std::move(entries), 80);
}

/// Least energy over all clocks for each stage, the slow way.
std::optional<Joules> brute_force(const core::Problem& p, std::uint32_t clocks, Seconds target,
                                  const Counting& counting) {
  const std::uint32_t stages = p.pipeline().schedule().stages();
  std::vector<std::uint32_t> level(stages, 0);
  std::optional<Joules> best;
  while (true) {
    core::Choice choice(p.size());
    for (core::ComputationId i = 0; i < p.size(); ++i) choice[i] = level[p.pipeline().computation(i).stage];
    const Baseline b = evaluate(p, "", choice, counting);
    if (b.time <= target && (!best || b.energy < *best)) best = b.energy;
    std::uint32_t s = 0;
    while (s < stages && ++level[s] == clocks) level[s++] = 0;
    if (s == stages) return best;
  }
}

TEST(StageClocks, AreOptimalWhereTheyAreFew) {
  tests::check_property([](std::uint64_t seed) {
    const auto pipeline = *rc::gen::inRange<std::uint32_t>(1, 4);
    const auto p = uneven(pipeline, *rc::gen::inRange<std::uint32_t>(1, 6), 5, seed);
    const Seconds target = (1 + *rc::gen::inRange(0, 40) / 100.0) * all_max(p).time;
    const Counting counting{*rc::gen::arbitrary<bool>() ? std::optional(1.5 * target) : std::nullopt};
    const auto best = brute_force(p, 5, target, counting);
    const auto found = best_stage_clocks(p, target, counting);
    RC_ASSERT(found.has_value() == best.has_value());
    if (!best) return;
    RC_ASSERT(found->time <= target);
    RC_ASSERT(std::abs(found->energy / *best - 1) < 1e-12);
  });
}

TEST(StageClocks, DescentComesNearTheOptimumAndNeverLosesToOneClock) {
  // 5 stages x 6 clocks: 7776 assignments, more than are tried one by one, yet few enough to know the
  // optimum.
  double worst = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const auto p = uneven(5, 8, 6, seed);
    for (const double slowdown : {1.0, 1.05, 1.2}) {
      const Seconds target = slowdown * all_max(p).time;
      const auto found = best_stage_clocks(p, target);
      const auto one = best_single_clock(p, target);
      ASSERT_TRUE(found && one) << seed;
      EXPECT_LE(found->time, target);
      EXPECT_LE(found->energy, one->energy);
      worst = std::max(worst, found->energy / *brute_force(p, 6, target, {}) - 1);
    }
  }
  EXPECT_LT(worst, 0.01);
}

TEST(Baselines, KeepTheirPromisesOnRandomProblems) {
  tests::check_property([](const tests::ProblemRecipe& recipe) {
    const core::Problem p = tests::make_problem(recipe);
    const Baseline max = all_max(p);
    RC_ASSERT(core::ExactTime(max.time) >= core::exact_timing(p, core::fastest_choice(p)).makespan);
    const Seconds target = 1.1 * max.time;
    const auto one = best_single_clock(p, target);
    const auto stages = best_stage_clocks(p, target);
    if (!one) return;
    RC_ASSERT(one->time <= target && one->time >= max.time);
    RC_ASSERT(stages.has_value());
    RC_ASSERT(stages->time <= target && stages->time >= max.time);
    RC_ASSERT(stages->energy <= one->energy * (1 + 1e-12));
  });
}

}  // namespace
}  // namespace perseus::baseline
