// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/problem.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/property.h"

namespace perseus::core {
namespace {

Option option(std::uint32_t mhz, double t, double e, std::vector<std::string> knobs = {}) {
  return {.clock = Megahertz(mhz), .time = Seconds(t), .energy = Joules(e), .knobs = std::move(knobs)};
}

/// Two ranks of one stage, one microbatch, with a profile of its own for each part.
struct Job {
  Schedule schedule{.name = "test", .microbatches = 1};
  ProblemInputs inputs;

  Job() {
    schedule.ranks = {{{.kind = Kind::kForward}, {.kind = Kind::kBackward}},
                      {{.kind = Kind::kForward, .stage = 1}, {.kind = Kind::kBackward, .stage = 1}}};
    inputs.profile.entries = {
        {0, "backward", {}, {option(900, 2, 20), option(600, 3, 14)}},
        {0, "forward", {}, {option(900, 1, 10), option(600, 1.5, 8)}},
        {1, "backward", {}, {option(900, 4, 40)}},
        {1, "forward", {}, {option(900, 2, 25), option(750, 2, 24), option(600, 2.5, 21)}}};
    inputs.blocking_power = {Watts(3), Watts(5)};
  }
  [[nodiscard]] Result<Problem> build() const {
    return Problem::build(Pipeline::build(schedule).value(), inputs);
  }
};

std::string refusal(const std::function<void(Job&)>& change) {
  Job job;
  change(job);
  const auto problem = job.build();
  if (problem) return "accepted";
  EXPECT_EQ(problem.error().code(), ErrorCode::kInvalidInput);
  return problem.error().text();
}

/// The only pipeline with a pair that one rank can run: F of microbatch 1 with B of microbatch 0.
Job with_pair() {
  Job job;
  job.schedule.microbatches = 2;
  job.schedule.ranks = {{{.kind = Kind::kForward},
                         {.kind = Kind::kForwardBackward, .microbatch = 1},
                         {.kind = Kind::kBackward, .microbatch = 1}}};
  job.inputs.blocking_power = {Watts(0)};
  return job;
}

TEST(Problem, ComputationsOfOneKindShareTheirOptions) {
  Job job;
  job.schedule.microbatches = 2;
  job.schedule.ranks = {{{.kind = Kind::kForward},
                         {.kind = Kind::kForward, .microbatch = 1},
                         {.kind = Kind::kBackward},
                         {.kind = Kind::kBackward, .microbatch = 1}}};
  job.inputs.blocking_power = {Watts(3)};
  const Problem problem = job.build().value();
  EXPECT_EQ(problem.option_set_count(), 2u);
  EXPECT_EQ(problem.option_set_of(0), problem.option_set_of(1));
  EXPECT_EQ(problem.options(3).data(), problem.option_set(problem.option_set_of(2)).data());
  EXPECT_EQ(problem.options(1)[1].time, Seconds(1.5));
  EXPECT_EQ(problem.effective_cost(0, problem.options(0)[1]), Joules(8 - 3 * 1.5));
}

TEST(Problem, APairWithoutRowsIsTheSumOfItsPartsAtEqualClockAndKnobs) {
  Job job = with_pair();
  auto& entries = job.inputs.profile.entries;
  entries[0].options = {option(900, 2, 20, {"a"}), option(900, 5, 19, {"b"}), option(700, 3, 14, {"a"})};
  entries[1].options = {option(900, 1, 10, {"b"}), option(900, 1.5, 9, {"a"}), option(800, 2, 8, {"a"}),
                        option(700, 2, 7, {"a"})};
  entries[0].options[2].time_std = Seconds(3);
  entries[1].options[3].time_std = Seconds(4);
  entries[0].options[2].samples = 9;
  entries[1].options[3].samples = 7;
  const Problem problem = job.build().value();
  const auto pair = problem.options(1);
  ASSERT_EQ(pair.size(), 3u);
  // By falling clock, then by rising time, although the parts meet in another order.
  EXPECT_EQ(pair[0].time, Seconds(3.5));
  EXPECT_EQ(pair[0].energy, Joules(29));
  EXPECT_EQ(pair[0].knobs, std::vector<std::string>{"a"});
  EXPECT_EQ(pair[1].time, Seconds(6));
  EXPECT_EQ(pair[1].energy, Joules(29));
  EXPECT_EQ(pair[2].clock, Megahertz(700));
  EXPECT_EQ(pair[2].time_std, Seconds(5));
  EXPECT_EQ(pair[2].energy_std, std::nullopt);
  EXPECT_EQ(pair[2].samples, 7u);
  EXPECT_EQ(pair[0].time_std, std::nullopt);
}

TEST(Problem, RowsOfAPairGoBeforeTheSum) {
  Job job = with_pair();
  auto& entries = job.inputs.profile.entries;
  entries.insert(entries.begin() + 2, {0, "forward_backward", 0u, {option(500, 9, 9)}});
  const Problem problem = job.build().value();
  ASSERT_EQ(problem.options(1).size(), 1u);
  EXPECT_EQ(problem.options(1)[0].time, Seconds(9));
  // Rows for another second stage are not for this pair.
  entries[2].stage_b = 1;
  EXPECT_EQ(job.build().value().options(1).size(), 2u);
}

TEST(Problem, APairWhosePartsShareNoClockIsRefused) {
  Job job = with_pair();
  job.inputs.profile.entries[0].options = {option(450, 2, 20)};
  EXPECT_EQ(job.build().error().text(),
            "(0F1;0B0)OVERLAP_F_B: forward of stage 0 and backward of stage 0 share no clock in the profile");
}

TEST(Problem, TenThousandOptionsOfAPairAreQuicklySummed) {
  Job job = with_pair();
  std::vector<Option> many;
  for (std::uint32_t k = 0; k < 10'000; ++k) many.push_back(option(20'000 - k, 1 + 1e-6 * k, 1));
  job.inputs.profile.entries[0].options = many;
  job.inputs.profile.entries[1].options = std::move(many);
  EXPECT_EQ(job.build().value().options(1).size(), 10'000u);
}

TEST(Problem, StageZeroNeedsNoRowsForItsInputHalfAndTakesBackwardRowsForItsWeightHalf) {
  Job job;
  job.schedule.ranks[0] = {
      {.kind = Kind::kForward}, {.kind = Kind::kBackwardInput}, {.kind = Kind::kBackwardWeight}};
  const Problem problem = job.build().value();
  ASSERT_EQ(problem.options(1).size(), 1u);
  EXPECT_EQ(problem.options(1)[0].time, Seconds(0));
  EXPECT_EQ(problem.options(1)[0].energy, Joules(0));
  EXPECT_EQ(problem.options(1)[0].clock, std::nullopt);
  EXPECT_EQ(problem.options(2).size(), 2u);
  EXPECT_EQ(problem.options(2)[1].energy, Joules(14));
  auto& entries = job.inputs.profile.entries;
  entries.insert(entries.begin() + 1, {{0, "backward_input", {}, {option(900, 7, 7)}},
                                       {0, "backward_weight", {}, {option(900, 8, 8)}}});
  EXPECT_EQ(job.build().value().options(1)[0].time, Seconds(7));
  EXPECT_EQ(job.build().value().options(2)[0].time, Seconds(8));
}

TEST(Problem, OtherStagesNeedRowsForBothHalves) {
  EXPECT_EQ(refusal([](Job& s) {
              s.schedule.ranks[1] = {{.kind = Kind::kForward, .stage = 1},
                                     {.kind = Kind::kBackwardInput, .stage = 1},
                                     {.kind = Kind::kBackwardWeight, .stage = 1}};
            }),
            "1I0: the profile has no rows for stage 1, instruction backward_input");
}

TEST(Problem, RefusesComputationsWithoutRows) {
  EXPECT_EQ(refusal([](Job& s) { s.inputs.profile.entries.pop_back(); }),
            "1F0: the profile has no rows for stage 1, instruction forward");
  EXPECT_EQ(refusal([](Job& s) {
              s.schedule.instructions = {"load"};
              s.schedule.ranks[0].insert(s.schedule.ranks[0].begin(), Computation{.kind = Kind::kOther});
            }),
            "0load0: the profile has no rows for stage 0, instruction load");
}

TEST(Problem, RefusesBlockingPowerOutOfRange) {
  EXPECT_EQ(refusal([](Job& s) { s.inputs.blocking_power.pop_back(); }),
            "blocking power is given for 1 ranks; the pipeline has 2");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.blocking_power[1] = Watts(-1); }),
            "blocking power of rank 1 is -1 W; it must be 0 to 1000000 W");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.blocking_power[0] = Watts(std::nan("")); }),
            "blocking power of rank 0 is nan W; it must be 0 to 1000000 W");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.blocking_power[0] = Watts(2e6); }),
            "blocking power of rank 0 is 2000000 W; it must be 0 to 1000000 W");
}

