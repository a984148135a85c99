// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/frontier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "tests/support/property.h"
#include "tests/support/reference_lp.h"

namespace perseus::solver {
namespace {

using core::Computation;
using core::ComputationId;
using core::Joules;
using core::Kind;
using core::Megahertz;
using core::Option;
using core::Problem;
using core::Seconds;
using core::Watts;
using tests::ProblemRecipe;
using tests::ReferenceFrontier;

/// Relative to `scale`; the solver rounds slopes to 60 bits of their sum and times to 61 bits of the
/// makespan.
constexpr double kRounding = 1e-9;

Frontier solved(const Problem& problem, Range range = Range::kTMax) {
  auto frontier = Frontier::solve(problem, {.range = range, .progress = {}});
  if (!frontier) throw std::logic_error(frontier.error().text());
  return *std::move(frontier);
}

/// Effective cost of a duration on the hull of the options, by definition: the least mean of two options.
long double cost_of(const Problem& problem, ComputationId i, long double duration) {
  struct Point {
    long double t, c;
  };
  std::vector<Point> points;
  const long double power = problem.blocking_power(problem.pipeline().rank_of(i)).value();
  for (const Option& o : problem.options(i))
    points.push_back({o.time.value(), o.energy.value() - power * o.time.value()});
  long double best = INFINITY;
  for (const Point& a : points) {
    // Ticks round up: an option of the duration's own time may be a tick away.
    if (a.t <= duration) best = std::min(best, a.c);
    for (const Point& b : points) {
      if (!(a.t <= duration && duration < b.t)) continue;
      const long double share = (duration - a.t) / (b.t - a.t);
      best = std::min(best, a.c + share * (b.c - a.c));
    }
  }
  return best;
}

long double total_cost(const Problem& problem, const Relaxed& relaxed) {
  long double sum = 0;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    sum +=
        cost_of(problem, i, std::ldexp(static_cast<long double>(relaxed.duration[i]), relaxed.tick_exponent));
  }
  return sum;
}

/// The bound of DESIGN section 3 at `time`.
long double bound(const Problem& problem, const core::Certificate& certificate, long double time) {
  const auto watts = [&](std::int64_t flow) {
    return std::ldexp(static_cast<long double>(flow), certificate.unit_exponent);
  };
  long double sum = -watts(certificate.value) * time;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const long double power = problem.blocking_power(problem.pipeline().rank_of(i)).value();
    long double least = INFINITY;
    for (const Option& o : problem.options(i)) {
      const long double t = o.time.value();
      least = std::min(least, o.energy.value() - power * t + watts(certificate.computation[i]) * t);
    }
    sum += least;
  }
  for (const auto& e : certificate.edges) sum += watts(e.flow) * problem.lag(e.edge).value();
  return sum;
}

/// Empty if the certificate conserves flow, edge by edge.
std::string conservation_fault(const Problem& problem, const core::Certificate& certificate) {
  std::vector<std::int64_t> in(problem.size(), 0);
  std::vector<std::int64_t> out(problem.size(), 0);
  const auto edges = problem.pipeline().edges();
  for (const auto& e : certificate.edges) {
    if (e.flow <= 0) return "an edge without flow is listed";
    out[edges[e.edge].from] += e.flow;
    in[edges[e.edge].to] += e.flow;
  }
  std::int64_t source = 0;
  std::int64_t sink = 0;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const std::int64_t flow = certificate.computation[i];
    if (flow < 0 || in[i] > flow || out[i] > flow) return "computation " + std::to_string(i) + " makes flow";
    source += flow - in[i];
    sink += flow - out[i];
  }
  if (source != certificate.value || sink != certificate.value)
    return "the value is not what leaves the source";
  return {};
}

