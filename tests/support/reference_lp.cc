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
#include <type_traits>
#include <utility>

namespace perseus::tests {
namespace {

__extension__ typedef __int128 Length;  // units of 2^-82 s, as in core/exact_time.h
constexpr long double kInfinite = std::numeric_limits<long double>::infinity();

/// Room of an arc: watts as they are, or whole units.
template <class Room>
constexpr Room kUnlimited = std::numeric_limits<Room>::max() / 4;
template <>
constexpr long double kUnlimited<long double> = kInfinite;
template <class Room>
bool unlimited(Room room) {
  return room >= kUnlimited<Room> / 2;
}

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

template <class Room>
class Network {
 public:
  /// Slopes are counted in units of 2^unit_exponent W (and rounded, if Room is an integer).
  Network(const core::Problem& problem, std::int32_t unit_exponent)
      : out_(2 * std::size_t{problem.size()} + 2), unit_exponent_(unit_exponent) {
    const std::size_t source = out_.size() - 2;
    const std::size_t sink = out_.size() - 1;
    for (core::ComputationId i = 0; i < problem.size(); ++i) {
      add(source, 2 * std::size_t{i}, 0, kUnlimited<Room>);
      add(2 * std::size_t{i} + 1, sink, 0, kUnlimited<Room>);
      add_options(i, hull(problem, i));
    }
    const auto edges = problem.pipeline().edges();
    for (core::EdgeId e = 0; e < edges.size(); ++e) {
      edge_arc_.push_back(arcs_.size());
      add(2 * std::size_t{edges[e].from} + 1, 2 * std::size_t{edges[e].to}, exact_length(problem.lag(e)),
          kUnlimited<Room>);
    }
  }

  [[nodiscard]] long double cheapest() const { return cheapest_; }
  /// Flow through a computation: all its options together.
  [[nodiscard]] Room flow_through(core::ComputationId i) const {
    Room flow = 0;
    for (std::size_t a = option_arc_[i].first; a < option_arc_[i].second; a += 2) flow += arcs_[a + 1].room;
    return flow;
  }
  [[nodiscard]] Room flow_on(core::EdgeId e) const { return arcs_[edge_arc_[e] + 1].room; }