TEST(Problem, RefusesLagsThatAreNone) {
  EXPECT_EQ(refusal([](Job& s) { s.inputs.p2p_lag = Seconds(-1); }),
            "P2P lag is -1 s; it must be 0, or 1e-09 to 1000000 s");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.edge_lag[{1, 0}] = Seconds(std::nan("")); }),
            "P2P lag from rank 1 to rank 0 is nan s; it must be 0, or 1e-09 to 1000000 s");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.edge_lag[{1, 2}] = Seconds(1); }),
            "P2P lag from rank 1 to rank 2: it must be between two of ranks 0 to 1");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.edge_lag[{1, 1}] = Seconds(1); }),
            "P2P lag from rank 1 to rank 1: it must be between two of ranks 0 to 1");
}

TEST(Problem, RefusesAProfileThatNoReaderHasChecked) {
  const auto changed = [](double time, double energy) {
    return refusal([&](Job& s) { s.inputs.profile.entries[1].options[1] = option(600, time, energy); });
  };
  EXPECT_EQ(changed(1, 1), "accepted");
  EXPECT_EQ(changed(0, 1), "profile: stage 0, forward: time 0 s is outside 1e-09 to 1000000 s");
  EXPECT_EQ(changed(std::nan(""), 1), "profile: stage 0, forward: time nan s is outside 1e-09 to 1000000 s");
  EXPECT_EQ(changed(1, -1), "profile: stage 0, forward: energy -1 J is outside 0 to 1000000000 J");
  EXPECT_EQ(changed(1, std::numeric_limits<double>::infinity()),
            "profile: stage 0, forward: energy inf J is outside 0 to 1000000000 J");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.profile.entries[3].options.clear(); }),
            "profile: stage 1, forward: has no option");
  EXPECT_EQ(refusal([](Job& s) { std::swap(s.inputs.profile.entries[0], s.inputs.profile.entries[1]); }),
            "profile: stage 0, backward: is out of order or repeated");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.profile.entries[1] = s.inputs.profile.entries[0]; }),
            "profile: stage 0, backward: is out of order or repeated");
  EXPECT_EQ(refusal([](Job& s) {
              std::swap(s.inputs.profile.entries[0].options[0].clock,
                        s.inputs.profile.entries[0].options[1].clock);
            }),
            "profile: stage 0, backward: its options are not sorted by falling clock");
}

