// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_slack.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <utility>

namespace perseus::solver::internal {
namespace {

/// One way to make a computation cheaper.
struct Saving {
  double rate = 0;  ///< J saved per tick of slack
  Position position = 0;
  std::uint32_t rung = 0;
  friend bool operator<(const Saving& a, const Saving& b) {
    return a.rate != b.rate ? a.rate < b.rate : a.position > b.position;
  }
};

/// The best that the slack of p allows; rate 0 if nothing fits.
Saving best_saving(const FlatProblem& flat, const LongestPaths& paths, Position p) {
  Saving best{.rate = 0, .position = p, .rung = paths.rungs()[p]};
  const Ladder& ladder = flat.ladder(p);
  const std::uint32_t now = best.rung;
  const Ticks limit = flat.time[now] + paths.slack(p);
  for (std::uint32_t r = now + 1; r < ladder.first + ladder.count && flat.time[r] <= limit; ++r) {
    // Times of one ladder can be equal in ticks: then the step is free.
    const auto step = static_cast<double>(std::max<Ticks>(flat.time[r] - flat.time[now], 1));
    const double rate = (flat.cost[now] - flat.cost[r]) / step;
    if (rate >= best.rate) {
      best.rate = rate;
      best.rung = r;
    }
  }
  return best;
}

}  // namespace

LongestPaths::LongestPaths(const FlatProblem& flat, Rungs rungs)
    : flat_(&flat), rungs_(std::move(rungs)), end_(flat.size), tail_(flat.size), dirty_(flat.size / 64 + 1) {
  for (Position p = 0; p < flat.size; ++p) end_[p] = end_from_inputs(p);
  for (Position p = flat.size; p-- > 0;) tail_[p] = tail_from_outputs(p);
}

Ticks LongestPaths::end_from_inputs(Position p) const {
  Ticks start = 0;
  for (const FlatEdge& e : flat_->in_edges(p)) start = std::max(start, end_[e.other] + e.lag);
  return start + flat_->time[rungs_[p]];
}

Ticks LongestPaths::tail_from_outputs(Position p) const {
  Ticks tail = 0;
  for (const FlatEdge& e : flat_->out_edges(p)) {
    tail = std::max(tail, e.lag + flat_->time[rungs_[e.other]] + tail_[e.other]);
  }
  return tail;
}

void LongestPaths::set_rung(Position p, std::uint32_t rung) {
  rungs_[p] = rung;
  touched_.clear();
  spread_forward(p);
  spread_backward(p);
}

void LongestPaths::spread_forward(Position from) {
  // Edges lead upwards, so one upward sweep over the marked positions settles all.
  mark(from);
  std::size_t last = from / 64;
  for (std::size_t word = from / 64; word <= last; ++word) {
    while (dirty_[word] != 0) {
      const auto p = static_cast<Position>(word * 64 + static_cast<unsigned>(std::countr_zero(dirty_[word])));
      dirty_[word] &= dirty_[word] - 1;
      ++work_;
      const Ticks end = end_from_inputs(p);
      if (end == end_[p]) continue;
      end_[p] = end;
      touched_.push_back(p);
      for (const FlatEdge& e : flat_->out_edges(p)) {
        mark(e.other);
        last = std::max<std::size_t>(last, e.other / 64);
      }
    }
  }
}

void LongestPaths::spread_backward(Position from) {
  std::size_t first = from / 64;
  const auto mark_inputs = [&](Position p) {
    for (const FlatEdge& e : flat_->in_edges(p)) {
      mark(e.other);
      first = std::min<std::size_t>(first, e.other / 64);
    }
  };
  mark_inputs(from);
  for (std::size_t word = from / 64 + 1; word-- > first;) {
    while (dirty_[word] != 0) {
      const auto bit = 63U - static_cast<unsigned>(std::countl_zero(dirty_[word]));
      const auto p = static_cast<Position>(word * 64 + bit);
      dirty_[word] ^= std::bit_floor(dirty_[word]);
      ++work_;
      const Ticks tail = tail_from_outputs(p);
      if (tail == tail_[p]) continue;
      tail_[p] = tail;
      touched_.push_back(p);
      mark_inputs(p);
    }
  }
}

std::uint32_t slowest_rung(const FlatProblem& flat, Position p, Ticks limit) {
  const Ladder& ladder = flat.ladder(p);
  const auto first = flat.time.begin() + ladder.first;
  const auto it = std::upper_bound(first, first + ladder.count, limit);
  return it == first ? ladder.first : static_cast<std::uint32_t>(it - flat.time.begin()) - 1;
}

void spend_slack(const FlatProblem& flat, LongestPaths& paths) {
  std::priority_queue<Saving> queue;
  for (Position p = 0; p < flat.size; ++p) {
    const Saving saving = best_saving(flat, paths, p);
    if (saving.rate > 0) queue.push(saving);
  }
  while (!queue.empty()) {
    const Saving top = queue.top();
    queue.pop();
    // Slack only shrinks while others spend it, so a saving that still stands is still the largest.
    const Saving now = best_saving(flat, paths, top.position);
    if (now.rate <= 0) continue;
    if (now.rung == top.rung) paths.set_rung(top.position, top.rung);
    if (now.rung == top.rung) {
      const Saving next = best_saving(flat, paths, top.position);
      if (next.rate > 0) queue.push(next);
    } else {
      queue.push(now);
    }
  }
}

}  // namespace perseus::solver::internal
