// SPDX-License-Identifier: Apache-2.0
//
// Random pipelines, profiles and problems for property tests, oracles and fuzzers. A recipe is a handful of
// small numbers that stands for one problem: it prints in one line, shrinks field by field towards the
// plainest problem (tests/support/property.h) and always gives the same problem again.
//
//   const core::Problem problem = make_problem(recipe_from_seed(42));
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>

#include "perseus/core/problem.h"

namespace perseus::tests {

/// How stages are laid out on ranks.
enum class Placement : std::uint8_t { kLoop, kVee, kBlocks, kShuffled };
/// Which ready computation a rank prefers.
enum class Order : std::uint8_t {
  kGpipe,     ///< forwards first
  kOneFOneB,  ///< exactly 1F1B for one stage per rank and full backwards, otherwise alike
  kRandom,    ///< any valid order
  kLastIn,    ///< the highest microbatch that is ready
};
/// How backwards are split.
enum class Backward : std::uint8_t { kFull, kSplit, kMixed };
/// What the options of an entry look like.
enum class Shape : std::uint8_t {
  kSmooth,      ///< convex effective cost, as a GPU without noise
  kNoisy,       ///< the same with scatter: some options are not on the hull, some are dominated
  kScatter,     ///< no order at all
  kSingle,      ///< one option: fixed time
  kEqualTimes,  ///< options differ in energy only
  kLinear,      ///< collinear, with the same few slopes everywhere: as many ties as possible
  kExtreme,     ///< base times from 1e-6 s to 1e3 s in one problem
  kRising,      ///< the fastest option is also the cheapest
  kMixed,       ///< each entry draws one of the above
};
enum class Power : std::uint8_t { kNone, kUniform, kPerRank, kHuge };
enum class Lag : std::uint8_t { kNone, kUniform, kPerPair };

/// One problem in a few numbers. The defaults are the plainest problem.
struct ProblemRecipe {
  std::uint32_t ranks = 1;           ///< >= 1
  std::uint32_t virtual_stages = 1;  ///< >= 1
  std::uint32_t microbatches = 1;    ///< >= 1
  std::uint32_t options = 1;         ///< most options of one entry, 1 to 64
  std::uint32_t tensor = 1;          ///< >= 1
  Placement placement = Placement::kLoop;
  Order order = Order::kGpipe;
  Backward backward = Backward::kFull;
  Shape shape = Shape::kSmooth;
  Power power = Power::kNone;
  Lag lag = Lag::kNone;
  bool pairs = false;              ///< overlapped FB pairs, where two computations are ready together
  bool pair_rows = false;          ///< some of the pairs have forward_backward rows of their own
  bool recompute = false;          ///< R ahead of some backwards
  bool inserts = false;            ///< other instructions (kOther) at random places
  bool empty_first_input = false;  ///< the I of stage 0 has no rows, and half of them are absent
  bool first_weight_rows = true;   ///< the W of stage 0 has rows; false: takes those of backward
  bool knobs = false;              ///< a knob column with two values beside the clock
  bool full_doubles = false;  ///< false: times in multiples of 2^-10 s, energies of 1/8 J (except kExtreme)
  std::uint64_t seed = 0;     ///< of everything else

  friend bool operator==(const ProblemRecipe&, const ProblemRecipe&) = default;
};
/// The recipe as a C++ initialiser, to be pasted into a test.
std::ostream& operator<<(std::ostream& out, const ProblemRecipe& recipe);

/// Largest values that a random recipe may have.
struct RecipeLimits {
  std::uint32_t ranks = 4;
  std::uint32_t virtual_stages = 2;
  std::uint32_t microbatches = 5;
  std::uint32_t options = 8;
};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same numbers with every standard library.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// 0 .. bound-1; bound >= 1.
  std::uint32_t below(std::uint32_t bound);
  /// [low, high).
  double uniform(double low, double high);
  /// true with the given probability.
  bool chance(double probability) { return uniform(0, 1) < probability; }

 private:
  std::uint64_t state_;
};

/// A random recipe, uniform within the limits.
[[nodiscard]] ProblemRecipe recipe_from_seed(std::uint64_t seed, const RecipeLimits& limits = {});
/// The same from a fuzzer's bytes: every input gives a valid recipe; missing bytes count as 0.
[[nodiscard]] ProblemRecipe recipe_from_bytes(std::span<const std::uint8_t> bytes,
                                              const RecipeLimits& limits = {});

/// The per-rank orders alone: always valid (Pipeline::build accepts them).
[[nodiscard]] core::Schedule make_schedule(const ProblemRecipe& recipe);
/// The whole problem. Throws std::logic_error if core refuses it, which is a bug of the generator or of core.
[[nodiscard]] core::Problem make_problem(const ProblemRecipe& recipe);
/// Any valid choice of options.
[[nodiscard]] core::Choice random_choice(const core::Problem& problem, std::uint64_t seed);

}  // namespace perseus::tests
