// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/server/measured_profile.h"
#include "perseus/server/test_jobs.h"
#include "perseus/server/test_ranks.h"

namespace perseus::server {
namespace {

using core::Kind;
using core::Megahertz;
using core::Seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A sweep over a simulated job of 2 stages x `data` pipelines.
class Swept {
 public:
  explicit Swept(ProfilingRequest request = {.online = true}, std::vector<Megahertz> clocks = usual_clocks(),
                 std::uint32_t data = 2, bool power_only = false)
      : schedule(registration(1, 2, data).schedule),
        pipeline(*core::Pipeline::build(schedule)),
        sweep(with_clocks(schedule, clocks), request, power_only) {
    for (std::uint32_t dp = 0; dp < data; ++dp) {
      for (std::uint32_t pp = 0; pp < 2; ++pp) {
        gpus.emplace(RankId{dp, pp, 0}, SimulatedRank(pipeline, usual_truth(), 100 * dp + pp));
      }
    }
  }
  static std::vector<SweepRank> with_clocks(const core::Schedule& schedule,
                                            const std::vector<Megahertz>& clocks) {
    auto ranks = sweep_ranks(schedule);
    for (auto& rank : ranks) rank.clocks = clocks;
    return ranks;
  }
  /// Runs one batch; `edit` may change or drop (false) a report.
  void run_batch(const std::function<bool(const RankId&, WindowReport&)>& edit = {}) {
    batches.push_back(sweep.upcoming());
    sweep.begin(sweep.upcoming());
    for (std::uint32_t w = 0; w < sweep.batch().size(); ++w) {
      for (auto& [id, gpu] : gpus) {
        WindowReport report = gpu.measure(sweep.batch()[w], id.pp);
        report.window = w;
        if (!edit || edit(id, report)) sweep.add(id, std::move(report));
      }
    }
    sweep.close();
  }
  void run_all() {
    for (int limit = 0; !sweep.finished() && limit < 200; ++limit) run_batch();
    EXPECT_TRUE(sweep.finished());
  }
  /// Clocks of a pipeline rank, window by window.
  std::vector<std::uint32_t> clocks_of(std::uint32_t rank) const {
    std::vector<std::uint32_t> out;
    for (const auto& batch : batches) {
      for (const SweepWindow& w : batch) out.push_back(w.ranks[rank].front().clock.value());
    }
    return out;
  }