TEST(Problem, RefusesADegreeOfZero) {
  EXPECT_EQ(refusal([](Job& s) { s.inputs.parallel.tensor = 0; }),
            "a degree of parallelism is 0; the least is 1");
  EXPECT_EQ(refusal([](Job& s) { s.inputs.parallel.data = 0; }),
            "a degree of parallelism is 0; the least is 1");
}

TEST(Problem, LagsHoldForTransfersOnlyAndPairsOverrideTheRest) {
  Job job;
  EXPECT_EQ(job.build().value().lag(0), Seconds(0));
  job.inputs.p2p_lag = Seconds(0.5);
  job.inputs.edge_lag[{1, 0}] = Seconds(0.25);
  const Problem problem = job.build().value();
  // 0F0 > 0B0, 0F0 > 1F0, 1F0 > 1B0, 1B0 > 0B0.
  const double expected[] = {0, 0.5, 0, 0.25};
  for (EdgeId e = 0; e < 4; ++e) EXPECT_EQ(problem.lag(e), Seconds(expected[e]));
}

TEST(ExactTiming, ByHand) {
  Job job;
  job.inputs.p2p_lag = Seconds(0.5);
  const Problem problem = job.build().value();
  // 0F0 1.5, transfer, 1F0 2 to 4.5 (750 MHz), 1B0 4 to 8 (8.0), transfer, 0B0 2.
  const ExactTiming timing = exact_timing(problem, {1, 0, 1, 0});
  const double starts[] = {0, 8.5, 2, 4};
  for (ComputationId i = 0; i < 4; ++i) EXPECT_EQ(timing.start[i], ExactTime(Seconds(starts[i])));
  EXPECT_EQ(timing.makespan, ExactTime(Seconds(10.5)));
}

