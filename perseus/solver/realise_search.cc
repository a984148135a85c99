// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_search.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "perseus/solver/realise_forest.h"

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

/// Drifts alternate because none is best for every profile. Wider beams gain less than forests do with the
/// same work (bench/results/realise_gap.md).
constexpr std::array kStages = {Stage{8, 6, 0.1}, Stage{32, 6, 0.05}, Stage{64, 8, 0.1}};

/// Most memory of the beam's record, entries of 8 bytes.
constexpr std::uint64_t kMostTrace = std::uint64_t{1} << 24;

/// Units of 16 cells of a forest's grid, with all else that a sweep does (bench/realise_gap: 6 ns).
constexpr std::uint64_t kCellUnits = 6;
/// Most events: each takes 1 KiB in a forest search.
constexpr std::uint32_t kMostEvents = std::uint32_t{1} << 18;
/// Grid points per clock step: 256 points then span two clock steps either way. Half as many lose more by
/// rounding, twice as many see too little (measured: bench/results/realise_gap.md).
constexpr Ticks kPointsPerStep = 64;
/// Noise of the first and the last sweep of a round, as a share of what a clock step of idling costs on
/// average.
constexpr double kFirstNoise = 0.08;
constexpr double kLastNoise = 0.003;
/// Share of a round that is swept with noise; the rest goes straight downhill.
constexpr double kNoisyShare = 0.9;
/// Sweeps of the first round; each round after it has twice as many as the one before, so that the noise
/// fades ever more slowly.
constexpr std::uint32_t kFirstRound = 64;
constexpr std::uint32_t kMostRound = std::uint32_t{1} << 30;
/// A round's choice is looked at every so many sweeps.
constexpr std::uint32_t kSweepsPerLook = 16;

/// Means over the computations that have a choice.
struct ClockStep {
  Ticks time = 0;    ///< from the present rung to the next slower one
  double price = 0;  ///< of idling so long, J
};

ClockStep mean_clock_step(const FlatProblem& flat, const Rungs& rungs) {
  double time = 0;
  double price = 0;
  double count = 0;
  for (Position p = 0; p < flat.size; ++p) {
    const Ladder& ladder = flat.ladder(p);
    if (ladder.count == 1) continue;
    const std::uint32_t r = std::min(rungs[p], ladder.first + ladder.count - 2);
    const auto step = static_cast<double>(flat.time[r + 1] - flat.time[r]);
    time += step;
    price += flat.flow[p] * std::ldexp(step, flat.tick_exponent);
    ++count;
  }
  if (count == 0) return {};
  return {static_cast<Ticks>(time / count), price / count};
}

/// Keeps the best choice that any search comes upon.
class Polisher {
 public:
  Polisher(const FlatProblem& flat, Rungs& best, Budget budget)
      : flat_(flat), best_(best), least_(objective(flat, best)), budget_(budget) {}

  /// Exchanges from a choice that ends by the target in ticks.
  void consider(Rungs start) {
    LongestPaths paths(flat_, std::move(start));
    spend_slack(flat_, paths);
    exchange(flat_, paths, budget_);
    Rungs found = paths.rungs();
    repair(flat_, found);
    const double cost = objective(flat_, found);
    if (cost >= least_) return;
    least_ = cost;
    best_ = std::move(found);
  }

  /// False once the budget is spent.
  bool widen(Beam& beam, const Stage& stage) {
    if (std::uint64_t{stage.width} * flat_.size > kMostTrace) return true;
    const std::uint64_t before = beam.work();
    Rungs found = beam.run({.width = stage.width,
                            .rungs = stage.rungs,
                            .drift = stage.drift,
                            .work_limit = budget_.left / kBeamUnits});
    if (found.empty() || !budget_.take(kBeamUnits * (beam.work() - before))) return false;
    consider(std::move(found));
    return true;
  }

  /// Rounds of forests, from the best choice each, until the budget is spent.
  void grow_forests() {
    const ClockStep clock = mean_clock_step(flat_, best_);
    // Every start and end is an event at most, beside the two ends of time.
    if (clock.time == 0 || 2 * std::uint64_t{flat_.size} + 2 > kMostEvents) return;
    ForestSearch search(flat_, best_, kSeed);
    for (std::uint32_t sweeps = kFirstRound; sweeps <= kMostRound; sweeps *= 2) {
      search.reset(best_);
      if (!round(search, clock, sweeps)) return;
    }
  }

 private:
  static constexpr std::uint64_t kSeed = 1;

  bool round(ForestSearch& search, const ClockStep& clock, std::uint32_t sweeps) {
    const double noisy = kNoisyShare * sweeps;
    for (std::uint32_t k = 0; k < sweeps; ++k) {
      const double fade = std::pow(kLastNoise / kFirstNoise, k / noisy);
      const std::uint64_t before = search.work();
      search.sweep(std::max<Ticks>(clock.time / kPointsPerStep, 1),
                   k < noisy ? clock.price * kFirstNoise * fade : 0);
      if (!budget_.take(kCellUnits * (search.work() - before) / 16)) return false;
      if (k + 1 == sweeps || (k % kSweepsPerLook == 0 && cost_of(search) < least_)) consider(search.rungs());
    }
    return true;
  }
  [[nodiscard]] double cost_of(const ForestSearch& search) const { return objective(flat_, search.rungs()); }

  const FlatProblem& flat_;
  Rungs& best_;
  double least_;
  Budget budget_;
};

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
  Polisher polisher(flat, rungs, budget);
  polisher.consider(rungs);
  for (const Stage& stage : kStages) {
    if (!polisher.widen(beam, stage)) return;
  }
  polisher.grow_forests();
}

}  // namespace perseus::solver::internal