/// The longest path of the durations, ticks.
std::int64_t makespan(const Problem& problem, const Relaxed& relaxed) {
  std::vector<std::int64_t> start(problem.size(), 0);
  std::int64_t longest = 0;
  const core::Pipeline& pipeline = problem.pipeline();
  for (const ComputationId i : pipeline.topological_order()) {
    const std::int64_t end = start[i] + relaxed.duration[i];
    longest = std::max(longest, end);
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      const auto lag =
          static_cast<std::int64_t>(std::ceil(std::ldexp(problem.lag(e).value(), -relaxed.tick_exponent)));
      std::int64_t& next = start[pipeline.edges()[e].to];
      next = std::max(next, end + lag);
    }
  }
  return longest;
}

/// Everything that a point must keep: it is feasible, conserves, and its bound equals its cost.
std::string fault_at(const Frontier& frontier, Seconds target) {
  const auto relaxed = frontier.at(target);
  if (!relaxed) return relaxed.error().text();
  const Problem& problem = frontier.problem();
  if (std::string fault = conservation_fault(problem, relaxed->certificate); !fault.empty()) return fault;
  const long double end =
      std::ldexp(static_cast<long double>(makespan(problem, *relaxed)), relaxed->tick_exponent);
  if (end > target.value() * (1 + 1e-15L)) return "it ends late";
  const long double cost = total_cost(problem, *relaxed);
  // Above the range's slowest time the bound holds there.
  const Seconds slowest = frontier.range() == Range::kTMax ? frontier.t_max() : frontier.t_star();
  const long double proven = bound(problem, relaxed->certificate, std::min(target, slowest).value());
  long double scale = 1e-9L;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    for (const Option& o : problem.options(i)) {
      scale = std::max({scale, static_cast<long double>(o.energy.value()),
                        std::abs(static_cast<long double>(problem.effective_cost(i, o).value()))});
    }
  }
  scale *= problem.size();
  if (std::abs(cost - proven) > kRounding * scale) {
    return "cost " + std::to_string(static_cast<double>(cost)) + " is not proven by bound " +
           std::to_string(static_cast<double>(proven));
  }
  return {};
}

Seconds between(const Frontier& frontier, double share) {
  const Seconds slowest = frontier.range() == Range::kTMax ? frontier.t_max() : frontier.t_star();
  return std::max(frontier.t_min(), frontier.t_min() + share * (slowest - frontier.t_min()));
}

TEST(Frontier, EveryCornerAgreesWithSuccessivePathsFromScratch) {
  tests::check_property(
      [](const ProblemRecipe& recipe) {
        const Problem problem = tests::make_problem(recipe);
        const Frontier frontier = solved(problem);
        const auto ours = frontier.breakpoints();
        const auto reference = ReferenceFrontier::solve(problem);
        const auto& theirs = reference.corners();
        const long double scale =
            std::max({std::abs(theirs.back().cost_j), std::abs(theirs.front().cost_j), 1e-9L});
        RC_ASSERT(std::abs(frontier.t_max().value() - reference.t_max_s()) <=
                  kRounding * reference.t_max_s());
        RC_ASSERT(std::abs(frontier.t_min().value() - reference.t_min_s()) <= 1e-15L * reference.t_min_s());
        for (const Breakpoint& b : ours) {
          const long double t = std::max<long double>(b.time.value(), reference.t_min_s());
          RC_ASSERT(std::abs(b.cost.value() - reference.cost_at(t)) <= kRounding * scale);
        }
        for (const auto& corner : theirs) {
          const auto next = std::ranges::partition_point(
              ours, [&](const Breakpoint& b) { return b.time.value() > corner.time_s; });
          if (next == ours.end() || next == ours.begin()) continue;
          const Breakpoint& above = *std::prev(next);
          const long double cost =
              above.cost.value() + above.slope.value() * (above.time.value() - corner.time_s);
          RC_ASSERT(std::abs(cost - corner.cost_j) <= kRounding * scale);
        }
        if (!recipe.full_doubles && recipe.shape == tests::Shape::kLinear) {
          RC_ASSERT(ours.size() == theirs.size());
          for (std::size_t k = 0; k < ours.size(); ++k) RC_ASSERT(ours[k].time.value() == theirs[k].time_s);
        }
      },
      400);
}