TEST(FastestChoice, TakesTheLeastTimeThenTheLeastEnergy) {
  const Problem problem = Job().build().value();
  EXPECT_EQ(fastest_choice(problem), (Choice{0, 0, 1, 0}));
  EXPECT_EQ(exact_timing(problem, fastest_choice(problem)).makespan, ExactTime(Seconds(9)));
}

TEST(PipelineEnergy, CountsEveryGpuAndBlocksUntilTheEnd) {
  Job job;
  job.inputs.parallel.tensor = 2;
  const Problem problem = job.build().value();
  // Rank 0: 8 + 20 J in 3.5 s, rank 1: 24 + 40 J in 6 s; blocked until 10 s at 3 and 5 W.
  EXPECT_EQ(pipeline_energy(problem, {1, 0, 1, 0}, Seconds(10)), Joules(2 * (28 + 64 + 3 * 6.5 + 5 * 4)));
}

TEST(PipelineEnergy, IsTheSumOfEffectiveCostsAndAllBlocking) {
  tests::check_property([](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
    const Problem problem = tests::make_problem(recipe);
    const Choice choice = tests::random_choice(problem, seed);
    const Seconds end = exact_timing(problem, choice).makespan.ceil_seconds();
    double direct = 0;
    for (std::uint32_t r = 0; r < recipe.ranks; ++r) {
      Seconds busy;
      for (ComputationId i = problem.pipeline().first_of_rank(r); i < problem.pipeline().first_of_rank(r + 1);
           ++i) {
        busy += problem.options(i)[choice[i]].time;
        direct += problem.options(i)[choice[i]].energy.value();
      }
      direct += (problem.blocking_power(r) * (end - busy)).value();
    }
    const double found = pipeline_energy(problem, choice, end).value();
    RC_ASSERT(std::abs(found - direct * recipe.tensor) <= 1e-12 * found);
  });
}

TEST(ExactTiming, NoStartIsEarlyAndEachIsCaused) {
  tests::check_property([](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
    const Problem problem = tests::make_problem(recipe);
    const Choice choice = tests::random_choice(problem, seed);
    const ExactTiming timing = exact_timing(problem, choice);
    const auto end = [&](ComputationId i) {
      return timing.start[i] + ExactTime(problem.options(i)[choice[i]].time);
    };
    std::vector<bool> caused(problem.size(), false);
    for (EdgeId e = 0; e < problem.pipeline().edges().size(); ++e) {
      const Edge& edge = problem.pipeline().edges()[e];
      const ExactTime ready = end(edge.from) + ExactTime(problem.lag(e));
      RC_ASSERT(timing.start[edge.to] >= ready);
      if (timing.start[edge.to] == ready) caused[edge.to] = true;
    }
    bool last = false;
    for (ComputationId i = 0; i < problem.size(); ++i) {
      RC_ASSERT(caused[i] || timing.start[i] == ExactTime());
      RC_ASSERT(end(i) <= timing.makespan);
      last = last || end(i) == timing.makespan;
    }
    RC_ASSERT(last);
  });
}

}  // namespace
}  // namespace perseus::core
