// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/random_parts.h"

namespace perseus::tests {
namespace {

using core::Kind;
using core::Option;
using core::ProfileEntry;

constexpr std::uint32_t kTopClockMhz =
    1410;  // of an A100, NVIDIA data sheet; nothing in the tests rests on it
constexpr std::uint32_t kClockStepMhz = 15;

/// Draws the options of one entry.
class EntryMaker {
 public:
  EntryMaker(const ProblemRecipe& recipe, SplitMix& random) : recipe_(recipe), random_(random) {}

  std::vector<Option> options(double weight) {
    Shape shape = recipe_.shape;
    if (shape == Shape::kMixed) shape = static_cast<Shape>(random_.below(8));
    const std::uint32_t count = shape == Shape::kSingle ? 1 : 1 + random_.below(recipe_.options);
    base_ = shape == Shape::kExtreme ? std::pow(10.0, random_.uniform(-6, 3))
                                     : weight * 0.01 * random_.uniform(0.5, 2);
    slope_ = 128.0 * (1 + random_.below(3));
    // So that the quarter steps of kLinear stay on the grid and the points collinear.
    if (shape == Shape::kLinear) base_ = on_grid(shape, base_, 0x1p-8);
    std::vector<Option> list;
    for (std::uint32_t k = 0; k < count; ++k) list.push_back(option(shape, k));
    std::ranges::sort(list, [](const Option& a, const Option& b) {
      return std::tuple(b.clock, a.time, a.energy) < std::tuple(a.clock, b.time, b.energy);
    });
    return list;
  }

 private:
  Option option(Shape shape, std::uint32_t k) {
    const std::uint32_t step = recipe_.knobs ? k / 2 : k;
    const std::uint32_t mhz = kTopClockMhz - kClockStepMhz * step;
    Option o;
    o.clock = core::Megahertz(mhz);
    if (recipe_.knobs) o.knobs = {k % 2 == 0 ? "108" : "64"};
    const double f = mhz / double{kTopClockMhz};
    double time = base_ * (0.3 + 0.7 / f) * (recipe_.knobs && k % 2 != 0 ? 1.3 : 1.0);
    double energy = time * (70 + 330 * f * f * f);
    switch (shape) {
      case Shape::kNoisy:
        time *= random_.uniform(0.98, 1.02);
        energy *= random_.uniform(0.95, 1.05);
        break;
      case Shape::kScatter:
        time = base_ * random_.uniform(0.5, 2);
        energy = random_.uniform(0.5, 10);
        break;
      case Shape::kEqualTimes:
        time = base_;
        energy = random_.uniform(1, 10);
        break;
      case Shape::kLinear:
        time = base_ * (1 + 0.25 * k);
        energy = 400 - slope_ * base_ * 0.25 * k;
        break;
      case Shape::kRising:
        energy = time * 400;
        break;
      case Shape::kSmooth:
      case Shape::kSingle:
      case Shape::kExtreme:
      case Shape::kMixed:
        break;
    }
    o.time = core::Seconds(on_grid(shape, time, 0x1p-10));
    o.energy = core::Joules(on_grid(shape, energy, 0x1p-3));
    return o;
  }

  [[nodiscard]] double on_grid(Shape shape, double value, double step) const {
    if (recipe_.full_doubles || shape == Shape::kExtreme) return value;
    return std::max(1.0, std::round(value / step)) * step;
  }

  const ProblemRecipe& recipe_;
  SplitMix& random_;
  double base_ = 0;
  double slope_ = 0;
};

}  // namespace

core::Profile make_profile(const ProblemRecipe& recipe, const core::Schedule& schedule) {
  SplitMix random(recipe.seed ^ 0x5851f42d4c957f2d);
  EntryMaker maker(recipe, random);
  core::Profile profile;
  if (recipe.knobs) profile.knob_names = {"sms"};
  const auto add = [&](std::uint32_t stage, std::string_view instruction, double weight,
                       std::optional<std::uint32_t> stage_b = std::nullopt) {
    profile.entries.push_back({stage, std::string(instruction), stage_b, maker.options(weight)});
  };
  for (std::uint32_t s = 0; s < schedule.stages(); ++s) {
    add(s, "forward", 1);
    add(s, "backward", 2);
    if (s != 0 || !recipe.empty_first_input) add(s, "backward_input", 1);
    if (s != 0 || recipe.first_weight_rows) add(s, "backward_weight", 1);
    if (recipe.recompute) add(s, "recompute", 1);
    for (const std::string& name : schedule.instructions) add(s, name, 0.5);
  }
  if (recipe.pair_rows) {
    std::set<std::pair<std::uint32_t, std::uint32_t>> pairs;
    for (const auto& rank : schedule.ranks) {
      for (const auto& c : rank) {
        if (c.kind == Kind::kForwardBackward) pairs.emplace(c.stage, c.stage_b);
      }
    }
    for (const auto& [f, b] : pairs) {
      if (random.chance(0.5)) add(f, core::instruction_name(Kind::kForwardBackward), 2.5, b);
    }
  }
  std::ranges::sort(profile.entries, [](const ProfileEntry& a, const ProfileEntry& b) {
    return std::tie(a.stage, a.instruction, a.stage_b) < std::tie(b.stage, b.instruction, b.stage_b);
  });
  return profile;
}

}  // namespace perseus::tests