TEST(Frontier, EveryTargetIsFeasibleAndProvenByItsFlow) {
  tests::check_property(
      [](const ProblemRecipe& recipe) {
        const Problem problem = tests::make_problem(recipe);
        for (const Range range : {Range::kTStar, Range::kTMax}) {
          const Frontier frontier = solved(problem, range);
          for (const double share : {0.0, 1e-6, 0.31, 0.5, 0.77, 1.0, 1.2}) {
            RC_ASSERT(fault_at(frontier, between(frontier, share)) == "");
          }
          const auto corners = frontier.breakpoints();
          for (std::size_t k = 0; k < corners.size(); k += 7) {
            RC_ASSERT(fault_at(frontier, std::max(corners[k].time, frontier.t_min())) == "");
          }
        }
      },
      150);
}

TEST(Frontier, TheShortRangeIsPartOfTheLongOne) {
  tests::check_property([](const ProblemRecipe& recipe) {
    const Problem problem = tests::make_problem(recipe);
    const Frontier complete = solved(problem, Range::kTMax);
    const Frontier part = solved(problem, Range::kTStar);
    RC_ASSERT(part.t_min() == complete.t_min());
    RC_ASSERT(part.t_star() == complete.t_star());
    RC_ASSERT(part.t_max() == complete.t_max());
    const auto all = complete.data().corners;
    const auto& some = part.data().corners;
    const auto same = std::ranges::find_if(all, [&](const auto& c) { return c.time <= some.front().time; });
    RC_ASSERT(std::vector(same, all.end()) == some);
    // T*: the slope passes the sum of the blocking power there.
    const double blocking = problem.total_blocking_power().value();
    if (part.breakpoint_count() > 1)
      RC_ASSERT(part.breakpoints().front().slope.value() > blocking * (1 - 1e-12));
    for (const Breakpoint& b : complete.breakpoints()) {
      if (b.time > complete.t_star()) RC_ASSERT(b.slope.value() <= blocking * (1 + 1e-12));
    }
  });
}

TEST(Frontier, StoredAndReadAnswersAlike) {
  tests::check_property(
      [](const ProblemRecipe& recipe) {
        const Problem problem = tests::make_problem(recipe);
        const Frontier frontier = solved(problem);
        const auto again = Frontier::from_data(problem, frontier.data());
        RC_ASSERT(again.has_value());
        for (const double share : {0.0, 0.2, 0.9}) {
          const auto a = frontier.at(between(frontier, share));
          const auto b = again->at(between(frontier, share));
          RC_ASSERT(a->duration == b->duration);
          RC_ASSERT(a->certificate.computation == b->certificate.computation);
          RC_ASSERT(a->certificate.value == b->certificate.value);
        }
      },
      50);
}

TEST(Sample, EqualsTheCompleteFrontierAtEveryTarget) {
  tests::check_property(
      [](const ProblemRecipe& recipe) {
        const Problem problem = tests::make_problem(recipe);
        const Frontier frontier = solved(problem);
        std::vector<Seconds> targets;
        for (const double share : {1.1, 1.0, 0.8, 0.8, 0.33, 1e-9, 0.0})
          targets.push_back(between(frontier, share));
        const auto sampled = sample(problem, targets);
        RC_ASSERT(sampled.has_value());
        RC_ASSERT(sampled->size() == targets.size());
        for (std::size_t i = 0; i < targets.size(); ++i) {
          const auto complete = frontier.at(targets[i]).value();
          const Relaxed& point = (*sampled)[i];
          RC_ASSERT(point.target == std::min(targets[i], frontier.t_max()));
          RC_ASSERT(conservation_fault(problem, point.certificate) == "");
          const long double scale = std::abs(total_cost(problem, complete)) + 1e-9L;
          const long double bounded = std::min(targets[i], frontier.t_max()).value();
          RC_ASSERT(std::abs(total_cost(problem, complete) - total_cost(problem, point)) <=
                    kRounding * scale);
          RC_ASSERT(std::abs(bound(problem, complete.certificate, bounded) -
                             bound(problem, point.certificate, bounded)) <= kRounding * scale);
        }
      },
      60);
}