  core::Schedule schedule;
  core::Pipeline pipeline;
  Sweep sweep;
  std::map<RankId, SimulatedRank> gpus;
  std::vector<std::vector<SweepWindow>> batches;
};

TEST(Sweep, goes_from_the_highest_clock_down_and_then_fills_the_gaps) {
  Swept swept;
  swept.run_all();
  const auto clocks = swept.clocks_of(0);
  ASSERT_GE(clocks.size(), 3U);
  EXPECT_EQ(clocks[0], 1410U);
  EXPECT_EQ(clocks[1], 1410U);  // the first window was too short: an iteration takes longer than was known
  EXPECT_LE(swept.sweep.visits(0).size(), 16U);
  // Within a pass clocks fall; there are two passes.
  int rises = 0;
  for (std::size_t i = 1; i < clocks.size(); ++i)
    if (clocks[i] > clocks[i - 1]) ++rises;
  EXPECT_LE(rises, 2);
  EXPECT_THAT(swept.sweep.notes(), IsEmpty());
}

TEST(Sweep, a_window_lasts_as_many_steps_as_its_time_needs) {
  Swept swept({.online = true, .steps = 3, .window = Seconds(5), .skip = 2});
  EXPECT_EQ(swept.sweep.upcoming().size(), 1U);
  EXPECT_EQ(swept.sweep.upcoming()[0].steps, 5U);
  EXPECT_EQ(swept.sweep.upcoming()[0].skip, 2U);
  swept.run_batch();
  const double t_top = swept.sweep.top_time()->value();
  EXPECT_EQ(swept.sweep.upcoming()[0].steps, 2 + std::ceil(5 / t_top));
}

TEST(Sweep, all_clocks_stop_after_five_in_a_row_at_which_energy_rose) {
  Swept swept({.online = true, .clocks = 0, .max_slowdown_pct = 1000}, usual_clocks(210));
  swept.run_all();
  // Least energy of the truth over the driver's clocks.
  const Truth truth = usual_truth();
  const auto energy = [&](double mhz) {
    double sum = 0;
    for (const Kind kind : {Kind::kForward, Kind::kBackward}) {
      sum += truth.time_s({kind, 0}, mhz) * truth.power_w({kind, 0}, mhz);
    }
    return sum;
  };
  double best = 1410;
  for (const Megahertz c : usual_clocks(210)) best = energy(c.value()) < energy(best) ? c.value() : best;
  const auto& visits = swept.sweep.visits(0);
  const double lowest = visits.back().clock.value();
  EXPECT_LE(lowest, best - 5 * 15);
  // Noise may hide a rise or two, not ten.
  EXPECT_GE(lowest, best - 15 * 15);
  for (std::size_t i = visits.size() - 5; i < visits.size(); ++i) {
    EXPECT_GT(visits[i].microbatch_j, visits[i - 1].microbatch_j);
  }
}

TEST(Sweep, clocks_beyond_the_largest_slowdown_are_not_visited) {
  Swept swept({.online = true, .max_slowdown_pct = 25});
  swept.run_all();
  for (const Visit& v : swept.sweep.visits(0)) EXPECT_GE(v.clock.value(), 1410 / 1.25);
}

TEST(Sweep, costs_no_more_than_its_budget) {
  for (const double budget : {0.0, 1.0, 5.0, 20.0}) {
    Swept swept({.online = true, .budget = Seconds(budget)});
    while (!swept.sweep.finished()) {
      const auto batch = swept.sweep.upcoming();
      Seconds bound;
      if (swept.sweep.top_time()) {
        for (const SweepWindow& w : batch) {
          double slow = 1;
          for (const auto& rank : w.ranks) {
            for (const WorkClock& c : rank) slow = std::max(slow, 1410.0 / c.clock.value());
          }
          bound += w.steps * (slow - 1) * *swept.sweep.top_time();
        }
      }
      EXPECT_LE((swept.sweep.progress().cost + bound).value(), budget + 1e-9);
      swept.run_batch();
    }
    EXPECT_LE(swept.sweep.progress().cost.value(), budget + 1e-9);
    EXPECT_THAT(swept.sweep.failure(), IsEmpty());
    if (budget < 20) {
      EXPECT_THAT(swept.sweep.notes(), testing::Contains(HasSubstr("it could exceed the budget of")));
    }
  }
}

TEST(Sweep, a_throttled_window_is_repeated_once_and_then_left_out_with_its_reason) {
  Swept swept({.online = true, .clocks = 4});
  swept.run_batch();
  swept.run_batch([](const RankId& id, WindowReport& report) {
    if (id.pp == 1) report.throttled = 0.4;
    return true;
  });
  const auto tries = [&] {
    std::vector<std::uint32_t> out;
    for (const Visit& v : swept.sweep.visits(1)) out.push_back(v.tries);
    return out;
  };
  const auto before = tries();
  EXPECT_EQ(std::ranges::count(before, 1U), std::ssize(before));  // each of the batch: to be repeated
  while (!swept.sweep.finished()) {
    swept.run_batch([](const RankId& id, WindowReport& report) {
      for (const KindTimes& k : report.kinds) {
        if (id.pp == 1 && k.clock < Megahertz(1410)) report.throttled = 0.4;
      }
      return true;
    });
  }
  EXPECT_THAT(swept.sweep.notes(),
              testing::Contains(HasSubstr(
                  "left out after 2 tries: power or heat held clocks down in 40 % of the samples")));
  EXPECT_EQ(swept.sweep.visits(1)[0].state, Visit::State::kMeasured);
  EXPECT_EQ(swept.sweep.visits(1)[1].state, Visit::State::kLeftOut);
  // The other rank was measured all the while.
  for (const Visit& v : swept.sweep.visits(0)) EXPECT_EQ(v.state, Visit::State::kMeasured);
}

TEST(Sweep, one_throttled_gpu_does_not_spoil_the_others_window) {
  Swept swept({.online = true, .clocks = 4});
  while (!swept.sweep.finished()) {
    swept.run_batch([](const RankId& id, WindowReport& report) {
      report.throttled = id == RankId{1, 1, 0} ? 1 : 0;
      return true;
    });
  }
  const auto data = swept.sweep.data();  // kept: the loop would outlive a temporary
  for (const auto& [what, replicas] : data[1].times) EXPECT_EQ(replicas.size(), 1U);
  for (const Visit& v : swept.sweep.visits(1)) EXPECT_EQ(v.state, Visit::State::kMeasured);
}

TEST(Sweep, silence_ends_it_with_a_reason) {
  Swept swept;
  for (int i = 0; i < 2; ++i) swept.run_batch([](const RankId&, WindowReport&) { return false; });
  EXPECT_TRUE(swept.sweep.finished());
  EXPECT_EQ(swept.sweep.failure(), "no rank reported a window at the top clock");
}

TEST(Sweep, a_batch_that_was_cut_short_counts_no_failure_and_keeps_what_came) {
  Swept swept({.online = true, .clocks = 4});
  swept.run_batch();
  swept.sweep.begin(swept.sweep.upcoming());
  for (auto& [id, gpu] : swept.gpus) swept.sweep.add(id, gpu.measure(swept.sweep.batch()[0], id.pp));
  swept.sweep.abandon();
  std::vector<std::uint32_t> tries;
  for (const Visit& v : swept.sweep.visits(0)) tries.push_back(v.tries);
  EXPECT_EQ(std::ranges::count(tries, 0U), std::ssize(tries));
  EXPECT_EQ(swept.sweep.visits(0)[0].state, Visit::State::kMeasured);  // the window that all had reported
  EXPECT_EQ(swept.sweep.visits(0)[1].state, Visit::State::kPlanned);
  EXPECT_FALSE(swept.sweep.upcoming().empty());
}

TEST(Sweep, computations_that_are_not_told_apart_get_windows_of_their_own) {
  Swept swept({.online = true, .clocks = 3});
  for (auto& [id, gpu] : swept.gpus) gpu.noise().whole_iterations = true;
  swept.run_all();
  std::size_t split = 0;
  for (const Visit& v : swept.sweep.visits(0)) split += v.only ? 1U : 0U;
  EXPECT_EQ(split, 4U);  // forward alone and backward alone at each of two clocks below the top
  EXPECT_THAT(swept.sweep.notes().front(),
              HasSubstr("its computations cannot be told apart at 2 of 3 clocks"));
}

TEST(Sweep, for_blocking_power_alone_the_top_clock_will_do) {
  Swept swept({.online = true}, usual_clocks(), 2, true);
  swept.run_all();
  EXPECT_THAT(swept.clocks_of(0), testing::Each(1410U));
  EXPECT_LE(swept.clocks_of(0).size(), 2U);
}

TEST(TimePool, joining_is_as_if_all_samples_had_been_seen_at_once) {
  TimePool pool;
  pool.add({.count = 2, .time = Seconds(1.5), .deviation = Seconds(std::sqrt(0.5))});  // 1 and 2
  pool.add({.count = 1, .time = Seconds(6)});
  EXPECT_DOUBLE_EQ(pool.mean_s, 3);
  EXPECT_DOUBLE_EQ(pool.deviation_s(), std::sqrt((4 + 1 + 9) / 2.0));
}

/// The profile that a sweep ends in, against the truth.
TEST(MeasuredProfile, is_the_truth_within_its_own_confidence) {
  Swept swept;
  swept.run_all();
  const auto measured = measure_profile(swept.schedule, swept.sweep.data());
  ASSERT_TRUE(measured) << measured.error().text();
  EXPECT_THAT(measured->facts.notes, IsEmpty());
  const auto parsed = format::parse_profile_csv(measured->csv, "measured");
  ASSERT_TRUE(parsed) << parsed.error().text();
  const Truth truth = usual_truth();
  std::size_t outside = 0;
  std::size_t all = 0;
  for (const auto& entry : parsed->profile.entries) {
    const Work work{entry.instruction == "forward" ? Kind::kForward : Kind::kBackward, entry.stage};
    for (const auto& option : entry.options) {
      const double mhz = option.clock->value();
      EXPECT_NEAR(option.time.value() / truth.time_s(work, mhz), 1, 0.005)
          << to_text({false, work.kind, work.stage, *option.clock});
      const double joules = truth.time_s(work, mhz) * truth.power_w(work, mhz);
      const double half = kConfidence95 * option.energy_std->value() / std::sqrt(option.samples);
      outside += std::abs(option.energy.value() - joules) > half ? 1U : 0U;
      EXPECT_NEAR(option.energy.value() / joules, 1, 0.1);
      ++all;
    }
  }
  EXPECT_LE(outside, all / 8) << "of " << all;
  for (const BlockingPower& b : measured->facts.blocking) {
    EXPECT_NEAR(b.at(1410).value(), truth.idle_w(1410), 8);
    EXPECT_NEAR(b.at(1000).value(), truth.idle_w(1000), 8);
  }
  for (const RankTrust& t : measured->facts.trust) {
    EXPECT_LT(t.condition, kMostCondition);
    EXPECT_LT(t.worst_sum_share, 0.03);
  }
}

TEST(MeasuredProfile, sums_hold_where_computations_cannot_be_told_apart) {
  Swept swept({.online = true, .clocks = 5});
  for (auto& [id, gpu] : swept.gpus) gpu.noise().whole_iterations = true;
  swept.run_all();
  const auto measured = measure_profile(swept.schedule, swept.sweep.data());
  ASSERT_TRUE(measured) << measured.error().text();
  const auto parsed = format::parse_profile_csv(measured->csv, "measured");
  const Truth truth = usual_truth();
  const auto energy = [&](const char* instruction, double mhz) {
    for (const auto& option : parsed->profile.find(1, instruction)->options) {
      if (option.clock->value() == mhz) return option.energy.value();
    }
    ADD_FAILURE() << instruction << " at " << mhz;
    return 0.0;
  };
  // What every plan's energy is made of: each forward and each backward once, and waiting.
  constexpr double kMicrobatches = 4;
  const auto check = [&](double f, double b) {
    const std::vector<std::vector<WorkClock>> clocks = {
        {{{Kind::kForward, 0}, Megahertz(1410)}, {{Kind::kBackward, 0}, Megahertz(1410)}},
        {{{Kind::kForward, 1}, Megahertz(static_cast<std::uint32_t>(f))},
         {{Kind::kBackward, 1}, Megahertz(static_cast<std::uint32_t>(b))}}};
    const SimulatedIteration iteration(swept.pipeline, truth, clocks);
    double busy = 0;
    double joules = 0;
    for (const auto& run : iteration.ranks[1]) {
      busy += run.end_s - run.begin_s;
      joules += (run.end_s - run.begin_s) * truth.power_w(run.what.work, run.what.clock.value());
    }
    const double waited = iteration.time_s - busy;
    const double clock = (f + b) / 2;
    const double predicted = kMicrobatches * (energy("forward", f) + energy("backward", b)) +
                             waited * measured->facts.blocking[1].at(clock).value();
    // How much of it is waiting is not told either: that part of the error stays.
    EXPECT_NEAR(predicted / (joules + waited * truth.idle_w(clock)), 1, 0.04) << f << ' ' << b;
  };
  for (const Visit& v : swept.sweep.visits(1)) {
    for (const Visit& w : swept.sweep.visits(1)) {
      if (!v.only && !w.only) check(v.clock.value(), w.clock.value());
    }
  }
  EXPECT_FALSE(measured->facts.trust[1].told_apart);
  EXPECT_THAT(measured->facts.notes,
              testing::Contains(HasSubstr("only the sums of its computations' energies are known")));
}

TEST(MeasuredProfile, a_slow_gpu_is_left_out_and_reported) {
  Swept swept({.online = true, .clocks = 3}, usual_clocks(), 3);
  swept.gpus.at({2, 0, 0}).noise().slow = 1.2;
  swept.run_all();
  const auto measured = measure_profile(swept.schedule, swept.sweep.data());
  ASSERT_TRUE(measured) << measured.error().text();
  EXPECT_THAT(
      measured->facts.notes,
      ElementsAre(
          "rank 2.0.0: its times were left out, it is more than 5 % slower than the others of its stage"));
}

TEST(MeasuredProfile, facts_read_back) {
  Swept swept({.online = true, .clocks = 3});
  swept.run_all();
  const auto measured = measure_profile(swept.schedule, swept.sweep.data());
  ASSERT_TRUE(measured);
  const auto again = parse_facts(write_facts(measured->facts));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, measured->facts);
  EXPECT_FALSE(parse_facts("{}"));
}

}  // namespace
}  // namespace perseus::server
