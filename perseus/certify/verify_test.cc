// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/property.h"
#include "tests/support/reference_lp.h"
#include "tests/support/small_problems.h"

namespace perseus::certify {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Plan;
using core::Problem;
using core::Seconds;
using testing::ElementsAre;
using tests::check_property;
using tests::honest_plan;
using tests::row_flow;
using tests::two_in_a_row;

/// F at 2 s, B at 1 s; target 4 s: C = 9 + blocking 3 = 12 J, bound C(4) + 4 = 9 J.
Plan row_plan(const Problem& problem) {
  return honest_plan(problem, {1, 0}, Seconds(4), {}, row_flow(4));
}

/// The names of the checks that do not hold.
std::vector<std::string> false_claims(const Problem& problem, const Plan& plan) {
  std::vector<std::string> names;
  const auto verdict = verify(problem, plan);
  if (!verdict) return {"error: " + verdict.error().message()};
  for (const Check& c : verdict->checks) {
    if (!c.holds) names.push_back(c.name);
  }
  return names;
}

/// The verdict of a plan with one thing changed.
std::vector<std::string> after(const Problem& problem, Plan plan, const std::function<void(Plan&)>& change) {
  change(plan);
  return false_claims(problem, plan);
}

TEST(Verify, AcceptsAnHonestPlanAndShowsEveryCheck) {
  const Problem problem = two_in_a_row();
  const auto verdict = verify(problem, row_plan(problem)).value();
  EXPECT_TRUE(verdict.holds());
  EXPECT_TRUE(verdict.status().has_value());
  EXPECT_EQ(verdict.time, Seconds(3));
  EXPECT_EQ(verdict.energy, Joules(12));
  EXPECT_NEAR(verdict.lower_bound->value(), 9, 1e-14);
  std::vector<std::string> names;
  for (const Check& c : verdict.checks) names.push_back(c.name);
  EXPECT_THAT(names,
              ElementsAre("target_time_s", "time_s", "energy_j", "certificate", "lower_bound_j", "gap"));
  const Check& energy = verdict.checks[2];
  EXPECT_EQ(energy.claimed, 12);
  EXPECT_EQ(energy.recomputed, 12);
  EXPECT_DOUBLE_EQ(energy.tolerance, 12e-9);
  EXPECT_EQ(energy.detail, "as recomputed");
}

TEST(Verify, SynchronisedPlansCountBlockingToTheSyncTime) {
  const Problem problem = two_in_a_row(4);
  Plan plan = honest_plan(problem, {1, 0}, Seconds(4), Seconds(6), row_flow(4));
  const auto verdict = verify(problem, plan).value();
  EXPECT_TRUE(verdict.holds());
  EXPECT_EQ(verdict.energy, Joules(4 * (9 + 6)));
  EXPECT_NEAR(verdict.lower_bound->value(), 4 * (5 + 6), 1e-13);
  EXPECT_EQ(verdict.checks[1].name, "sync_time_s");
  plan.sync_time = Seconds(2.5);
  const auto early = verify(problem, plan).value();
  EXPECT_FALSE(early.checks[1].holds);
  EXPECT_EQ(early.checks[1].detail, "the iteration ends at 3, after 2.5");
}

TEST(Verify, EveryChangedClaimIsCaught) {
  const Problem problem = two_in_a_row();
  const Plan plan = row_plan(problem);
  const auto changed = [&](const std::function<void(Plan&)>& change) { return after(problem, plan, change); };
  EXPECT_THAT(changed([](Plan&) {}), ElementsAre());
  EXPECT_THAT(changed([](Plan& p) { p.time = Seconds(std::nextafter(3, 4)); }), ElementsAre("time_s"));
  EXPECT_THAT(changed([](Plan& p) { p.time = Seconds(std::nextafter(3, 2)); }), ElementsAre("time_s"));
  EXPECT_THAT(changed([](Plan& p) { p.energy = Joules(12 * (1 + 2e-9)); }), ElementsAre("energy_j"));
  EXPECT_THAT(changed([](Plan& p) { p.energy = Joules(12 * (1 - 2e-9)); }), ElementsAre("energy_j"));
  EXPECT_THAT(changed([](Plan& p) { p.lower_bound = Joules(9 + 13e-9); }), ElementsAre("lower_bound_j"));
  EXPECT_THAT(changed([](Plan& p) { p.lower_bound = Joules(9 - 13e-9); }), ElementsAre("lower_bound_j"));
  EXPECT_THAT(changed([](Plan& p) { p.gap += 6e-9; }), ElementsAre("gap"));
  EXPECT_THAT(changed([](Plan& p) { p.gap -= 6e-9; }), ElementsAre("gap"));
  // A later target makes the flow prove less, an earlier one lets the iteration end too late.
  EXPECT_THAT(changed([](Plan& p) { p.target_time = Seconds(4.01); }), ElementsAre("lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.target_time = Seconds(std::nextafter(3, 2)); }),
              ElementsAre("target_time_s", "lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.sync_time = Seconds(5); }),
              ElementsAre("energy_j", "lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.choice[0] = 0; }), ElementsAre("time_s", "energy_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.choice[1] = 1; }),
              ElementsAre("target_time_s", "time_s", "energy_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate->unit_exponent = 1; }),
              ElementsAre("lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate->value = 3; }),
              ElementsAre("certificate", "lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate->computation[0] = 3; }),
              ElementsAre("certificate", "lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate->edges[0].flow = 3; }),
              ElementsAre("certificate", "lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate = row_flow(3); }), ElementsAre("lower_bound_j", "gap"));
  EXPECT_THAT(changed([](Plan& p) { p.certificate.reset(); }), ElementsAre("lower_bound_j", "gap"));
}

TEST(Verify, NumbersThatAreNoneAreFalse) {
  const Problem problem = two_in_a_row();
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double x : {nan, infinity, -infinity}) {
    EXPECT_THAT(after(problem, row_plan(problem), [&](Plan& p) { p.time = Seconds(x); }),
                ElementsAre("time_s"));
    EXPECT_THAT(after(problem, row_plan(problem), [&](Plan& p) { p.energy = Joules(x); }),
                ElementsAre("energy_j"));
    EXPECT_THAT(after(problem, row_plan(problem), [&](Plan& p) { p.lower_bound = Joules(x); }),
                ElementsAre("lower_bound_j"));
    EXPECT_THAT(after(problem, row_plan(problem), [&](Plan& p) { p.gap = x; }), ElementsAre("gap"));
  }
}

TEST(Verify, APlanWithoutACertificateMayClaimNoBound) {
  const Problem problem = two_in_a_row();
  Plan plan = row_plan(problem);
  plan.certificate.reset();
  plan.lower_bound = Joules(0);
  plan.gap = 0;
  const auto verdict = verify(problem, plan).value();
  EXPECT_TRUE(verdict.holds());
  EXPECT_EQ(verdict.lower_bound, std::nullopt);
  EXPECT_EQ(verdict.checks[3].detail, "absent: no bound is proven");
  EXPECT_EQ(verdict.checks[4].detail, "not claimed");
  plan.lower_bound = Joules(1);
  EXPECT_EQ(verify(problem, plan).value().status().error().text(),
            "lower_bound_j: claims 1 without a certificate that proves it");
}

TEST(Verify, StatusNamesTheFirstFalseClaimWithBothValues) {
  const Problem problem = two_in_a_row();
  Plan plan = row_plan(problem);
  plan.energy = Joules(11);
  plan.gap = 1;
  const auto status = verify(problem, plan).value().status();
  EXPECT_EQ(status.error().code(), ErrorCode::kClaimFalse);
  EXPECT_EQ(status.error().text(), "energy_j: claims 11, but it is 12");
  plan = row_plan(problem);
  plan.certificate->value = 5;
  EXPECT_EQ(verify(problem, plan).value().status().error().text(),
            "certificate: the source feeds 4 in all, but its value is 5");
  plan = row_plan(problem);
  plan.target_time = Seconds(2.75);
  EXPECT_EQ(verify(problem, plan).value().status().error().text(),
            "target_time_s: the iteration ends at 3, after 2.75");
}

TEST(Verify, RefusesWhatIsNoPlanOfTheProblem) {
  const Problem problem = two_in_a_row();
  const auto refusal = [&](const std::function<void(Plan&)>& change,
                           ErrorCode code = ErrorCode::kInvalidInput) {
    Plan plan = row_plan(problem);
    change(plan);
    const auto verdict = verify(problem, plan);
    EXPECT_EQ(verdict.error().code(), code);
    return verdict.error().text();
  };
  EXPECT_EQ(refusal([](Plan& p) { p.choice.push_back(0); }),
            "the plan has 3 computations; the pipeline has 2");
  EXPECT_EQ(refusal([](Plan& p) { p.choice[1] = 2; }), "0B0 on rank 0: option 2 does not exist; there are 2");
  EXPECT_EQ(refusal([](Plan& p) { p.target_time = Seconds(std::nan("")); }),
            "target_time_s is nan s; it must be 0 to 17592186044416 s");
  EXPECT_EQ(refusal([](Plan& p) { p.sync_time = Seconds(-2); }),
            "sync_time_s is -2 s; it must be 0 to 17592186044416 s");
  EXPECT_EQ(refusal([](Plan& p) { p.certificate->unit_exponent = 4000; }, ErrorCode::kLimit),
            "certificate: unit exponent 4000 is outside -1000 to 1000");
}

TEST(Verify, NoEnergyAtAllLeavesNoGap) {
  // Free options without blocking power: bound 0, energy 0, gap 0.
  auto inputs = two_in_a_row().inputs();
  inputs.blocking_power = {core::Watts(0)};
  for (auto& entry : inputs.profile.entries) {
    for (auto& option : entry.options) option.energy = Joules(0);
  }
  const Problem problem = Problem::build(two_in_a_row().pipeline(), inputs).value();
  const Plan plan = honest_plan(problem, {0, 0}, Seconds(4), {}, row_flow(3));
  EXPECT_THAT(false_claims(problem, plan), ElementsAre());
  EXPECT_THAT(after(problem, plan, [](Plan& p) { p.gap = 5e-9; }), ElementsAre("gap"));
}

/// An honest plan for a random problem: any choice, made for its own makespan or a later time, with an
/// optimal flow.
Plan random_plan(const Problem& problem, std::uint64_t seed) {
  tests::SplitMix random(seed);
  core::Choice choice =
      random.chance(0.5) ? core::fastest_choice(problem) : tests::random_choice(problem, seed);
  const Seconds end = core::exact_timing(problem, choice).makespan.ceil_seconds();
  const Seconds target = random.chance(0.5) ? end : random.uniform(1, 1.5) * end;
  auto flow = tests::reference_certificate(problem, target);
  const double value = std::ldexp(static_cast<double>(flow.value), flow.unit_exponent);
  // honest_plan() can state the bound of a weak flow only for a synchronised iteration.
  const bool weak = value < problem.total_blocking_power().value();
  std::optional<Seconds> sync;
  if (weak || random.chance(0.5)) sync = random.uniform(1, 1.2) * target;
  return honest_plan(problem, std::move(choice), target, sync, std::move(flow));
}

TEST(Verify, AcceptsHonestPlansOfRandomProblems) {
  check_property(
      [](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
        const Problem problem = tests::make_problem(recipe);
        const auto status = verify(problem, random_plan(problem, seed)).value().status();
        RC_ASSERT((status ? "" : status.error().text()) == "");
      },
      300);
}

TEST(Verify, CatchesEveryChangeToPlansOfRandomProblems) {
  check_property(
      [](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
        const Problem problem = tests::make_problem(recipe);
        const Plan plan = random_plan(problem, seed);
        tests::SplitMix random(seed + 1);
        const auto caught = [&](const std::function<void(Plan&)>& change) {
          return !after(problem, plan, change).empty();
        };
        const double factor = random.chance(0.5) ? 1 + 1e-6 : 1 - 1e-6;
        RC_ASSERT(caught([&](Plan& p) { p.time = factor * p.time; }));
        RC_ASSERT(caught([&](Plan& p) { p.energy = factor * p.energy; }));
        RC_ASSERT(caught([&](Plan& p) { p.gap = (1 + p.gap) * factor - 1; }));
        RC_ASSERT(caught([&](Plan& p) { p.lower_bound += (factor - 1) * p.energy; }));
        RC_ASSERT(caught([&](Plan& p) { p.certificate->value += random.chance(0.5) ? 1 : -1; }));
        const core::ComputationId i = random.below(problem.size());
        RC_ASSERT(caught([&](Plan& p) { p.certificate->computation[i] += random.chance(0.5) ? 1 : -1; }));
        const auto& options = problem.options(i);
        const auto other = random.below(static_cast<std::uint32_t>(options.size()));
        // Another option is caught by its energy, and that is what it must differ in: equal ones are no
        // change.
        const Joules was = core::pipeline_energy(problem, plan.choice, plan.sync_time.value_or(plan.time));
        core::Choice changed = plan.choice;
        changed[i] = other;
        const Seconds end = core::exact_timing(problem, changed).makespan.ceil_seconds();
        const Joules is = core::pipeline_energy(problem, changed, plan.sync_time.value_or(end));
        const bool same = std::abs((is - was).value()) <= 1e-8 * was.value() && end == plan.time;
        RC_ASSERT(same || caught([&](Plan& p) { p.choice[i] = other; }));
      },
      300);
}

}  // namespace
}  // namespace perseus::certify
