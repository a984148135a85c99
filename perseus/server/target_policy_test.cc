// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/target_policy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/property.h"

namespace perseus::server {
namespace {

using core::Seconds;

Targets targets(double first, double second) {
  return {{Seconds(first), Seconds(second)}, Seconds(std::max(first, second))};
}

TEST(TargetPolicy, follows_the_first_straggler_at_once) {
  const TargetPolicy policy({});
  const auto change = policy.decide(targets(1, 1), targets(1, 1.2), Seconds(0));
  ASSERT_TRUE(change);
  EXPECT_EQ(change->targets, targets(1, 1.2));
  EXPECT_FALSE(change->speed_up);
}

TEST(TargetPolicy, noise_within_the_hysteresis_changes_nothing) {
  const TargetPolicy policy({});
  EXPECT_FALSE(policy.decide(targets(1, 1.2), targets(1, 1.2 * 1.019), Seconds(1000)));
}

TEST(TargetPolicy, a_recovery_is_not_held_back) {
  TargetPolicy policy({});
  policy.changed(Seconds(10));
  const auto change = policy.decide(targets(1, 1.2), targets(1, 1), Seconds(10));
  ASSERT_TRUE(change);
  EXPECT_EQ(change->targets, targets(1, 1));
  EXPECT_TRUE(change->speed_up);
}

TEST(TargetPolicy, a_slow_down_waits_for_the_hold_to_end) {
  TargetPolicy policy({.min_hold = Seconds(60)});
  policy.changed(Seconds(10));
  EXPECT_FALSE(policy.decide(targets(1, 1), targets(1, 1.2), Seconds(69.9)));
  EXPECT_EQ(policy.next_look(targets(1, 1), targets(1, 1.2), Seconds(69.9)), Seconds(70));
  EXPECT_TRUE(policy.decide(targets(1, 1), targets(1, 1.2), Seconds(70)));
}

TEST(TargetPolicy, when_another_pipeline_becomes_the_slow_one_only_the_speed_up_is_done_at_once) {
  TargetPolicy policy({});
  policy.changed(Seconds(0));
  // The second pipeline was slow and the first waited for it; now it is the other way round.
  const auto change = policy.decide(targets(1.2, 1), targets(1, 1.2), Seconds(5));
  ASSERT_TRUE(change);
  EXPECT_EQ(change->targets.pipeline, targets(1, 1).pipeline);
}

TEST(TargetPolicy, a_small_speed_up_waits_for_the_interval_only) {
  TargetPolicy policy({.change_interval = Seconds(1)});
  policy.changed(Seconds(10));
  EXPECT_FALSE(policy.decide(targets(1, 1.2), targets(1, 1.199), Seconds(10.5)));
  EXPECT_EQ(policy.next_look(targets(1, 1.2), targets(1, 1.199), Seconds(10.5)), Seconds(11));
  EXPECT_TRUE(policy.decide(targets(1, 1.2), targets(1, 1.199), Seconds(11)));
}

/// Flapping, noise and recovery at random, looked at every 0.1 s.
TEST(TargetPolicy, never_flaps_and_never_holds_training_up) {
  tests::check_property([] {
    const JobSettings settings{.min_hold = Seconds(5)};
    TargetPolicy policy(settings);
    Targets deployed = targets(1, 1);
    Targets wanted = deployed;
    int slow_downs = 0;
    int changes = 0;
    constexpr int kTicks = 1000;
    for (int tick = 0; tick < kTicks; ++tick) {
      const Seconds now(0.1 * tick);
      const int dice = *rc::gen::inRange(0, 40);
      const double level = 1 + 0.01 * *rc::gen::inRange(0, 50);
      if (dice < 3) wanted = dice == 0 ? targets(1, 1) : dice == 1 ? targets(1, level) : targets(level, 1);
      const auto change = policy.decide(deployed, wanted, now);
      if (change) {
        RC_ASSERT(change->targets != deployed);
        for (std::size_t p = 0; p < 2; ++p) {
          // Whoever is changed is never planned to be slower than is wanted.
          RC_ASSERT(change->targets.pipeline[p] <= wanted.pipeline[p]);
          if (change->targets.pipeline[p] > deployed.pipeline[p]) ++slow_downs;
        }
        ++changes;
        deployed = change->targets;
        policy.changed(now);
      }
      for (std::size_t p = 0; p < 2; ++p) {
        RC_ASSERT(deployed.pipeline[p] <= (1 + 1.03 * settings.hysteresis) * wanted.pipeline[p]);
      }
    }
    // A slow-down (of at most both pipelines) for each hold that fits into the time, and the first.
    RC_ASSERT(slow_downs <= 2 * (1 + static_cast<int>(0.1 * kTicks / settings.min_hold.value())));
    RC_ASSERT(changes <= kTicks);
    // Once nothing more happens, what is wanted is deployed, up to the hysteresis.
    const auto last = policy.decide(deployed, wanted, Seconds(1e6));
    if (!last) {
      for (std::size_t p = 0; p < 2; ++p) {
        RC_ASSERT(std::abs(deployed.pipeline[p] / wanted.pipeline[p] - 1) <= settings.hysteresis);
      }
    } else {
      RC_ASSERT(last->targets == wanted);
    }
  });
}

}  // namespace
}  // namespace perseus::server
