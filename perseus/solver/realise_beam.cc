// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_beam.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "perseus/solver/realise_slack.h"

namespace perseus::solver::internal {
namespace {

/// Candidates sorted per place in the beam: some of them turn out to be the same times again.
constexpr std::size_t kSpare = 2;

/// One step of a multiplicative hash (multiplier: 2^64 over the golden ratio).
std::uint64_t hash_step(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
  return hash ^ (hash >> 29);
}

}  // namespace

Beam::Beam(const FlatProblem& flat, const Guide& guide)
    : flat_(&flat), guide_(&guide), tick_(std::ldexp(1.0, flat.tick_exponent)) {
  plan_slots();
}

void Beam::plan_slots() {
  // The last input of each computation settles its start. The ends of its other inputs wait in slots until
  // then.
  const std::uint32_t n = flat_->size;
  std::vector<Position> needed_until(n, n);
  for (Position v = 0; v < n; ++v) {
    const auto inputs = flat_->in_edges(v);
    for (const FlatEdge& e : inputs) {
      const Position last = inputs.back().other;
      if (e.other == last) continue;
      Position& until = needed_until[e.other];
      until = until == n ? last : std::max(until, last);
    }
  }
  std::vector<std::uint32_t> free_slots;
  const auto take = [&] {
    if (free_slots.empty()) return slots_++;
    const std::uint32_t slot = free_slots.back();
    free_slots.pop_back();
    return slot;
  };
  std::vector<std::uint32_t> start_slot(n, kNoSlot);
  std::vector<std::uint32_t> end_slot(n, kNoSlot);
  for (Position v = 0; v < n; ++v) {
    if (flat_->in_edges(v).empty()) start_slot[v] = take();
  }
  steps_.resize(n);
  for (Position p = 0; p < n; ++p) {
    Step& step = steps_[p];
    step.start_slot = start_slot[p];
    if (needed_until[p] != n) step.end_slot = end_slot[p] = take();
    step.first_join = static_cast<std::uint32_t>(joins_.size());
    for (const FlatEdge& e : flat_->out_edges(p)) {
      if (!flat_->is_last_input(p, e.other)) continue;
      start_slot[e.other] = take();
      Join join{.first_input = static_cast<std::uint32_t>(inputs_.size()),
                .last_input = 0,
                .start_slot = start_slot[e.other]};
      for (std::uint32_t k = flat_->in_first[e.other]; k < flat_->in_first[e.other + 1]; ++k) {
        const FlatEdge& in = flat_->in[k];
        inputs_.push_back({in.other == p ? kNoSlot : end_slot[in.other], in.lag, flat_->in_flow[k] * tick_});
      }
      join.last_input = static_cast<std::uint32_t>(inputs_.size());
      joins_.push_back(join);
    }
    step.last_join = static_cast<std::uint32_t>(joins_.size());
    // Freed only now: within one step nothing is written where something is still read.
    free_slots.push_back(start_slot[p]);
    for (const FlatEdge& e : flat_->out_edges(p)) {
      if (!flat_->is_last_input(p, e.other)) continue;
      for (const FlatEdge& in : flat_->in_edges(e.other)) {
        if (in.other != p && needed_until[in.other] == p && end_slot[in.other] != kNoSlot) {
          free_slots.push_back(std::exchange(end_slot[in.other], kNoSlot));
        }
      }
    }
  }
}

void Beam::find_near(std::uint32_t count) {
  if (count == near_count_) return;
  near_count_ = count;
  near_.clear();
  near_first_.assign(1, 0);
  std::vector<Near> kept;  // by rising loss
  for (Position p = 0; p < flat_->size; ++p) {
    const Ladder& ladder = flat_->ladder(p);
    const double price = flat_->flow[p] * tick_;
    const std::uint32_t centre = guide_->centre[p];
    const Ticks middle = flat_->time[centre];
    const std::uint32_t first = centre - std::min(centre - ladder.first, count - 1);
    const std::uint32_t last = std::min(ladder.first + ladder.count, centre + count + 1);
    kept.clear();
    for (std::uint32_t r = first; r < last; ++r) {
      // The middle's own time is subtracted so that the doubles hold small differences. Losses count from an
      // arbitrary zero: it is the same for every partial choice.
      const Near now{r, flat_->cost[r] + price * static_cast<double>(flat_->time[r] - middle)};
      if (kept.size() == count && !(now.loss < kept.back().loss)) continue;
      if (kept.size() == count) kept.pop_back();
      auto at = kept.end();
      while (at != kept.begin() && now.loss < std::prev(at)->loss) --at;
      kept.insert(at, now);
    }
    for (const Near& n : kept) near_.push_back({n.rung, n.loss - kept.front().loss});
    near_first_.push_back(static_cast<std::uint32_t>(near_.size()));
  }
}

double Beam::settle(const Step& step, const Ticks* slots, Ticks end) const {
  double loss = 0;
  for (std::uint32_t j = step.first_join; j < step.last_join; ++j) {
    const Join& join = joins_[j];
    Ticks start = 0;
    double price = 0;
    double paid = 0;
    for (std::uint32_t k = join.first_input; k < join.last_input; ++k) {
      const Input& in = inputs_[k];
      const Ticks arrival = (in.slot == kNoSlot ? end : slots[in.slot]) + in.lag;
      // Ends are subtracted from a nearby one, so that the doubles hold small differences.
      const Ticks later = std::max(start, arrival);
      paid += price * static_cast<double>(later - start) + in.price * static_cast<double>(later - arrival);
      price += in.price;
      start = later;
    }
    loss += paid;
  }
  return loss;
}

void Beam::expand(Position p, const BeamOptions& options) {
  candidates_.clear();
  const Step& step = steps_[p];
  const double drift = options.drift * flat_->flow[p] * tick_;
  const double sink = flat_->sink_flow[p] * tick_;
  const auto add = [&](std::uint32_t s, const Ticks* slots, std::uint32_t rung, double loss) {
    const Ticks end = slots[step.start_slot] + flat_->time[rung];
    loss += settle(step, slots, end) + drift * std::abs(static_cast<double>(guide_->latest_end[p] - end)) +
            sink * static_cast<double>(flat_->target - end);
    candidates_.push_back({scores_[s] + loss, s, rung});
  };
  for (std::uint32_t s = 0; s < scores_.size(); ++s) {
    const Ticks* slots = &times_[std::size_t{s} * slots_];
    const Ticks limit = guide_->deadline[p] - slots[step.start_slot];
    const std::size_t before = candidates_.size();
    for (std::uint32_t k = near_first_[p]; k < near_first_[p + 1]; ++k) {
      if (flat_->time[near_[k].rung] <= limit) add(s, slots, near_[k].rung, near_[k].loss);
    }
    if (candidates_.size() != before) continue;
    // Late: the slowest that fits. Its loss is counted from the best rung, as that of the others is.
    const std::uint32_t rung = slowest_rung(*flat_, p, limit);
    const std::uint32_t best = near_[near_first_[p]].rung;
    const double faster = static_cast<double>(flat_->time[best] - flat_->time[rung]);
    add(s, slots, rung, flat_->cost[rung] - flat_->cost[best] - flat_->flow[p] * tick_ * faster);
  }
  work_ += candidates_.size();
}

bool Beam::enter(Position p, const Candidate& candidate, std::size_t index) {
  const Step& step = steps_[p];
  const Ticks* old = &times_[std::size_t{candidate.parent} * slots_];
  Ticks* slots = &next_times_[index * slots_];
  std::copy_n(old, slots_, slots);
  const Ticks end = old[step.start_slot] + flat_->time[candidate.rung];
  slots[step.start_slot] = 0;
  for (std::uint32_t j = step.first_join; j < step.last_join; ++j) {
    Ticks start = 0;
    for (std::uint32_t k = joins_[j].first_input; k < joins_[j].last_input; ++k) {
      const Input& in = inputs_[k];
      start = std::max(start, (in.slot == kNoSlot ? end : old[in.slot]) + in.lag);
    }
    slots[joins_[j].start_slot] = start;
  }
  if (step.end_slot != kNoSlot) slots[step.end_slot] = end;
  if (seen_.empty()) return true;

  std::uint64_t hash = 1;
  for (std::uint32_t k = 0; k < slots_; ++k) hash = hash_step(hash, static_cast<std::uint64_t>(slots[k]));
  hash |= 1;
  std::size_t at = (hash >> 8) & (seen_.size() - 1);
  while (seen_[at] != 0) {
    if (seen_[at] == hash) return false;
    at = (at + 1) & (seen_.size() - 1);
  }
  seen_[at] = hash;
  return true;
}

void Beam::keep_best(Position p, std::uint32_t width) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return std::tie(a.score, a.parent, a.rung) < std::tie(b.score, b.parent, b.rung);
  };
  const std::size_t pool = width == 1 ? 1 : std::min(candidates_.size(), kSpare * width);
  if (width == 1) {
    candidates_.front() = *std::ranges::min_element(candidates_, better);
    seen_.clear();
  } else {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(pool);
    if (pool < candidates_.size()) std::nth_element(candidates_.begin(), end - 1, candidates_.end(), better);
    std::sort(candidates_.begin(), end, better);
    seen_.assign(std::bit_ceil(4 * pool), 0);
  }
  next_times_.resize(std::min<std::size_t>(pool, width) * slots_);
  next_scores_.clear();
  Trace* trace = &trace_[std::size_t{p} * width];
  for (std::size_t k = 0; k < pool && next_scores_.size() < width; ++k) {
    // Partial choices with the same times have the same future: the cheaper one stands for both.
    if (!enter(p, candidates_[k], next_scores_.size())) continue;
    trace[next_scores_.size()] = {candidates_[k].parent, candidates_[k].rung};
    next_scores_.push_back(candidates_[k].score);
  }
  std::swap(scores_, next_scores_);
  std::swap(times_, next_times_);
}

Rungs Beam::run(const BeamOptions& options) {
  find_near(options.rungs);
  const std::uint64_t stop = options.work_limit > std::numeric_limits<std::uint64_t>::max() - work_
                                 ? std::numeric_limits<std::uint64_t>::max()
                                 : work_ + options.work_limit;
  scores_.assign(1, 0);
  times_.assign(slots_, 0);
  trace_.resize(std::size_t{flat_->size} * options.width);
  for (Position p = 0; p < flat_->size; ++p) {
    expand(p, options);
    if (work_ > stop) return {};
    keep_best(p, options.width);
  }
  Rungs rungs(flat_->size);
  std::uint32_t s = 0;
  for (Position p = flat_->size; p-- > 0;) {
    const Trace& trace = trace_[std::size_t{p} * options.width + s];
    rungs[p] = trace.rung;
    s = trace.parent;
  }
  return rungs;
}

}  // namespace perseus::solver::internal
