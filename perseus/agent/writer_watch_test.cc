// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/writer_watch.h"

#include <gtest/gtest.h>

namespace perseus::agent {
namespace {

using core::Megahertz;
using lease::Instant;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Readings half a second apart, under full load, of a GPU that is held at 900 MHz by change 1.
class Readings {
 public:
  std::optional<WriterVerdict> judge(std::uint32_t mhz) {
    at_ += milliseconds{500};
    ClockReading reading{at_, Megahertz{mhz}, reasons, utilization, held};
    return watch.judge(reading);
  }
  WriterWatch watch{WriterWatchOptions{}};
  gpu::ClockReasons reasons;
  double utilization = 1;
  std::optional<HeldRange> held = HeldRange{Megahertz{900}, Megahertz{900}, 1};

 private:
  Instant at_{seconds{10}};
};

TEST(WriterWatch, a_clock_that_was_reached_and_then_left_has_another_writer) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(900));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_EQ(gpu.judge(1410), WriterVerdict::kOtherWriter);
}

TEST(WriterWatch, a_clock_that_is_never_reached_does_not_follow) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_EQ(gpu.judge(1410), WriterVerdict::kDoesNotFollow);
}

TEST(WriterWatch, one_reading_inside_takes_the_evidence_away) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(900));
  for (int round = 0; round < 10; ++round) {
    EXPECT_FALSE(gpu.judge(1410));
    EXPECT_FALSE(gpu.judge(1410));
    EXPECT_FALSE(gpu.judge(915));  // within two steps of what is held
  }
}

TEST(WriterWatch, the_tolerance_is_two_steps_on_either_side) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(870));
  EXPECT_FALSE(gpu.judge(930));
  EXPECT_FALSE(gpu.judge(931));
  EXPECT_FALSE(gpu.judge(869));
  EXPECT_EQ(gpu.judge(931), WriterVerdict::kOtherWriter);
}

TEST(WriterWatch, idle_throttled_and_unheld_readings_do_not_count) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(900));
  for (int i = 0; i < 5; ++i) {
    gpu.utilization = 0.49;
    EXPECT_FALSE(gpu.judge(210));
    gpu.utilization = 1;
    gpu.reasons = gpu::ClockReasons(static_cast<std::uint32_t>(gpu::ClockReason::kIdle));
    EXPECT_FALSE(gpu.judge(210));
    gpu.reasons = gpu::ClockReasons(static_cast<std::uint32_t>(gpu::ClockReason::kSoftwareThermal));
    EXPECT_FALSE(gpu.judge(600));
    gpu.reasons = {};
    const auto held = std::exchange(gpu.held, std::nullopt);
    EXPECT_FALSE(gpu.judge(1410));
    gpu.held = held;
  }
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_EQ(gpu.judge(1410), WriterVerdict::kOtherWriter);
}

TEST(WriterWatch, a_new_clock_that_is_not_reached_is_no_evidence_of_another_writer) {
  Readings gpu;
  EXPECT_FALSE(gpu.judge(900));
  EXPECT_FALSE(gpu.judge(1200));
  EXPECT_FALSE(gpu.judge(1200));
  gpu.held = HeldRange{Megahertz{600}, Megahertz{600}, 2};  // stuck at 900 from here on
  EXPECT_FALSE(gpu.judge(900));
  EXPECT_FALSE(gpu.judge(900));
  EXPECT_EQ(gpu.judge(900), WriterVerdict::kDoesNotFollow);
}

TEST(WriterWatch, clocks_that_change_faster_than_they_settle_are_judged_by_their_range) {
  Readings gpu;
  gpu.held = HeldRange{Megahertz{600}, Megahertz{900}, std::nullopt};
  EXPECT_FALSE(gpu.judge(750));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_FALSE(gpu.judge(1410));
  EXPECT_EQ(gpu.judge(1410), WriterVerdict::kOtherWriter);
}

TEST(WriterWatch, readings_closer_than_the_spacing_are_one_piece_of_evidence) {
  WriterWatch watch{WriterWatchOptions{}};
  const HeldRange held{Megahertz{900}, Megahertz{900}, 1};
  const auto judge = [&](int ms) {
    return watch.judge({Instant{milliseconds{ms}}, Megahertz{1410}, {}, 1, held});
  };
  EXPECT_FALSE(judge(1000));
  for (int ms = 1001; ms < 1500; ++ms) EXPECT_FALSE(judge(ms));
  EXPECT_FALSE(judge(1500));
  EXPECT_FALSE(judge(1999));
  EXPECT_EQ(judge(2000), WriterVerdict::kDoesNotFollow);
}

}  // namespace
}  // namespace perseus::agent
