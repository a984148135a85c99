// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_guide.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "perseus/solver/realise_slack.h"

namespace perseus::solver::internal {
namespace {

/// How late a computation may end against the relaxed optimum, as a share of the mean duration (measured:
/// bench/realise_gap; half and twice of it do as well).
constexpr double kLeeway = 0.06;
/// The leeway shrinks towards the end so that this share of the time that is left makes it up (assumed).
constexpr double kCatchUp = 0.005;
/// Rungs looked at on either side of the centre (bench/realise_gap: 4 lose 10 % on noisy profiles, more gain
/// nothing).
constexpr std::uint32_t kReach = 4;

/// Slowest rung of p within `limit`, looked for from `hint` on: equal computations have near durations.
std::uint32_t rung_near(const FlatProblem& flat, const Ladder& ladder, Ticks limit, std::uint32_t hint) {
  while (hint + 1 < ladder.first + ladder.count && flat.time[hint + 1] <= limit) ++hint;
  while (hint > ladder.first && flat.time[hint] > limit) --hint;
  return hint;
}

/// Fills in the centres and answers the relaxed durations in our ticks. One within two of the solver's ticks
/// of an option is that option: rounding of times to ticks must not cost a clock step.
std::vector<Ticks> find_centres(const FlatProblem& flat, const Relaxed& relaxed, Guide& guide) {
  const double scale = std::ldexp(1.0, relaxed.tick_exponent - flat.tick_exponent);
  const double rounding = 2 * scale + 2;
  const auto most = static_cast<double>(flat.target);
  std::vector<std::uint32_t> hint;
  hint.reserve(flat.ladders.size());
  for (const Ladder& ladder : flat.ladders) hint.push_back(ladder.first);
  std::vector<Ticks> duration(flat.size);
  guide.centre.resize(flat.size);
  for (Position p = 0; p < flat.size; ++p) {
    const double ticks = scale * static_cast<double>(relaxed.duration[flat.id[p]]);
    std::uint32_t& rung = hint[flat.set[p]];
    rung = rung_near(flat, flat.ladder(p), static_cast<Ticks>(std::clamp(ticks + rounding, 0.0, most)), rung);
    guide.centre[p] = rung;
    duration[p] = static_cast<Ticks>(std::clamp(ticks, 0.0, most));
    const Ticks option = flat.time[rung];
    if (static_cast<double>(std::abs(duration[p] - option)) <= rounding) duration[p] = option;
    duration[p] = std::max(duration[p], flat.time[flat.ladder(p).first]);
  }
  return duration;
}

void find_latest_ends(const FlatProblem& flat, std::span<const Ticks> duration, Guide& guide) {
  std::vector<Ticks>& latest = guide.latest_end;
  latest.resize(flat.size);
  for (Position p = flat.size; p-- > 0;) {
    Ticks end = flat.target;
    for (const FlatEdge& e : flat.out_edges(p)) {
      end = std::min(end, latest[e.other] - duration[e.other] - e.lag);
    }
    // Not before 0, which is raised below all the same: with absurd durations the ends would leave their
    // type.
    latest[p] = std::max(end, Ticks{0});
  }
  // Rounding may have made a path of durations some ticks too long; the fastest options always fit.
  std::vector<Ticks> earliest(flat.size);
  for (Position p = 0; p < flat.size; ++p) {
    Ticks start = 0;
    for (const FlatEdge& e : flat.in_edges(p)) start = std::max(start, earliest[e.other] + e.lag);
    earliest[p] = start + flat.time[flat.ladder(p).first];
    latest[p] = std::max(latest[p], earliest[p]);
  }
}

void find_deadlines(const FlatProblem& flat, std::span<const Ticks> duration, Guide& guide) {
  double sum = 0;
  for (const Ticks d : duration) sum += static_cast<double>(d);
  const auto leeway = kLeeway * sum / static_cast<double>(std::max<std::size_t>(duration.size(), 1));
  guide.deadline.resize(flat.size);
  for (Position p = flat.size; p-- > 0;) {
    const double left = static_cast<double>(flat.target - guide.latest_end[p]);
    Ticks end = guide.latest_end[p] + static_cast<Ticks>(std::min(leeway, kCatchUp * left));
    // No dead end: behind each end the fastest options must still fit.
    for (const FlatEdge& e : flat.out_edges(p)) {
      end = std::min(end, guide.deadline[e.other] - flat.time[flat.ladder(e.other).first] - e.lag);
    }
    guide.deadline[p] = end;
  }
}

/// A join that the computation at hand settles: its own end arrives `lag` later, all others by `latest`.
struct Join {
  Ticks latest = 0;
  Ticks lag = 0;
  double price = 0;         ///< J per tick for which its own end waits
  double others_price = 0;  ///< J per tick for which the others wait
};

/// Rounds position after position; keeps its memory.
class Rounder {
 public:
  Rounder(const FlatProblem& flat, const Guide& guide, double drift)
      : flat_(flat),
        guide_(guide),
        drift_(drift),
        tick_(std::ldexp(1.0, flat.tick_exponent)),
        end_(flat.size),
        rungs_(flat.size) {}