TEST(Frontier, ScalingTimeAndEnergyByPowersOfTwoScalesTheFrontier) {
  tests::check_property(
      [](const ProblemRecipe& recipe) {
        const Problem problem = tests::make_problem(recipe);
        core::ProblemInputs inputs = problem.inputs();
        for (auto& entry : inputs.profile.entries) {
          for (Option& o : entry.options) {
            o.time = 4.0 * o.time;
            o.energy = 8.0 * o.energy;
          }
        }
        for (Watts& p : inputs.blocking_power) p = 2.0 * p;
        inputs.p2p_lag = 4.0 * inputs.p2p_lag;
        for (auto& [ranks, lag] : inputs.edge_lag) lag = 4.0 * lag;
        const Problem scaled = Problem::build(problem.pipeline(), inputs).value();
        const Frontier a = solved(problem);
        const Frontier b = solved(scaled);
        RC_ASSERT(a.data().corners == b.data().corners);
        RC_ASSERT(a.data().time_exponent + 2 == b.data().time_exponent);
        // Without any slope the unit of power is arbitrary.
        if (a.breakpoint_count() > 1) RC_ASSERT(a.data().power_exponent + 1 == b.data().power_exponent);
      },
      50);
}

/// The same job with its ranks and its microbatches numbered otherwise: other numbers for computations, edges
/// and events, and another order of all of them.
Problem renumbered(const Problem& problem, std::uint64_t seed) {
  core::Schedule schedule = problem.pipeline().schedule();
  core::ProblemInputs inputs = problem.inputs();
  std::mt19937_64 random(seed);
  std::vector<std::uint32_t> rank(schedule.pipeline());
  std::iota(rank.begin(), rank.end(), 0u);
  std::ranges::shuffle(rank, random);
  std::vector<std::uint32_t> microbatch(schedule.microbatches);
  std::iota(microbatch.begin(), microbatch.end(), 0u);
  std::ranges::shuffle(microbatch, random);

  const auto old_ranks = schedule.ranks;
  const auto old_power = inputs.blocking_power;
  for (std::uint32_t r = 0; r < rank.size(); ++r) {
    schedule.ranks[rank[r]] = old_ranks[r];
    inputs.blocking_power[rank[r]] = old_power[r];
  }
  for (auto& order : schedule.ranks) {
    for (Computation& c : order) {
      if (c.kind == Kind::kOther) continue;  // its microbatch may mean "once an iteration"
      c.microbatch = microbatch[c.microbatch];
      if (c.kind == Kind::kForwardBackward) c.microbatch_b = microbatch[c.microbatch_b];
    }
  }
  inputs.edge_lag.clear();
  for (const auto& [ranks, lag] : problem.inputs().edge_lag) {
    inputs.edge_lag[{rank[ranks.first], rank[ranks.second]}] = lag;
  }
  return Problem::build(core::Pipeline::build(std::move(schedule)).value(), std::move(inputs)).value();
}

TEST(Frontier, OtherNumbersForRanksAndMicrobatchesChangeNothing) {
  tests::check_property(
      [](const ProblemRecipe& recipe, std::uint64_t seed) {
        const Problem problem = tests::make_problem(recipe);
        const Problem other = renumbered(problem, seed);
        for (const Range range : {Range::kTStar, Range::kTMax}) {
          const Frontier a = solved(problem, range);
          const Frontier b = solved(other, range);
          RC_ASSERT(a.data().corners == b.data().corners);
          RC_ASSERT(a.data().t_star == b.data().t_star);
          RC_ASSERT(a.data().t_max == b.data().t_max);
          RC_ASSERT(a.data().time_exponent == b.data().time_exponent);
          RC_ASSERT(a.data().power_exponent == b.data().power_exponent);
          RC_ASSERT(a.t_min() == b.t_min());
        }
      },
      200);
}

