// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_events.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

namespace perseus::solver::internal {
namespace {

/// Starts and ends (2 p and 2 p + 1) with union-find over them.
class Merger {
 public:
  explicit Merger(std::uint32_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), 0U); }
  std::uint32_t find(std::uint32_t x) {
    while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
    return x;
  }
  void merge(std::uint32_t a, std::uint32_t b) { parent_[find(b)] = find(a); }

 private:
  std::vector<std::uint32_t> parent_;
};

/// Other ends of the edges in rising order; empty if one of them has a lag.
std::vector<Position> without_lag(std::span<const FlatEdge> edges) {
  std::vector<Position> others;
  for (const FlatEdge& e : edges) {
    if (e.lag != 0) return {};
    others.push_back(e.other);
  }
  std::ranges::sort(others);
  const auto [first, last] = std::ranges::unique(others);
  others.erase(first, last);
  return others;
}

/// The start of p is 2 p, its end 2 p + 1; behind all of them stand the source and the sink. Merged are ends
/// and starts that happen at the same moment in every schedule: where each of a group waits for all of
/// another.
Merger same_moments(const FlatProblem& flat, std::uint32_t source, std::uint32_t sink) {
  Merger merger(2 * flat.size + 2);
  std::vector<std::vector<Position>> before(flat.size);
  std::vector<std::vector<Position>> behind(flat.size);
  for (Position p = 0; p < flat.size; ++p) {
    before[p] = without_lag(flat.in_edges(p));
    behind[p] = without_lag(flat.out_edges(p));
    if (flat.in_edges(p).empty()) merger.merge(source, 2 * p);
    if (flat.out_edges(p).empty()) merger.merge(sink, 2 * p + 1);
  }
  for (Position p = 0; p < flat.size; ++p) {
    if (before[p].empty()) continue;
    const auto& starts = behind[before[p].front()];
    const bool all = !starts.empty() && starts.front() == p &&  // once per group
                     std::ranges::all_of(starts, [&](Position v) { return before[v] == before[p]; }) &&
                     std::ranges::all_of(before[p], [&](Position u) { return behind[u] == starts; });
    if (!all) continue;
    for (const Position v : starts) merger.merge(2 * p, 2 * v);
    for (const Position u : before[p]) merger.merge(2 * p, 2 * u + 1);
  }
  return merger;
}

}  // namespace

EventGraph::EventGraph(const FlatProblem& flat) : start_(flat.size), end_(flat.size) {
  const std::uint32_t source = 2 * flat.size;
  const std::uint32_t sink = source + 1;
  Merger merger = same_moments(flat, source, sink);
  constexpr Event kNone = std::numeric_limits<Event>::max();
  std::vector<Event> number(2 * flat.size + 2, kNone);
  const auto event = [&](std::uint32_t x) {
    Event& e = number[merger.find(x)];
    if (e == kNone) e = size_++;
    return e;
  };
  event(source);
  event(sink);
  for (Position p = 0; p < flat.size; ++p) {
    start_[p] = event(2 * p);
    end_[p] = event(2 * p + 1);
    arcs_.push_back({.from = start_[p], .to = end_[p], .computation = p, .lag = 0});
  }
  for (Position p = 0; p < flat.size; ++p) {
    for (const FlatEdge& e : flat.out_edges(p)) {
      if (end_[p] == start_[e.other]) continue;
      arcs_.push_back(
          {.from = end_[p], .to = start_[e.other], .computation = EventArc::kLagOnly, .lag = e.lag});
    }
  }
  first_.assign(size_ + 1, 0);
  for (const EventArc& a : arcs_) ++first_[a.from + 1], ++first_[a.to + 1];
  for (Event v = 0; v < size_; ++v) first_[v + 1] += first_[v];
  incident_.resize(2 * arcs_.size());
  auto next = first_;
  for (std::uint32_t a = 0; a < arcs_.size(); ++a) {
    incident_[next[arcs_[a].from]++] = a;
    incident_[next[arcs_[a].to]++] = a;
  }
}

std::vector<Ticks> event_times(const FlatProblem& flat, const EventGraph& graph, const Rungs& rungs) {
  const LongestPaths paths(flat, rungs);
  std::vector<Ticks> time(graph.size(), 0);
  for (Position p = 0; p < flat.size; ++p) {
    Ticks& start = time[graph.start_of(p)];
    Ticks& end = time[graph.end_of(p)];
    start = std::max(start, paths.end(p) - flat.time[rungs[p]]);
    end = std::max(end, paths.end(p));
  }
  time[EventGraph::kSink] = flat.target;
  return time;
}

}  // namespace perseus::solver::internal