  Rungs run() {
    for (Position p = 0; p < flat_.size; ++p) {
      Ticks start = 0;
      for (const FlatEdge& e : flat_.in_edges(p)) start = std::max(start, end_[e.other] + e.lag);
      find_joins(p);
      rungs_[p] = best_rung(p, start);
      end_[p] = start + flat_.time[rungs_[p]];
    }
    return std::move(rungs_);
  }

 private:
  void find_joins(Position p) {
    joins_.clear();
    for (const FlatEdge& out : flat_.out_edges(p)) {
      if (!flat_.is_last_input(p, out.other)) continue;
      Join join;
      for (std::uint32_t e = flat_.in_first[out.other]; e < flat_.in_first[out.other + 1]; ++e) {
        const FlatEdge& in = flat_.in[e];
        const double price = flat_.in_flow[e] * tick_;
        if (in.other == p) {
          join.lag = in.lag;
          join.price = price;
        } else {
          join.latest = std::max(join.latest, end_[in.other] + in.lag);
          join.others_price += price;
        }
      }
      if (join.others_price + join.price > 0) joins_.push_back(join);
    }
  }

  /// What ending at `end` costs, beside a constant; never below 0.
  [[nodiscard]] double cost_of_end(Position p, Ticks end) const {
    double cost = drift_price_ * std::abs(static_cast<double>(guide_.latest_end[p] - end)) +
                  sink_price_ * static_cast<double>(flat_.target - end);
    for (const Join& j : joins_) {
      const Ticks early = j.latest - end - j.lag;
      cost += early > 0 ? j.price * static_cast<double>(early) : -j.others_price * static_cast<double>(early);
    }
    return cost;
  }

  std::uint32_t best_rung(Position p, Ticks start) {
    const Ladder& ladder = flat_.ladder(p);
    const std::uint32_t centre = guide_.centre[p];
    const double price = flat_.flow[p] * tick_;
    const Ticks limit = guide_.deadline[p] - start;
    drift_price_ = drift_ * price;
    sink_price_ = flat_.sink_flow[p] * tick_;
    std::uint32_t best = ladder.first;
    double least = std::numeric_limits<double>::infinity();
    const auto look_at = [&](std::uint32_t r) {
      // Less those of the centre, so that the doubles hold small differences.
      const double own = flat_.cost[r] - flat_.cost[centre] +
                         price * static_cast<double>(flat_.time[r] - flat_.time[centre]);
      if (own >= least) return;
      const double loss = own + cost_of_end(p, start + flat_.time[r]);
      if (loss >= least) return;
      least = loss;
      best = r;
    };
    const std::uint32_t last = std::min(centre + kReach, ladder.first + ladder.count - 1);
    const std::uint32_t first = centre - std::min(centre - ladder.first, kReach);
    for (std::uint32_t r = centre; r <= last && flat_.time[r] <= limit; ++r) look_at(r);
    for (std::uint32_t r = centre; r-- > first;) {
      if (flat_.time[r] <= limit) look_at(r);
    }
    return std::isinf(least) ? slowest_rung(flat_, p, limit) : best;
  }

  const FlatProblem& flat_;
  const Guide& guide_;
  double drift_;
  double tick_;  ///< s
  double drift_price_ = 0;
  double sink_price_ = 0;
  std::vector<Ticks> end_;
  Rungs rungs_;
  std::vector<Join> joins_;
};

}  // namespace

Guide make_guide(const FlatProblem& flat, const Relaxed& relaxed) {
  Guide guide;
  const std::vector<Ticks> duration = find_centres(flat, relaxed, guide);
  find_latest_ends(flat, duration, guide);
  find_deadlines(flat, duration, guide);
  return guide;
}

Rungs round_in_time(const FlatProblem& flat, const Guide& guide, double drift) {
  return Rounder(flat, guide, drift).run();
}

}  // namespace perseus::solver::internal
