// SPDX-License-Identifier: Apache-2.0
//
// Random valid per-rank orders: all ranks together run the iteration in some random interleaving; what a rank
// runs in turn is its order, so no order can deadlock.
#include <algorithm>
#include <optional>
#include <vector>

#include "tests/support/random_problem.h"

namespace perseus::tests {
namespace {

using core::Computation;
using core::Kind;

/// One (stage, microbatch): which parts there are and which are done.
struct Cell {
  bool split = false;
  bool recompute = false;
  bool has_input = true;  ///< split only; false: the absent I of stage 0
  bool f = false, r = false, b = false, i = false, w = false;

  [[nodiscard]] bool gradient_done() const { return split ? i : b; }
};

class Interleaver {
 public:
  explicit Interleaver(const ProblemRecipe& recipe)
      : recipe_(recipe), random_(recipe.seed), stages_(recipe.ranks * recipe.virtual_stages) {
    schedule_.name = "random";
    schedule_.microbatches = recipe.microbatches;
    schedule_.virtual_stages = recipe.virtual_stages;
    schedule_.ranks.resize(recipe.ranks);
    place_stages();
    cells_.resize(std::size_t{stages_} * recipe.microbatches);
    for (std::uint32_t s = 0; s < stages_; ++s) {
      for (std::uint32_t m = 0; m < recipe.microbatches; ++m) draw_cell(s, m);
    }
  }

  core::Schedule run() {
    while (step(true) || step(false)) {
    }
    if (recipe_.inserts) insert_others();
    return std::move(schedule_);
  }

 private:
  Cell& cell(std::uint32_t s, std::uint32_t m) { return cells_[std::size_t{s} * recipe_.microbatches + m]; }

  void place_stages() {
    for (std::uint32_t s = 0; s < stages_; ++s) {
      const std::uint32_t turn = s / recipe_.ranks;
      const std::uint32_t loop = s % recipe_.ranks;
      switch (recipe_.placement) {
        case Placement::kVee:
          rank_of_stage_.push_back(turn % 2 == 0 ? loop : recipe_.ranks - 1 - loop);
          break;
        case Placement::kBlocks:
          rank_of_stage_.push_back(s / recipe_.virtual_stages);
          break;
        case Placement::kLoop:
        case Placement::kShuffled:
          rank_of_stage_.push_back(loop);
          break;
      }
    }
    if (recipe_.placement != Placement::kShuffled) return;
    for (std::uint32_t s = stages_; s > 1; --s)
      std::swap(rank_of_stage_[s - 1], rank_of_stage_[random_.below(s)]);
  }

  void draw_cell(std::uint32_t s, std::uint32_t m) {
    Cell& c = cell(s, m);
    c.split =
        recipe_.backward == Backward::kSplit || (recipe_.backward == Backward::kMixed && random_.chance(0.5));
    c.recompute = recipe_.recompute && random_.chance(0.5);
    c.has_input = !(s == 0 && recipe_.empty_first_input && random_.chance(0.5));
    if (c.split && !c.has_input) c.i = true;
    if (!c.recompute) c.r = true;
  }

  /// What waits for the gradient of the stage after may run now.
  bool gradient_arrived(std::uint32_t s, std::uint32_t m) {
    const Cell& c = cell(s, m);
    return c.f && c.r && (s + 1 == stages_ || cell(s + 1, m).gradient_done());
  }

  std::vector<Computation> ready(std::uint32_t rank) {
    std::vector<Computation> list;
    for (std::uint32_t s = 0; s < stages_; ++s) {
      if (rank_of_stage_[s] != rank) continue;
      for (std::uint32_t m = 0; m < recipe_.microbatches; ++m) add_ready(s, m, list);
    }
    return list;
  }

  void add_ready(std::uint32_t s, std::uint32_t m, std::vector<Computation>& list) {
    const Cell& c = cell(s, m);
    const auto add = [&](Kind kind) { list.push_back({.kind = kind, .stage = s, .microbatch = m}); };
    if (!c.f && (s == 0 || cell(s - 1, m).f)) add(Kind::kForward);
    if (c.f && !c.r) add(Kind::kRecompute);
    const bool arrived = gradient_arrived(s, m);
    if (!c.split && !c.b && arrived) add(Kind::kBackward);
    if (c.split && !c.i && arrived) add(Kind::kBackwardInput);
    if (c.split && !c.w && c.i && arrived) add(Kind::kBackwardWeight);
  }

