// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/held_clocks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace perseus::agent {
namespace {

using core::Megahertz;
using lease::Instant;
using std::chrono::milliseconds;

Instant at_ms(std::int64_t ms) {
  return Instant{milliseconds{ms}};
}

TEST(HeldClocks, before_the_first_change_the_baseline_is_in_force) {
  EXPECT_FALSE(HeldClocks().range(at_ms(1000), milliseconds{500}));
}

TEST(HeldClocks, a_change_counts_alone_once_it_is_older_than_the_window) {
  HeldClocks held;
  held.put(Megahertz{900}, at_ms(1000));
  EXPECT_FALSE(held.range(at_ms(1499), milliseconds{500}));  // the baseline was in force at 999
  const auto settled = held.range(at_ms(1500), milliseconds{500});
  ASSERT_TRUE(settled);
  EXPECT_EQ(settled->least, Megahertz{900});
  EXPECT_EQ(settled->most, Megahertz{900});
  EXPECT_EQ(settled->settled, 1U);
}

TEST(HeldClocks, several_changes_in_the_window_give_their_range) {
  HeldClocks held;
  held.put(Megahertz{900}, at_ms(1000));
  held.put(Megahertz{1200}, at_ms(2000));
  held.put(Megahertz{600}, at_ms(2100));
  const auto range = held.range(at_ms(2200), milliseconds{500});
  ASSERT_TRUE(range);
  EXPECT_EQ(range->least, Megahertz{600});
  EXPECT_EQ(range->most, Megahertz{1200});
  EXPECT_FALSE(range->settled);
  EXPECT_EQ(held.range(at_ms(2600), milliseconds{500})->settled, 3U);
}

TEST(HeldClocks, the_baseline_in_the_window_leaves_nothing_to_judge) {
  HeldClocks held;
  held.put(Megahertz{900}, at_ms(1000));
  held.put(std::nullopt, at_ms(2000));
  held.put(Megahertz{900}, at_ms(2100));
  EXPECT_FALSE(held.range(at_ms(2500), milliseconds{500}));
  EXPECT_TRUE(held.range(at_ms(2600), milliseconds{500}));
}

TEST(HeldClocks, the_same_clock_again_is_no_change) {
  HeldClocks held;
  held.put(std::nullopt, at_ms(500));
  EXPECT_EQ(held.changes(), 0U);
  held.put(Megahertz{900}, at_ms(1000));
  held.put(Megahertz{900}, at_ms(1400));
  EXPECT_EQ(held.changes(), 1U);
  EXPECT_TRUE(held.range(at_ms(1500), milliseconds{500}));
}

TEST(HeldClocks, more_changes_than_it_keeps_have_no_answer) {
  HeldClocks held;
  const auto count = static_cast<std::int64_t>(HeldClocks::kKept) * 2;
  for (std::int64_t i = 0; i < count; ++i) {
    held.put(Megahertz{i % 2 == 0 ? 900U : 1200U}, at_ms(1000 + i));
  }
  EXPECT_FALSE(held.range(at_ms(1000 + count), milliseconds{500}));
  EXPECT_TRUE(held.range(at_ms(1000 + count), milliseconds{100}));
}

TEST(HeldClocks, a_reader_beside_the_writer_sees_only_clocks_that_were_set) {
  HeldClocks held;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      const auto range = held.range(at_ms(1'000'000'000), milliseconds{1});
      if (!range) continue;
      EXPECT_GE(range->least, Megahertz{600});
      EXPECT_LE(range->most, Megahertz{899});
    }
  });
  for (std::int64_t i = 0; i < 200'000; ++i) {
    held.put(Megahertz{600 + static_cast<std::uint32_t>(i % 300)}, at_ms(i));
  }
  stop = true;
  reader.join();
}

}  // namespace
}  // namespace perseus::agent
