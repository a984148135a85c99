// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_forest.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace perseus::solver::internal {
namespace {

constexpr float kNever = 1e30F;  ///< cost of what is not allowed, J; sums of it stay finite
/// Cost of a whole grid of delay, as a share of the noise: too little to change a rung (assumed).
constexpr float kSlope = 0.01F;
/// Work beside that on the grid: per arc, and per event of the forest, in cells and rows of it (assumed).
constexpr std::uint64_t kArcCells = 64;
constexpr int kEventRows = 2;
constexpr float kQuietSlope = 1e-4F;  ///< stands in for the noise where there is none, J

Ticks ceil_divide(Ticks a, Ticks b) {  // b > 0
  return a / b + (a % b > 0 ? 1 : 0);
}

}  // namespace

ForestSearch::ForestSearch(const FlatProblem& flat, const Rungs& rungs, std::uint64_t seed)
    : flat_(flat),
      graph_(flat),
      random_(seed),
      loose_(graph_.arcs().size()),
      component_(graph_.size()),
      free_(graph_.size()),
      parent_arc_(graph_.size()),
      stairs_first_(graph_.arcs().size()),
      stairs_count_(graph_.arcs().size()),
      rows_(graph_.size()),
      chosen_(graph_.size()),
      shuffled_(graph_.size() - 2),
      reached_(graph_.size()) {
  std::iota(shuffled_.begin(), shuffled_.end(), EventGraph::kSink + 1);
  reset(rungs);
}

void ForestSearch::reset(const Rungs& rungs) {
  time_ = event_times(flat_, graph_, rungs);
}

Rungs ForestSearch::rungs() const {
  Rungs result(flat_.size);
  for (Position p = 0; p < flat_.size; ++p) {
    result[p] = slowest_rung(flat_, p, time_[graph_.end_of(p)] - time_[graph_.start_of(p)]);
  }
  return result;
}

void ForestSearch::build_stairs(std::uint32_t a) {
  const EventArc& arc = graph_.arcs()[a];
  const Ticks gap = time_[arc.to] - time_[arc.from];
  const Ticks reach = kGrid * step_;
  stairs_first_[a] = static_cast<std::uint32_t>(stairs_.size());
  if (arc.computation == EventArc::kLagOnly) {
    loose_[a] = static_cast<char>(arc.lag <= gap - reach);
    if (loose_[a] == 0) stairs_.push_back({static_cast<int>(ceil_divide(arc.lag - gap, step_)), 0});
  } else {
    const std::uint32_t now = slowest_rung(flat_, arc.computation, gap);
    const std::uint32_t last = slowest_rung(flat_, arc.computation, gap + reach);
    std::uint32_t r = slowest_rung(flat_, arc.computation, gap - reach);
    loose_[a] = static_cast<char>(r == last && flat_.time[r] <= gap - reach);
    for (; r <= last && loose_[a] == 0; ++r) {
      const Ticks shift = std::max<Ticks>(ceil_divide(flat_.time[r] - gap, step_), -kGrid);
      const float noise = noise_ > 0 ? noise_ * random_.noise() : 0;
      stairs_.push_back(
          {static_cast<int>(shift), static_cast<float>(flat_.cost[r] - flat_.cost[now]) + noise});
    }
  }
  stairs_count_[a] = static_cast<std::uint32_t>(stairs_.size()) - stairs_first_[a];
}

void ForestSearch::choose_forest() {
  std::ranges::fill(free_, false);
  std::iota(component_.begin(), component_.end(), 0U);
  const auto find = [&](Event v) {
    while (component_[v] != v) v = component_[v] = component_[component_[v]];
    return v;
  };
  for (auto k = static_cast<std::uint32_t>(shuffled_.size()); k > 1; --k) {
    std::swap(shuffled_[k - 1], shuffled_[random_.below(k)]);
  }
  std::vector<Event> trees;
  for (const Event v : shuffled_) {
    trees.clear();
    bool cycle = false;
    for_each_neighbour(v, [&](std::uint32_t, Event other) {
      if (!free_[other]) return;
      trees.push_back(find(other));
      cycle = cycle || std::ranges::count(trees, trees.back()) > 1;
    });
    if (cycle) continue;
    free_[v] = true;
    for (const Event tree : trees) component_[tree] = v;
  }
}

void ForestSearch::order_trees() {
  order_.clear();
  std::ranges::fill(parent_arc_, kNoArc);
  std::ranges::fill(reached_, false);
  for (const Event root : shuffled_) {
    if (!free_[root] || reached_[root]) continue;
    std::size_t at = order_.size();
    order_.push_back(root);
    for (reached_[root] = true; at < order_.size(); ++at) {
      for_each_neighbour(order_[at], [&](std::uint32_t arc, Event other) {
        if (!free_[other] || reached_[other]) return;
        reached_[other] = true;
        parent_arc_[other] = arc;
        order_.push_back(other);
      });
    }
  }
}