  /// How much a rank wants a computation; negative: it would rather wait.
  int wish(std::uint32_t rank, const Computation& c) {
    const bool forward = c.kind == Kind::kForward;
    const auto m = static_cast<int>(c.microbatch);
    switch (recipe_.order) {
      case Order::kGpipe:
        return (forward ? 2000 : c.kind == Kind::kBackwardWeight ? 0 : 1000) - m;
      case Order::kOneFOneB: {
        if (c.kind == Kind::kBackwardWeight) return 0;
        const std::uint32_t warm_up = recipe_.ranks * recipe_.virtual_stages - rank;
        const bool full = in_flight(rank) >= warm_up;
        return forward == full ? -1 - m : 1000 - m;
      }
      case Order::kRandom:
        return static_cast<int>(random_.below(1000));
      case Order::kLastIn:
        return m;
    }
    return 0;
  }

  /// Microbatches on a rank whose forward is done and whose gradient is not handed on. All forwards done
  /// counts as full: nothing but backwards is left.
  std::uint32_t in_flight(std::uint32_t rank) {
    std::uint32_t count = 0;
    bool forwards_left = false;
    for (std::uint32_t s = 0; s < stages_; ++s) {
      if (rank_of_stage_[s] != rank) continue;
      for (std::uint32_t m = 0; m < recipe_.microbatches; ++m) {
        const Cell& c = cell(s, m);
        count += c.f && !c.gradient_done() ? 1u : 0u;
        forwards_left = forwards_left || !c.f;
      }
    }
    return forwards_left ? count : recipe_.ranks * recipe_.virtual_stages;
  }

  /// Runs one computation on a random rank that has one it wishes (`choosy`) or any at all; false if none
  /// has.
  bool step(bool choosy) {
    const std::uint32_t first = random_.below(recipe_.ranks);
    for (std::uint32_t k = 0; k < recipe_.ranks; ++k) {
      const std::uint32_t rank = (first + k) % recipe_.ranks;
      std::optional<Computation> best;
      int best_wish = 0;
      const auto list = ready(rank);
      for (const Computation& c : list) {
        const int w = wish(rank, c);
        if ((choosy && w < 0) || (best && w <= best_wish)) continue;
        best = c;
        best_wish = w;
      }
      if (!best) continue;
      execute(rank, pair_up(*best, list));
      return true;
    }
    return false;
  }

  /// An FB of two computations that are ready together, where the recipe wants one.
  Computation pair_up(Computation c, const std::vector<Computation>& list) {
    const bool whole = c.kind == Kind::kForward || c.kind == Kind::kBackward;
    if (!recipe_.pairs || !whole || random_.chance(0.3)) return c;
    const Kind other = c.kind == Kind::kForward ? Kind::kBackward : Kind::kForward;
    for (const Computation& d : list) {
      if (d.kind != other) continue;
      const Computation& f = c.kind == Kind::kForward ? c : d;
      const Computation& b = c.kind == Kind::kForward ? d : c;
      return {.kind = Kind::kForwardBackward,
              .stage = f.stage,
              .microbatch = f.microbatch,
              .stage_b = b.stage,
              .microbatch_b = b.microbatch};
    }
    return c;
  }

  void execute(std::uint32_t rank, const Computation& c) {
    Cell& own = cell(c.stage, c.microbatch);
    switch (c.kind) {
      case Kind::kForward:
        own.f = true;
        break;
      case Kind::kRecompute:
        own.r = true;
        break;
      case Kind::kBackward:
        own.b = true;
        break;
      case Kind::kBackwardInput:
        own.i = true;
        break;
      case Kind::kBackwardWeight:
        own.w = true;
        break;
      case Kind::kForwardBackward:
        own.f = true;
        cell(c.stage_b, c.microbatch_b).b = true;
        break;
      case Kind::kOther:
        break;
    }
    schedule_.ranks[rank].push_back(c);
  }

  void insert_others() {
    schedule_.instructions = {"load", "allreduce"};
    for (std::uint32_t s = 0; s < stages_; ++s) {
      auto& order = schedule_.ranks[rank_of_stage_[s]];
      for (std::uint32_t k = 0; k < 2; ++k) {
        if (random_.chance(0.5)) continue;
        const std::uint32_t at = random_.below(static_cast<std::uint32_t>(order.size()) + 1);
        order.insert(order.begin() + at, Computation{.kind = Kind::kOther, .stage = s, .instruction = k});
      }
    }
  }

  const ProblemRecipe& recipe_;
  SplitMix random_;
  std::uint32_t stages_;
  std::vector<std::uint32_t> rank_of_stage_;
  std::vector<Cell> cells_;
  core::Schedule schedule_;
};

}  // namespace

core::Schedule make_schedule(const ProblemRecipe& recipe) {
  return Interleaver(recipe).run();
}

}  // namespace perseus::tests
