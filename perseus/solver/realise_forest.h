// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: local search in very large neighbourhoods. The times of all events but a forest are
// held; those of the forest, half of all and more, are chosen together by dynamic programming over a grid of
// times around the present ones.
//
// Most of what a rounded plan loses is idling where paths join, and whether two paths meet depends on the
// rungs of many computations at once. With times as variables that coupling is one of neighbours only: the
// cost of a computation is a step function of the time between its start and its end. Present times are on
// the grid, so that the best choice of a forest is never worse than the present one. Noise on the costs,
// drawn anew for every forest and fading from round to round, leads out of choices that no forest improves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "perseus/solver/realise_events.h"
#include "perseus/solver/realise_flat.h"

namespace perseus::solver::internal {

/// Reproducible random numbers (splitmix64: Steele, Lea and Flood 2014). Not for secrets.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  /// 0 to below n; n >= 1 and far below 2^32.
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(((bits() >> 32) * n) >> 32); }
  /// Mean 0, standard deviation 1, between -3.5 and 3.5.
  float noise() {
    const std::uint64_t b = bits();
    const std::uint64_t sum = (b & 0xFFFF) + ((b >> 16) & 0xFFFF) + ((b >> 32) & 0xFFFF) + (b >> 48);
    return (static_cast<float>(sum) - 131070.0F) / 37837.0F;
  }

 private:
  std::uint64_t state_;
};

/// The search of one problem.
class ForestSearch {
 public:
  /// `flat` must outlive the object; `rungs` must end by its target in ticks.
  ForestSearch(const FlatProblem& flat, const Rungs& rungs, std::uint64_t seed);

  /// Starts from another choice.
  void reset(const Rungs& rungs);
  /// Chooses one random forest and its best times on a grid of `step` ticks; `noise` in J.
  void sweep(Ticks step, double noise);
  /// The present choice: per computation the slowest rung that fits. It ends by the target in ticks.
  [[nodiscard]] Rungs rungs() const;
  /// Cells of the grid looked at so far: the work done.
  [[nodiscard]] std::uint64_t work() const { return work_; }

  /// Points of the grid per event.
  static constexpr int kGrid = 256;

 private:
  static constexpr int kMiddle = kGrid / 2;
  static constexpr std::uint32_t kNoArc = static_cast<std::uint32_t>(-1);
  /// One number, J, per grid point of an event.
  struct Row {
    alignas(64) float at[kGrid];  // NOLINT(*-avoid-c-arrays): indexed by int, in loops that must vectorise
    void fill(float value) { std::fill_n(at, kGrid, value); }
  };
  /// One step of an arc's cost: it applies where the arc's gap is at least `shift` grid steps larger than
  /// now.
  struct Stair {
    int shift = 0;
    float cost = 0;  ///< J, less that of the present rung
  };

  /// Calls `f(arc, other end)` for the arcs of v that are not loose.
  template <class F>
  void for_each_neighbour(Event v, F f) const {
    for (std::uint32_t k = graph_.first(v); k < graph_.first(v + 1); ++k) {
      const std::uint32_t a = graph_.incident()[k];
      const EventArc& arc = graph_.arcs()[a];
      if (!loose_[a]) f(a, arc.from == v ? arc.to : arc.from);
    }
  }

  void build_stairs(std::uint32_t arc);
  void choose_forest();
  void order_trees();
  [[nodiscard]] std::span<const Stair> stairs(std::uint32_t arc) const {
    return {stairs_.data() + stairs_first_[arc], stairs_.data() + stairs_first_[arc] + stairs_count_[arc]};
  }
  /// Adds what an arc to an event that is held costs, or to a child with its subtree.
  void add_held(std::uint32_t arc, bool enters, Row& row);
  void add_child(std::uint32_t arc, Event child, Row& row);
  void finish(Event v);
  [[nodiscard]] int best_below(Event v, std::uint32_t up) const;
  void backtrack();

  const FlatProblem& flat_;
  EventGraph graph_;
  std::vector<Ticks> time_;  ///< by event
  Random random_;
  std::uint64_t work_ = 0;

  // Of the present sweep.
  Ticks step_ = 1;
  float noise_ = 0;
  std::vector<char> loose_;                ///< by arc: it cannot matter within the grid
  std::vector<std::uint32_t> component_;   ///< by event, union-find of the forest
  std::vector<char> free_;                 ///< by event: in the forest
  std::vector<std::uint32_t> parent_arc_;  ///< by event: towards the tree's root
  std::vector<Event> order_;               ///< free events, parents before children
  std::vector<std::uint32_t> stairs_first_, stairs_count_;
  std::vector<Stair> stairs_;
  std::vector<Row> rows_;    ///< by event: least cost of its subtree, then monotone towards the parent
  std::vector<int> chosen_;  ///< by event: grid point
  std::vector<Event> shuffled_;
  std::vector<char> reached_;
};

}  // namespace perseus::solver::internal
