// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_search.h"

#include <algorithm>
#include <array>

namespace perseus::solver::internal {
namespace {

/// Units of one partial choice looked at, and of one longest path recomputed (bench/realise_bench: 40 and 20
/// ns).
constexpr std::uint64_t kBeamUnits = 40;
constexpr std::uint64_t kPathUnits = 25;
constexpr std::uint32_t kMostFaster = 3;

/// One exchange after the other on the same paths; keeps its memory.
class Exchanger {
 public:
  Exchanger(const FlatProblem& flat, LongestPaths& paths)
      : flat_(flat), paths_(paths), stamp_(flat.size, 0) {}

  /// Makes p faster by `steps` rungs and spends the slack; undone and false unless that costs less.
  bool attempt(Position p, std::uint32_t steps) {
    undo_.clear();
    candidates_.clear();
    ++now_;
    double cost = set(p, paths_.rungs()[p] - steps);
    for (Move best = best_move(p); best.saving > 0; best = best_move(p))
      cost += set(best.position, best.rung);
    // Costs of one exchange are a few Joules: less than this is rounding.
    if (cost < -1e-9) return true;
    while (!undo_.empty()) {
      paths_.set_rung(undo_.back().first, undo_.back().second);
      undo_.pop_back();
    }
    return false;
  }

 private:
  struct Move {
    double saving = 0;
    Position position = 0;
    std::uint32_t rung = 0;
  };

  /// The largest saving that fits among the computations that the exchange has touched.
  [[nodiscard]] Move best_move(Position except) const {
    Move best;
    for (const Position p : candidates_) {
      const Ticks slack = paths_.slack(p);
      if (p == except || slack <= 0) continue;
      const std::uint32_t rung = paths_.rungs()[p];
      const std::uint32_t slower = slowest_rung(flat_, p, flat_.time[rung] + slack);
      const double saving = flat_.cost[rung] - flat_.cost[slower];
      if (saving > best.saving) best = {saving, p, slower};
    }
    return best;
  }

  double set(Position p, std::uint32_t rung) {
    const std::uint32_t before = paths_.rungs()[p];
    undo_.emplace_back(p, before);
    paths_.set_rung(p, rung);
    for (const Position q : paths_.touched()) {
      if (stamp_[q] == now_) continue;
      stamp_[q] = now_;
      candidates_.push_back(q);
    }
    return flat_.cost[rung] - flat_.cost[before];
  }

  const FlatProblem& flat_;
  LongestPaths& paths_;
  std::vector<std::pair<Position, std::uint32_t>> undo_;
  std::vector<Position> candidates_;
  std::vector<std::uint32_t> stamp_;
  std::uint32_t now_ = 0;
};

/// One beam run of the polishing.
struct Stage {
  std::uint32_t width;
  std::uint32_t rungs;
  double drift;
};

/// Widths grow, so that any budget is spent on searches of its own size; drifts alternate because none is
/// best for every profile (bench/results/realise_gap.md).
constexpr std::array kStages = {
    Stage{8, 6, 0.1},     Stage{32, 6, 0.05},    Stage{64, 8, 0.1},   Stage{64, 6, 0.03},
    Stage{256, 8, 0.1},   Stage{256, 6, 0.05},   Stage{512, 8, 0.03}, Stage{1024, 8, 0.05},
    Stage{2048, 8, 0.03}, Stage{4096, 10, 0.03},
};

/// Most memory of the beam's record, entries of 8 bytes.
constexpr std::uint64_t kMostTrace = std::uint64_t{1} << 24;

}  // namespace

void exchange(const FlatProblem& flat, LongestPaths& paths, Budget& budget) {
  Exchanger exchanger(flat, paths);
  std::uint64_t seen = paths.work();
  // Ends when every position was tried in vain since the last success.
  for (Position p = 0, vain = 0; vain < flat.size; p = (p + 1) % flat.size) {
    ++vain;
    for (std::uint32_t steps = 1; steps <= kMostFaster; ++steps) {
      if (paths.rungs()[p] - flat.ladder(p).first < steps) break;
      if (exchanger.attempt(p, steps)) vain = 0;
      if (!budget.take(kPathUnits * (paths.work() - seen))) return;
      seen = paths.work();
    }
  }
}

void polish(const FlatProblem& flat, Beam& beam, Rungs& rungs, Budget budget) {
  double least = objective(flat, rungs);
  const auto consider = [&](Rungs start) {
    LongestPaths paths(flat, std::move(start));
    spend_slack(flat, paths);
    exchange(flat, paths, budget);
    Rungs found = paths.rungs();
    repair(flat, found);
    const double cost = objective(flat, found);
    if (cost >= least) return;
    least = cost;
    rungs = std::move(found);
  };
  consider(rungs);
  for (const Stage& stage : kStages) {
    if (std::uint64_t{stage.width} * flat.size > kMostTrace) return;
    const std::uint64_t before = beam.work();
    Rungs found = beam.run({.width = stage.width,
                            .rungs = stage.rungs,
                            .drift = stage.drift,
                            .work_limit = budget.left / kBeamUnits});
    if (found.empty() || !budget.take(kBeamUnits * (beam.work() - before))) return;
    consider(std::move(found));
  }
}

}  // namespace perseus::solver::internal