/// F then B on one stage for each microbatch.
Problem row(std::vector<Option> forward, std::vector<Option> backward, double blocking_w,
            std::uint32_t microbatches = 1) {
  core::Schedule schedule{.name = "row", .microbatches = microbatches, .ranks = {{}}};
  for (std::uint32_t m = 0; m < microbatches; ++m) {
    schedule.ranks[0].push_back({.kind = Kind::kForward, .microbatch = m});
    schedule.ranks[0].push_back({.kind = Kind::kBackward, .microbatch = m});
  }
  core::ProblemInputs inputs;
  inputs.profile.entries = {{0, "backward", {}, std::move(backward)}, {0, "forward", {}, std::move(forward)}};
  inputs.blocking_power = {Watts(blocking_w)};
  return Problem::build(core::Pipeline::build(std::move(schedule)).value(), std::move(inputs)).value();
}

Option option(std::uint32_t mhz, double t, double e) {
  return Option{.clock = Megahertz(mhz), .time = Seconds(t), .energy = Joules(e)};
}

TEST(Frontier, TwoComputationsInARowByHand) {
  // Effective costs: F (1, 9) (2, 2) (4, -2), slopes 7 and 2; B (1, 7) (3, -1), slope 4.
  const Frontier frontier = solved(row({option(900, 1, 10), option(600, 2, 4), option(300, 4, 2)},
                                       {option(900, 1, 8), option(300, 3, 2)}, 1));
  const double expected[][3] = {{7, 2, -3}, {5, 4, 1}, {3, 7, 9}, {2, 7, 16}};
  const auto corners = frontier.breakpoints();
  ASSERT_EQ(corners.size(), 4u);
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_EQ(corners[k].time.value(), expected[k][0]);
    EXPECT_EQ(corners[k].slope.value(), expected[k][1]);
    EXPECT_EQ(corners[k].cost.value(), expected[k][2]);
  }
  EXPECT_EQ(frontier.t_star(), Seconds(7));
  const auto at4 = frontier.at(Seconds(4)).value();
  EXPECT_EQ(std::ldexp(at4.duration[0], at4.tick_exponent), 2);
  EXPECT_EQ(std::ldexp(at4.duration[1], at4.tick_exponent), 2);
}

TEST(Frontier, ATargetBelowTheLeastTimeIsRefusedWithAllDigits) {
  const Frontier frontier = solved(row({option(900, 0.1, 10)}, {option(900, 0.2, 8), option(300, 3, 2)}, 1));
  EXPECT_EQ(frontier.t_min().value(), 0.1 + 0.2);
  EXPECT_TRUE(frontier.at(frontier.t_min()).has_value());
  const auto refused = frontier.at(Seconds(0.3));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), core::ErrorCode::kInfeasible);
  EXPECT_EQ(refused.error().message(),
            "target time 0.3 s is below the least iteration time 0.30000000000000004 s");
  EXPECT_FALSE(frontier.at(Seconds(NAN)).has_value());
  EXPECT_FALSE(frontier.at(Seconds(-1)).has_value());
  EXPECT_TRUE(frontier.at(Seconds(INFINITY)).has_value());
}

TEST(Frontier, OneOptionPerComputationHasOneCorner) {
  const Frontier frontier = solved(row({option(900, 1, 10)}, {option(900, 2, 8)}, 50));
  EXPECT_EQ(frontier.breakpoint_count(), 1u);
  EXPECT_EQ(frontier.t_min(), Seconds(3));
  EXPECT_EQ(frontier.t_star(), Seconds(3));
  EXPECT_EQ(frontier.t_max(), Seconds(3));
  EXPECT_EQ(fault_at(frontier, Seconds(3)), "");
}