  /// Finds a longest residual path; its length.
  Length search() {
    find_longest_paths();
    return distance_.back();
  }
  /// Fills the path that search() found; the flow added, unlimited() (and not added) when no computation on
  /// the path can be faster.
  Room augment() {
    Room flow = kUnlimited<Room>;
    const auto walk = [&](auto&& visit) {
      for (std::size_t v = out_.size() - 1; arrived_by_[v] != kNone; v = arcs_[arrived_by_[v] ^ 1].to) {
        visit(arrived_by_[v]);
      }
    };
    walk([&](std::size_t a) { flow = std::min(flow, arcs_[a].room); });
    if (unlimited(flow)) return flow;
    walk([&](std::size_t a) {
      arcs_[a].room -= flow;
      arcs_[a ^ 1].room += flow;
    });
    return flow;
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  struct Arc {
    std::size_t to = 0;
    Length length = 0;
    Room room = 0;
  };

  void add_options(core::ComputationId i, const std::vector<Point>& points) {
    cheapest_ += points.front().cost;
    const std::size_t first = arcs_.size();
    Room before = 0;
    for (std::size_t k = 0; k < points.size(); ++k) {
      Room until = kUnlimited<Room>;
      if (k + 1 < points.size()) {
        const long double slope =
            (points[k + 1].cost - points[k].cost) /
            (static_cast<long double>(points[k].time.value()) - points[k + 1].time.value());
        until = to_units(slope);
      }
      add(2 * std::size_t{i}, 2 * std::size_t{i} + 1, exact_length(points[k].time), until - before);
      before = until;
    }
    option_arc_.emplace_back(first, arcs_.size());
  }

  [[nodiscard]] Room to_units(long double watts) const {
    const long double units = std::ldexp(watts, -unit_exponent_);
    if constexpr (std::is_integral_v<Room>) return static_cast<Room>(std::llround(std::min(units, 0x1p52L)));
    return static_cast<Room>(units);
  }

  void add(std::size_t from, std::size_t to, Length length, Room room) {
    out_[from].push_back(arcs_.size());
    arcs_.push_back({to, length, room});
    out_[to].push_back(arcs_.size());
    arcs_.push_back({from, -length, 0});
  }

  /// Longest residual distances from the source (Bellman and Ford with a queue).
  void find_longest_paths() {
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
  std::vector<std::pair<std::size_t, std::size_t>> option_arc_;  // first and end of a computation's arcs
  std::vector<std::size_t> edge_arc_;
  std::int32_t unit_exponent_;
  long double cheapest_ = 0;
};

}  // namespace

ReferenceFrontier ReferenceFrontier::solve(const core::Problem& problem) {
  Network<long double> network(problem, 0);
  ReferenceFrontier frontier;
  std::vector<Corner>& corners = frontier.corners_;
  Length last = 0;
  while (true) {
    const Length length = network.search();
    if (corners.empty()) {
      corners.push_back({to_seconds(length), 0, network.cheapest()});
    } else if (length != last) {
      const Corner& slower = corners.back();
      corners.push_back(
          {to_seconds(length), slower.slope_w, slower.cost_j + slower.slope_w * to_seconds(last - length)});
    }
    last = length;
    const long double flow = network.augment();
    corners.back().slope_w += flow;
    if (unlimited(flow)) return frontier;
  }
}

core::Certificate reference_certificate(const core::Problem& problem, core::Seconds target,
                                        std::int32_t unit_exponent) {
  Network<std::int64_t> network(problem, unit_exponent);
  core::Certificate certificate{.unit_exponent = unit_exponent};
  while (network.search() > exact_length(target)) {
    const std::int64_t flow = network.augment();
    if (unlimited(flow)) throw std::logic_error("reference_lp: no certificate below T_min");
    certificate.value += flow;
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i)
    certificate.computation.push_back(network.flow_through(i));
  for (core::EdgeId e = 0; e < problem.pipeline().edges().size(); ++e) {
    if (network.flow_on(e) > 0) certificate.edges.push_back({e, network.flow_on(e)});
  }
  return certificate;
}

long double plain_bound(const core::Problem& problem, const core::Certificate& certificate,
                        core::Seconds target) {
  const auto watts = [&](std::int64_t n) {
    return std::ldexp(static_cast<long double>(n), certificate.unit_exponent);
  };
  long double bound = -watts(certificate.value) * target.value();
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const long double price =
        watts(certificate.computation[i]) - problem.blocking_power(problem.pipeline().rank_of(i)).value();
    long double least = kInfinite;
    for (const core::Option& o : problem.options(i))
      least = std::min(least, o.energy.value() + price * o.time.value());
    bound += least;
  }
  for (const auto& [edge, flow] : certificate.edges) bound += watts(flow) * problem.lag(edge).value();
  return bound;
}

core::Plan honest_plan(const core::Problem& problem, core::Choice choice, core::Seconds target,
                       std::optional<core::Seconds> sync, core::Certificate certificate) {
  core::Plan plan{.target_time = target, .sync_time = sync};
  plan.time = core::exact_timing(problem, choice).makespan.ceil_seconds();
  plan.energy = core::pipeline_energy(problem, choice, sync.value_or(plan.time));
  const long double blocking =
      static_cast<long double>(problem.total_blocking_power().value()) * sync.value_or(target).value();
  const long double bound =
      (plain_bound(problem, certificate, target) + blocking) * problem.parallel().tensor;
  plan.lower_bound = core::Joules(std::max(0.0, static_cast<double>(bound)));
  plan.gap = plan.lower_bound > core::Joules(0) ? plan.energy / plan.lower_bound - 1 : 0;
  plan.choice = std::move(choice);
  plan.certificate = std::move(certificate);
  return plan;
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