void ForestSearch::add_held(std::uint32_t a, bool enters, Row& row) {
  Row cost;
  cost.fill(kNever);
  for (const Stair& s : stairs(a)) {
    const int bound = std::clamp(enters ? kMiddle + s.shift : kMiddle - s.shift + 1, 0, kGrid);
    if (enters) {
      for (int m = bound; m < kGrid; ++m) cost.at[m] = std::min(cost.at[m], s.cost);
    } else {
      for (int m = 0; m < bound; ++m) cost.at[m] = std::min(cost.at[m], s.cost);
    }
  }
  for (int m = 0; m < kGrid; ++m) row.at[m] += cost.at[m];
}

void ForestSearch::add_child(std::uint32_t a, Event child, Row& row) {
  const bool leaves_child = graph_.arcs()[a].from == child;
  const Row& below = rows_[child];
  alignas(64) float wide[3 * kGrid];
  std::fill_n(wide, kGrid, leaves_child ? kNever : below.at[0]);
  std::ranges::copy(below.at, wide + kGrid);
  std::fill_n(wide + 2 * kGrid, kGrid, leaves_child ? below.at[kGrid - 1] : kNever);
  Row best;
  best.fill(kNever);
  for (const Stair& s : stairs(a)) {
    const float* shifted = wide + kGrid + (leaves_child ? -s.shift : s.shift);
    for (int m = 0; m < kGrid; ++m) best.at[m] = std::min(best.at[m], shifted[m] + s.cost);
  }
  for (int m = 0; m < kGrid; ++m) row.at[m] += best.at[m];
}

void ForestSearch::finish(Event v) {
  Row& row = rows_[v];
  // A slight slope decides between times that cost the same, each way as often as the other.
  const float slope = (noise_ > 0 ? noise_ : kQuietSlope) * random_.noise() * (kSlope / kGrid);
  for (int m = 0; m < kGrid; ++m) row.at[m] = slope * static_cast<float>(m - kMiddle);
  for_each_neighbour(v, [&](std::uint32_t arc, Event other) {
    if (arc == parent_arc_[v]) return;
    if (free_[other]) {
      add_child(arc, other, row);
    } else {
      add_held(arc, graph_.arcs()[arc].to == v, row);
    }
    work_ += std::uint64_t{stairs_count_[arc]} * kGrid;
  });
  const std::uint32_t up = parent_arc_[v];
  if (up == kNoArc) return;
  if (graph_.arcs()[up].from == v) {
    for (int m = 1; m < kGrid; ++m) row.at[m] = std::min(row.at[m], row.at[m - 1]);
  } else {
    for (int m = kGrid - 1; m-- > 0;) row.at[m] = std::min(row.at[m], row.at[m + 1]);
  }
}

int ForestSearch::best_below(Event v, std::uint32_t up) const {
  const Row& row = rows_[v];
  const EventArc& arc = graph_.arcs()[up];
  const bool before = arc.from == v;
  const int parent = chosen_[before ? arc.to : arc.from];
  float least = std::numeric_limits<float>::max();
  int best = kMiddle;
  for (const Stair& s : stairs(up)) {
    const int m = before ? parent - s.shift : parent + s.shift;
    if (before ? m < 0 : m >= kGrid) continue;
    const int inside = std::clamp(m, 0, kGrid - 1);
    if (row.at[inside] + s.cost >= least) continue;
    least = row.at[inside] + s.cost;
    best = inside;
  }
  // The row is monotone: back to where its least was reached.
  const int back = before ? -1 : 1;
  while (best + back >= 0 && best + back < kGrid && row.at[best + back] == row.at[best]) best += back;
  return best;
}

void ForestSearch::backtrack() {
  for (const Event v : order_) {
    const std::uint32_t up = parent_arc_[v];
    const Row& row = rows_[v];
    chosen_[v] =
        up == kNoArc ? static_cast<int>(std::ranges::min_element(row.at) - row.at) : best_below(v, up);
  }
  for (const Event v : order_) time_[v] += (chosen_[v] - kMiddle) * step_;
}

void ForestSearch::sweep(Ticks step, double noise) {
  step_ = step;
  noise_ = static_cast<float>(noise);
  stairs_.clear();
  for (std::uint32_t a = 0; a < graph_.arcs().size(); ++a) build_stairs(a);
  choose_forest();
  order_trees();
  work_ += kArcCells * graph_.arcs().size() + std::uint64_t{kEventRows * kGrid} * order_.size();
  for (std::size_t k = order_.size(); k-- > 0;) finish(order_[k]);
  backtrack();
}

}  // namespace perseus::solver::internal