TEST(Frontier, OptionsOfEqualTimeLeaveTheCheapest) {
  const Frontier frontier = solved(row({option(900, 1, 10), option(800, 1, 7)}, {option(900, 2, 8)}, 0));
  EXPECT_EQ(frontier.breakpoint_count(), 1u);
  EXPECT_EQ(frontier.breakpoints().front().cost, Joules(15));
}

TEST(Frontier, WithoutBlockingPowerTheBestTimeIsTheSlowest) {
  const Frontier frontier =
      solved(row({option(900, 1, 10), option(300, 4, 2)}, {option(900, 1, 8)}, 0), Range::kTStar);
  EXPECT_EQ(frontier.t_star(), frontier.t_max());
  EXPECT_EQ(frontier.t_max(), Seconds(5));
}

TEST(Frontier, BlockingPowerAboveAllSlopesMakesTheFastestBest) {
  // Slower costs more energy, yet less effective cost: waiting is dearer than either.
  const Frontier frontier = solved(row({option(900, 1, 10), option(300, 4, 12)}, {option(900, 1, 8)}, 1000));
  EXPECT_EQ(frontier.t_star(), Seconds(2));
  EXPECT_EQ(frontier.t_max(), Seconds(5));
}

TEST(Frontier, TenThousandOptionsPerComputation) {
  std::vector<Option> many;
  for (std::uint32_t k = 0; k < 10'000; ++k) {
    const double t = 0.01 + 1e-6 * k;
    many.push_back(option(20'000 - k, t, 4e-2 / t));
  }
  const Frontier frontier = solved(row(many, {option(900, 0.1, 1), option(800, 0.2, 0.5)}, 10, 3));
  EXPECT_GT(frontier.breakpoint_count(), 5'000u);
  EXPECT_EQ(fault_at(frontier, between(frontier, 0.123)), "");
}

TEST(Frontier, MicrosecondsAndHoursInOneJob) {
  const Frontier frontier = solved(row({option(900, 1e-6, 3e-4), option(300, 2e-6, 1e-4)},
                                       {option(900, 1e3, 3e5), option(300, 3e3, 2e5)}, 20, 2));
  EXPECT_EQ(frontier.breakpoint_count(), 3u);
  for (const double share : {0.0, 0.3, 1.0}) EXPECT_EQ(fault_at(frontier, between(frontier, share)), "");
}

TEST(Sample, TargetsOutOfOrderOrTooFastAreRefused) {
  const Problem problem = row({option(900, 1, 10), option(300, 4, 2)}, {option(900, 1, 8)}, 0);
  const std::vector<Seconds> rising{Seconds(3), Seconds(4)};
  EXPECT_EQ(sample(problem, rising).error().message(),
            "target time 4 s follows 3 s; targets are asked for from slow to fast");
  const std::vector<Seconds> fast{Seconds(3), Seconds(1.5)};
  EXPECT_EQ(sample(problem, fast).error().code(), core::ErrorCode::kInfeasible);
}

TEST(Frontier, SlopesBeyondTheArithmeticAreRefused) {
  const auto refused =
      Frontier::solve(row({option(900, 1, 1e9), option(800, 1 + 1e-9, 0)}, {option(900, 1, 1)}, 0));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), core::ErrorCode::kOverflow);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("exact arithmetic holds 7.21e+16 W"));
}

