// SPDX-License-Identifier: Apache-2.0
//
// rapidcheck under GoogleTest with fixed seeds, and its generators for random_problem.h.
//
//   TEST(Solver, NeverLate) {
//     check_property([](const ProblemRecipe& recipe) {
//       const core::Problem problem = make_problem(recipe);
//       RC_ASSERT(...);
//     });
//   }
//
// PERSEUS_PROPERTY_FACTOR=20 runs twenty times as many cases; PERSEUS_PROPERTY_SEED=7 draws others.
#pragma once

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdlib>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/random_problem.h"

namespace perseus::tests {

/// One of `values`, all alike likely; shrinks towards the first.
template <class T>
rc::Gen<T> pick(std::initializer_list<T> values) {
  return rc::gen::resize(rc::kNominalSize, rc::gen::sizedElementOf(std::vector<T>(values)));
}

/// Recipes within `limits`; shrinks every field towards the plainest problem.
inline rc::Gen<ProblemRecipe> recipes(const RecipeLimits& limits = {}) {
  using R = ProblemRecipe;
  const auto up_to = [](std::uint32_t most) { return rc::gen::inRange<std::uint32_t>(1, most + 1); };
  const auto flag = [](bool plain) { return pick({plain, !plain}); };
  return rc::gen::build<R>(
      rc::gen::set(&R::ranks, up_to(limits.ranks)),
      rc::gen::set(&R::virtual_stages, up_to(limits.virtual_stages)),
      rc::gen::set(&R::microbatches, up_to(limits.microbatches)),
      rc::gen::set(&R::options, up_to(limits.options)), rc::gen::set(&R::tensor, up_to(8)),
      rc::gen::set(&R::placement,
                   pick({Placement::kLoop, Placement::kVee, Placement::kBlocks, Placement::kShuffled})),
      rc::gen::set(&R::order, pick({Order::kGpipe, Order::kOneFOneB, Order::kRandom, Order::kLastIn})),
      rc::gen::set(&R::backward, pick({Backward::kFull, Backward::kSplit, Backward::kMixed})),
      rc::gen::set(&R::shape,
                   pick({Shape::kSmooth, Shape::kNoisy, Shape::kScatter, Shape::kSingle, Shape::kEqualTimes,
                         Shape::kLinear, Shape::kExtreme, Shape::kRising, Shape::kMixed})),
      rc::gen::set(&R::power, pick({Power::kNone, Power::kUniform, Power::kPerRank, Power::kHuge})),
      rc::gen::set(&R::lag, pick({Lag::kNone, Lag::kUniform, Lag::kPerPair})),
      rc::gen::set(&R::pairs, flag(false)), rc::gen::set(&R::pair_rows, flag(false)),
      rc::gen::set(&R::recompute, flag(false)), rc::gen::set(&R::inserts, flag(false)),
      rc::gen::set(&R::empty_first_input, flag(false)), rc::gen::set(&R::first_weight_rows, flag(true)),
      rc::gen::set(&R::knobs, flag(false)), rc::gen::set(&R::full_doubles, flag(false)),
      rc::gen::set(&R::seed, rc::gen::arbitrary<std::uint64_t>()));
}

/// A number from the environment, or `otherwise`.
inline std::uint64_t environment_number(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Runs `testable` on `runs` random cases; a failure of the running GoogleTest test shows the shrunk case.
template <class Testable>
void check_property(Testable&& testable, int runs = 100) {
  rc::detail::TestParams params;
  params.seed = environment_number("PERSEUS_PROPERTY_SEED", 20240914);
  params.maxSuccess = runs * static_cast<int>(environment_number("PERSEUS_PROPERTY_FACTOR", 1));
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const rc::detail::TestMetadata metadata{test->name(), test->name()};
  const auto result = rc::detail::checkTestable(std::forward<Testable>(testable), metadata, params);
  if (result.template is<rc::detail::SuccessResult>()) return;
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  ADD_FAILURE() << text.str();
}

}  // namespace perseus::tests

namespace rc {
/// Lets a property take a recipe of the default limits as its argument.
template <>
struct Arbitrary<perseus::tests::ProblemRecipe> {
  static Gen<perseus::tests::ProblemRecipe> arbitrary() { return perseus::tests::recipes(); }
};
}  // namespace rc
