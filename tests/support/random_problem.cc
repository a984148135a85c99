// SPDX-License-Identifier: Apache-2.0
#include "tests/support/random_problem.h"

#include <algorithm>
#include <ostream>
#include <stdexcept>
#include <string>

#include "tests/support/random_parts.h"

namespace perseus::tests {
namespace {

/// Fills a recipe from any source of bounded numbers (`draw(bound)` gives 0 .. bound-1).
template <class Draw>
ProblemRecipe draw_recipe(const RecipeLimits& limits, Draw draw) {
  ProblemRecipe r;
  r.ranks = 1 + draw(limits.ranks);
  r.virtual_stages = 1 + draw(limits.virtual_stages);
  r.microbatches = 1 + draw(limits.microbatches);
  r.options = 1 + draw(limits.options);
  r.tensor = 1 + draw(8);
  r.placement = static_cast<Placement>(draw(4));
  r.order = static_cast<Order>(draw(4));
  r.backward = static_cast<Backward>(draw(3));
  r.shape = static_cast<Shape>(draw(9));
  r.power = static_cast<Power>(draw(4));
  r.lag = static_cast<Lag>(draw(3));
  r.pairs = draw(2) != 0;
  r.pair_rows = draw(2) != 0;
  r.recompute = draw(2) != 0;
  r.inserts = draw(2) != 0;
  r.empty_first_input = draw(2) != 0;
  r.first_weight_rows = draw(2) == 0;
  r.knobs = draw(2) != 0;
  r.full_doubles = draw(2) != 0;
  return r;
}

core::ProblemInputs make_inputs(const ProblemRecipe& recipe, const core::Schedule& schedule) {
  SplitMix random(recipe.seed ^ 0x9e6c63d0876a9a47);
  core::ProblemInputs inputs;
  inputs.profile = make_profile(recipe, schedule);
  inputs.parallel.tensor = recipe.tensor;
  for (std::uint32_t r = 0; r < recipe.ranks; ++r) {
    const double per_rank = recipe.full_doubles ? random.uniform(0, 200) : random.below(25) * 8;
    const double watts[] = {0, 85, per_rank, 2000};
    inputs.blocking_power.emplace_back(watts[static_cast<std::size_t>(recipe.power)]);
  }
  if (recipe.lag == Lag::kNone) return inputs;
  inputs.p2p_lag = core::Seconds(0x1p-8);
  if (recipe.lag == Lag::kUniform) return inputs;
  for (std::uint32_t a = 0; a < recipe.ranks; ++a) {
    for (std::uint32_t b = 0; b < recipe.ranks; ++b) {
      if (a == b || random.chance(0.3)) continue;
      const double lag = recipe.full_doubles ? random.uniform(1e-6, 5e-3) : random.below(6) * 0x1p-10;
      inputs.edge_lag[{a, b}] = core::Seconds(lag);
    }
  }
  return inputs;
}

/// The value of a Result, or its text as an exception.
template <class T>
T must(core::Result<T> result, const ProblemRecipe& recipe) {
  if (result) return *std::move(result);
  throw std::logic_error("core refuses the problem of seed " + std::to_string(recipe.seed) + ": " +
                         result.error().text());
}

}  // namespace

std::uint64_t SplitMix::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::uint32_t SplitMix::below(std::uint32_t bound) {
  return static_cast<std::uint32_t>(next() % bound);
}

double SplitMix::uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53);
}

ProblemRecipe recipe_from_seed(std::uint64_t seed, const RecipeLimits& limits) {
  SplitMix random(seed);
  ProblemRecipe recipe = draw_recipe(limits, [&](std::uint32_t bound) { return random.below(bound); });
  recipe.seed = random.next();
  return recipe;
}

ProblemRecipe recipe_from_bytes(std::span<const std::uint8_t> bytes, const RecipeLimits& limits) {
  std::size_t at = 0;
  const auto byte = [&]() -> std::uint32_t { return at < bytes.size() ? bytes[at++] : 0; };
  ProblemRecipe recipe = draw_recipe(limits, [&](std::uint32_t bound) { return byte() % bound; });
  for (int i = 0; i < 8; ++i) recipe.seed = recipe.seed << 8 | byte();
  return recipe;
}

core::Problem make_problem(const ProblemRecipe& recipe) {
  core::Schedule schedule = make_schedule(recipe);
  core::ProblemInputs inputs = make_inputs(recipe, schedule);
  core::Pipeline pipeline = must(core::Pipeline::build(std::move(schedule)), recipe);
  return must(core::Problem::build(std::move(pipeline), std::move(inputs)), recipe);
}

core::Choice random_choice(const core::Problem& problem, std::uint64_t seed) {
  SplitMix random(seed);
  core::Choice choice(problem.size());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    choice[i] = random.below(static_cast<std::uint32_t>(problem.options(i).size()));
  }
  return choice;
}

std::ostream& operator<<(std::ostream& out, const ProblemRecipe& r) {
  const auto flag = [](bool value) { return value ? "true" : "false"; };
  const auto number = [](auto value) { return std::to_string(static_cast<unsigned>(value)); };
  return out << "ProblemRecipe{.ranks = " << r.ranks << ", .virtual_stages = " << r.virtual_stages
             << ", .microbatches = " << r.microbatches << ", .options = " << r.options
             << ", .tensor = " << r.tensor << ", .placement = Placement{" << number(r.placement)
             << "}, .order = Order{" << number(r.order) << "}, .backward = Backward{" << number(r.backward)
             << "}, .shape = Shape{" << number(r.shape) << "}, .power = Power{" << number(r.power)
             << "}, .lag = Lag{" << number(r.lag) << "}, .pairs = " << flag(r.pairs)
             << ", .pair_rows = " << flag(r.pair_rows) << ", .recompute = " << flag(r.recompute)
             << ", .inserts = " << flag(r.inserts) << ", .empty_first_input = " << flag(r.empty_first_input)
             << ", .first_weight_rows = " << flag(r.first_weight_rows) << ", .knobs = " << flag(r.knobs)
             << ", .full_doubles = " << flag(r.full_doubles) << ", .seed = " << r.seed << "u}";
}

}  // namespace perseus::tests