TEST(Frontier, StoredStatesThatAreNoOptimaAreRefused) {
  const Problem problem = tests::make_problem(
      {.ranks = 3, .microbatches = 4, .options = 6, .power = tests::Power::kUniform, .seed = 5});
  const core::FrontierData good = solved(problem).data();
  const auto message = [&](auto&& damage) {
    core::FrontierData bad = good;
    damage(bad);
    const auto refused = Frontier::from_data(problem, std::move(bad));
    return refused ? std::string("accepted") : refused.error().message();
  };
  using testing::HasSubstr;
  EXPECT_THAT(message([](auto& d) { ++d.time_exponent; }), HasSubstr("its units are others"));
  EXPECT_THAT(message([](auto& d) { d.corners.clear(); }), HasSubstr("it is empty"));
  EXPECT_THAT(message([](auto& d) { std::swap(d.corners[0], d.corners[1]); }),
              HasSubstr("corners are not convex"));
  EXPECT_THAT(message([](auto& d) { --d.corners.back().time; }), HasSubstr("last corner is not at T_min"));
  EXPECT_THAT(message([](auto& d) { d.corners.back().time = std::numeric_limits<std::int64_t>::min(); }),
              HasSubstr("last corner is not at T_min"));
  EXPECT_THAT(message([](auto& d) { ++d.t_max; }), HasSubstr("its T_max is another"));
  EXPECT_THAT(message([](auto& d) { --d.t_star; }), HasSubstr("its T* is not where the slope"));
  EXPECT_THAT(message([](auto& d) { ++d.corners.front().time; }), HasSubstr("not where its range begins"));
  EXPECT_THAT(message([](auto& d) { d.to_t_max = false; }), HasSubstr("not where its range begins"));
  EXPECT_THAT(message([](auto& d) { --d.corners.front().slope; }),
              HasSubstr("a checkpoint's flow is not the slope"));
  EXPECT_THAT(message([](auto& d) { d.checkpoints[0].arc_flow.pop_back(); }), HasSubstr("another size"));
  EXPECT_THAT(message([](auto& d) { d.checkpoints[0].arc_flow[0] = -1; }), HasSubstr("arc 0 carries a flow"));
  EXPECT_THAT(message([](auto& d) { d.checkpoints[0].node_time[1] = 0; }),
              HasSubstr("faster than it can be"));
  EXPECT_THAT(message([](auto& d) { d.checkpoints[0].node_time[1] = -1; }), HasSubstr("outside the range"));
  EXPECT_THAT(message([](auto& d) { d.checkpoints.push_back(d.checkpoints[0]); }), HasSubstr("out of order"));
}

/// Large enough for a walk that reports its progress.
Problem problem_of_many_steps() {
  return tests::make_problem({.ranks = 6,
                              .microbatches = 40,
                              .options = 48,
                              .order = tests::Order::kOneFOneB,
                              .power = tests::Power::kUniform,
                              .full_doubles = true,
                              .seed = 3});
}

TEST(Frontier, ProgressRisesAndNamesTheWork) {
  std::vector<double> shares;
  const Problem problem = problem_of_many_steps();
  SolveOptions options;
  options.progress = [&](double share, std::string_view what) {
    shares.push_back(share);
    EXPECT_EQ(what, "walking the frontier");
  };
  ASSERT_TRUE(Frontier::solve(problem, options).has_value());
  EXPECT_TRUE(std::ranges::is_sorted(shares));
  for (const double share : shares) EXPECT_TRUE(share >= 0 && share <= 1);
}

TEST(Frontier, StopsWhenAsked) {
  const Problem problem = problem_of_many_steps();
  std::stop_source source;
  SolveOptions options{.stop = source.get_token()};
  ASSERT_TRUE(Frontier::solve(problem, options).has_value());
  int reports = 0;
  options.progress = [&](double, std::string_view) {
    ++reports;
    source.request_stop();
  };
  const auto stopped_midway = Frontier::solve(problem, options);
  source.request_stop();  // for a machine so fast that nothing was reported
  const auto stopped_at_once = Frontier::solve(problem, options);
  ASSERT_FALSE(stopped_at_once.has_value());
  EXPECT_EQ(stopped_at_once.error().code(), core::ErrorCode::kTimeout);
  EXPECT_EQ(stopped_at_once.error().message(), "stopped after 0 % of the frontier");
  EXPECT_EQ(stopped_midway.has_value(), reports == 0);
  EXPECT_LE(reports, 1);
}

}  // namespace
}  // namespace perseus::solver
