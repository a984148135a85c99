// SPDX-License-Identifier: Apache-2.0
//
// The dual of "least cost with makespan T" is a flow of most profit whose value F is the price of time: at
// flow f a computation wants the duration that minimises c + f t, so it is a bundle of parallel arcs, one per
// hull point, with length t and room for the flows at which that point is best. Augmenting along longest
// residual paths passes through every F; the length of the path is the T at which F is the slope of C.
#include "tests/support/reference_lp.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <stdexcept>

namespace perseus::tests {
namespace {

__extension__ typedef __int128 Length;  // units of 2^-82 s, as in core/exact_time.h
constexpr long double kInfinite = std::numeric_limits<long double>::infinity();

Length exact_length(core::Seconds t) {
  return static_cast<Length>(std::ldexp(static_cast<long double>(t.value()), 82));
}
long double to_seconds(Length length) {
  return std::ldexp(static_cast<long double>(length), -82);
}

struct Point {
  core::Seconds time;
  long double cost = 0;
};

/// Lower-left convex hull from the cheapest point to the fastest.
std::vector<Point> hull(const core::Problem& problem, core::ComputationId i) {
  const long double power = problem.blocking_power(problem.pipeline().rank_of(i)).value();
  std::vector<Point> points;
  for (const core::Option& o : problem.options(i)) {
    points.push_back({o.time, static_cast<long double>(o.energy.value()) - power * o.time.value()});
  }
  std::ranges::sort(points, [](const Point& a, const Point& b) {
    return a.time < b.time || (a.time == b.time && a.cost < b.cost);
  });
  const auto slope = [](const Point& fast, const Point& slow) {
    return (fast.cost - slow.cost) / (static_cast<long double>(slow.time.value()) - fast.time.value());
  };
  std::vector<Point> kept;  // from fast to slow: costs fall, and so do slopes
  for (const Point& p : points) {
    if (!kept.empty() && p.cost >= kept.back().cost) continue;
    while (kept.size() > 1 && slope(kept.back(), p) >= slope(kept[kept.size() - 2], kept.back()))
      kept.pop_back();
    kept.push_back(p);
  }
  std::ranges::reverse(kept);
  return kept;
}

class Network {
 public:
  explicit Network(const core::Problem& problem) : out_(2 * std::size_t{problem.size()} + 2) {
    const std::size_t source = out_.size() - 2;
    const std::size_t sink = out_.size() - 1;
    for (core::ComputationId i = 0; i < problem.size(); ++i) {
      add(source, 2 * std::size_t{i}, 0, kInfinite);
      add(2 * std::size_t{i} + 1, sink, 0, kInfinite);
      const std::vector<Point> points = hull(problem, i);
      cheapest_ += points.front().cost;
      long double before = 0;
      for (std::size_t k = 0; k < points.size(); ++k) {
        long double until = kInfinite;
        if (k + 1 < points.size()) {
          until = (points[k + 1].cost - points[k].cost) /
                  (static_cast<long double>(points[k].time.value()) - points[k + 1].time.value());
        }
        add(2 * std::size_t{i}, 2 * std::size_t{i} + 1, exact_length(points[k].time), until - before);
        before = until;
      }
    }
    const auto edges = problem.pipeline().edges();
    for (core::EdgeId e = 0; e < edges.size(); ++e) {
      add(2 * std::size_t{edges[e].from} + 1, 2 * std::size_t{edges[e].to}, exact_length(problem.lag(e)),
          kInfinite);
    }
  }

  [[nodiscard]] long double cheapest() const { return cheapest_; }

  struct Augmentation {
    Length length = 0;
    long double flow = 0;  ///< infinite when no computation on the path can be slower: T_min is reached
  };
  /// Finds a longest residual path and fills it.
  Augmentation augment() {
    search();
    Augmentation a{distance_.back(), kInfinite};
    for (std::size_t v = out_.size() - 1; arrived_by_[v] != kNone; v = arcs_[arrived_by_[v] ^ 1].to) {
      a.flow = std::min(a.flow, arcs_[arrived_by_[v]].room);
    }
    if (a.flow == kInfinite) return a;
    for (std::size_t v = out_.size() - 1; arrived_by_[v] != kNone; v = arcs_[arrived_by_[v] ^ 1].to) {
      arcs_[arrived_by_[v]].room -= a.flow;
      arcs_[arrived_by_[v] ^ 1].room += a.flow;
    }
    return a;
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  struct Arc {
    std::size_t to = 0;
    Length length = 0;
    long double room = 0;
  };

  void add(std::size_t from, std::size_t to, Length length, long double room) {
    out_[from].push_back(arcs_.size());
    arcs_.push_back({to, length, room});
    out_[to].push_back(arcs_.size());
    arcs_.push_back({from, -length, 0});
  }

  /// Longest residual distances from the source (Bellman and Ford with a queue).
  void search() {
    const std::size_t source = out_.size() - 2;
    constexpr Length kUnreached = -1;  // every distance from the source is at least 0
    distance_.assign(out_.size(), kUnreached);
    arrived_by_.assign(out_.size(), kNone);
    std::vector<bool> waiting(out_.size(), false);
    std::vector<std::size_t> visits(out_.size(), 0);
    std::deque<std::size_t> queue{source};
    distance_[source] = 0;
    while (!queue.empty()) {
      const std::size_t v = queue.front();
      queue.pop_front();
      waiting[v] = false;
      if (++visits[v] > out_.size()) throw std::logic_error("reference_lp: a positive residual cycle");
      for (const std::size_t a : out_[v]) {
        const Arc& arc = arcs_[a];
        if (arc.room <= 0 || distance_[v] + arc.length <= distance_[arc.to]) continue;
        distance_[arc.to] = distance_[v] + arc.length;
        arrived_by_[arc.to] = a;
        if (!waiting[arc.to]) queue.push_back(arc.to);
        waiting[arc.to] = true;
      }
    }
  }

  std::vector<Arc> arcs_;  // an arc and its reverse are neighbours: 2k and 2k + 1
  std::vector<std::vector<std::size_t>> out_;
  std::vector<Length> distance_;
  std::vector<std::size_t> arrived_by_;
  long double cheapest_ = 0;
};

}  // namespace

ReferenceFrontier ReferenceFrontier::solve(const core::Problem& problem) {
  Network network(problem);
  ReferenceFrontier frontier;
  std::vector<Corner>& corners = frontier.corners_;
  Length last = 0;
  while (true) {
    const Network::Augmentation a = network.augment();
    if (corners.empty()) {
      corners.push_back({to_seconds(a.length), 0, network.cheapest()});
    } else if (a.length != last) {
      const Corner& slower = corners.back();
      corners.push_back({to_seconds(a.length), slower.slope_w,
                         slower.cost_j + slower.slope_w * to_seconds(last - a.length)});
    }
    last = a.length;
    corners.back().slope_w += a.flow;
    if (a.flow == kInfinite) return frontier;
  }
}

long double ReferenceFrontier::time_at_slope(long double watts) const {
  for (const Corner& c : corners_) {
    if (c.slope_w > watts) return c.time_s;
  }
  return corners_.back().time_s;
}

long double ReferenceFrontier::cost_at(long double time_s) const {
  for (std::size_t k = 1; k < corners_.size(); ++k) {
    const Corner& slow = corners_[k - 1];
    const Corner& fast = corners_[k];
    if (time_s >= slow.time_s) return slow.cost_j;
    if (time_s >= fast.time_s) return slow.cost_j + slow.slope_w * (slow.time_s - time_s);
  }
  return corners_.back().cost_j;
}

}  // namespace perseus::tests
