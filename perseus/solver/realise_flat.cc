// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_flat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

namespace perseus::solver::internal {
namespace {

/// A target takes this many bits in ticks: two of them still add up without overflow.
constexpr int kTargetBits = 60;

/// `per_second` is a power of two, so the product is exact.
Ticks ceil_ticks(core::Seconds t, double per_second) {
  return static_cast<Ticks>(std::ceil(t.value() * per_second));
}

double ticks_per_second(const FlatProblem& flat) {
  return std::ldexp(1.0, -flat.tick_exponent);
}

/// Sorts one set's options into rungs and appends them. Options slower than the target are left out.
void add_ladder(const core::Problem& problem, std::uint32_t set, core::Watts blocking, core::Seconds target,
                FlatProblem& flat) {
  struct Entry {
    core::Seconds time;
    double cost;
    std::uint32_t option;
    bool operator<(const Entry& o) const {
      return std::tie(time, cost, option) < std::tie(o.time, o.cost, o.option);
    }
  };
  const auto options = problem.option_set(set);
  std::vector<Entry> order;
  order.reserve(options.size());
  // Profiles list the highest clock first, which is mostly the fastest; what is sorted is not sorted again.
  for (std::uint32_t k = 0; k < options.size(); ++k) {
    const core::Option& o = options[k];
    if (o.time <= target) order.push_back({o.time, (o.energy - blocking * o.time).value(), k});
  }
  if (!std::ranges::is_sorted(order, std::less<>())) std::ranges::sort(order, std::less<>());
  Ladder ladder{.first = static_cast<std::uint32_t>(flat.time.size()), .count = 0};
  const double per_second = ticks_per_second(flat);
  double cheapest = std::numeric_limits<double>::infinity();
  for (const Entry& e : order) {
    if (e.cost >= cheapest) continue;
    cheapest = e.cost;
    flat.time.push_back(ceil_ticks(e.time, per_second));
    flat.cost.push_back(e.cost);
    flat.option.push_back(e.option);
    flat.exact_time.emplace_back(e.time);
    ++ladder.count;
  }
  flat.ladders.push_back(ladder);
}

void add_ladders(const core::Problem& problem, core::Seconds target, FlatProblem& flat) {
  std::vector<core::Watts> blocking(problem.option_set_count());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    blocking[problem.option_set_of(i)] = problem.blocking_power(problem.pipeline().rank_of(i));
  }
  for (std::uint32_t set = 0; set < problem.option_set_count(); ++set) {
    add_ladder(problem, set, blocking[set], target, flat);
  }
}

/// Edges by position, in both directions, with their lags and flows.
void add_edges(const core::Problem& problem, const core::Certificate& certificate, FlatProblem& flat) {
  const core::Pipeline& pipeline = problem.pipeline();
  const auto edges = pipeline.edges();
  const double unit = std::ldexp(1.0, certificate.unit_exponent);
  std::vector<double> flow(edges.size(), 0);
  for (const auto& e : certificate.edges) flow[e.edge] = unit * static_cast<double>(e.flow);
  std::vector<Position> position(flat.size);
  for (Position p = 0; p < flat.size; ++p) position[flat.id[p]] = p;

  flat.in_first.assign(flat.size + 1, 0);
  flat.out_first.assign(flat.size + 1, 0);
  for (const core::Edge& e : edges) ++flat.in_first[position[e.to] + 1];
  for (Position p = 0; p < flat.size; ++p) flat.in_first[p + 1] += flat.in_first[p];
  flat.in.resize(edges.size());
  flat.in_flow.resize(edges.size());
  flat.out.reserve(edges.size());
  flat.sink_flow = flat.flow;
  const double per_second = ticks_per_second(flat);
  auto in_next = flat.in_first;
  for (Position p = 0; p < flat.size; ++p) {
    const core::ComputationId i = flat.id[p];
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      const core::Seconds lag = problem.lag(e);
      const Position to = position[edges[e].to];
      const std::uint32_t at = in_next[to]++;
      flat.out.push_back({to, lag == core::Seconds(0) ? 0 : ceil_ticks(lag, per_second)});
      flat.in[at] = {p, flat.out.back().lag};
      flat.in_flow[at] = flow[e];
      flat.sink_flow[p] -= flow[e];
      if (lag == core::Seconds(0)) continue;
      if (flat.exact_lag.empty()) flat.exact_lag.resize(edges.size());
      flat.exact_lag[at] = core::ExactTime(lag);
    }
    flat.out_first[p + 1] = static_cast<std::uint32_t>(flat.out.size());
  }
}

/// End of the last computation in ticks when every one takes its fastest option.
Ticks fastest_makespan(const FlatProblem& flat) {
  std::vector<Ticks> end(flat.size);
  Ticks makespan = 0;
  for (Position p = 0; p < flat.size; ++p) {
    Ticks start = 0;
    for (const FlatEdge& e : flat.in_edges(p)) start = std::max(start, end[e.other] + e.lag);
    end[p] = start + flat.time[flat.ladder(p).first];
    if (end[p] > 2 * flat.target) return end[p];  // far too long; going on could overflow
    makespan = std::max(makespan, end[p]);
  }
  return makespan;
}

std::unexpected<core::Error> infeasible(const core::Problem& problem, core::Seconds target) {
  const auto t_min = core::exact_timing(problem, core::fastest_choice(problem)).makespan.ceil_seconds();
  return core::fail(
      core::ErrorCode::kInfeasible,
      fmt::format("target time {} s is below T_min = {} s, the iteration time with every computation "
                  "at its fastest option",
                  target.value(), t_min.value()));
}

/// When in-edge e lets its computation start.
core::ExactTime arrival(const FlatProblem& flat, const std::vector<core::ExactTime>& end, std::uint32_t e) {
  const core::ExactTime from = end[flat.in[e].other];
  return flat.exact_lag.empty() ? from : from + flat.exact_lag[e];
}

/// Ends of all computations and their maximum, exactly.
core::ExactTime exact_ends(const FlatProblem& flat, const Rungs& rungs, std::vector<core::ExactTime>& end) {
  end.resize(flat.size);
  core::ExactTime makespan;
  for (Position p = 0; p < flat.size; ++p) {
    core::ExactTime start;
    for (std::uint32_t e = flat.in_first[p]; e < flat.in_first[p + 1]; ++e) {
      start = std::max(start, arrival(flat, end, e));
    }
    end[p] = start + flat.exact_time[rungs[p]];
    makespan = std::max(makespan, end[p]);
  }
  return makespan;
}

/// Among the computations of one exact longest path the one whose next faster rung costs least.
Position cheapest_on_longest_path(const FlatProblem& flat, const Rungs& rungs,
                                  const std::vector<core::ExactTime>& end, core::ExactTime makespan) {
  Position p = static_cast<Position>(std::ranges::find(end, makespan) - end.begin());
  Position best = p;
  double least = std::numeric_limits<double>::infinity();
  for (;;) {
    if (rungs[p] > flat.ladder(p).first) {
      const double extra = flat.cost[rungs[p] - 1] - flat.cost[rungs[p]];
      if (extra < least) {
        least = extra;
        best = p;
      }
    }
    const core::ExactTime start = end[p] - flat.exact_time[rungs[p]];
    std::uint32_t e = flat.in_first[p];
    while (e < flat.in_first[p + 1] && arrival(flat, end, e) != start) ++e;
    if (e == flat.in_first[p + 1]) return best;
    p = flat.in[e].other;
  }
}

}  // namespace

core::Result<FlatProblem> flatten(const core::Problem& problem, std::span<const core::ComputationId> order,
                                  core::Seconds target, const core::Certificate& certificate,
                                  bool self_timed) {
  // Every pipeline takes some time: a forward is never empty.
  if (target <= core::Seconds(0)) return infeasible(problem, target);
  FlatProblem flat;
  flat.size = problem.size();
  flat.id.assign(order.begin(), order.end());
  flat.set.reserve(flat.size);
  flat.flow.reserve(flat.size);
  flat.tick_exponent = std::ilogb(target.value()) + 1 - kTargetBits;
  flat.target = static_cast<Ticks>(std::ldexp(target.value(), -flat.tick_exponent));
  flat.exact_target = core::ExactTime(target);
  flat.wait_power = self_timed ? problem.total_blocking_power().value() : 0;

  add_ladders(problem, target, flat);
  const double unit = std::ldexp(1.0, certificate.unit_exponent);
  for (const core::ComputationId i : order) {
    flat.set.push_back(problem.option_set_of(i));
    flat.flow.push_back(unit * static_cast<double>(certificate.computation[i]));
    if (flat.ladders[flat.set.back()].count == 0) return infeasible(problem, target);
  }
  add_edges(problem, certificate, flat);

  const Ticks fastest = fastest_makespan(flat);
  if (fastest > flat.target) {
    Rungs rungs(flat.size);
    for (Position p = 0; p < flat.size; ++p) rungs[p] = flat.ladder(p).first;
    if (exact_makespan(flat, rungs) > flat.exact_target) return infeasible(problem, target);
    flat.target = fastest;
  }
  return flat;
}

core::ExactTime exact_makespan(const FlatProblem& flat, const Rungs& rungs) {
  std::vector<core::ExactTime> end;
  return exact_ends(flat, rungs, end);
}

double objective(const FlatProblem& flat, const Rungs& rungs) {
  double cost = 0;
  for (const std::uint32_t r : rungs) cost += flat.cost[r];
  if (flat.wait_power == 0) return cost;
  return cost + flat.wait_power * exact_makespan(flat, rungs).nearest_seconds().value();
}

core::ExactTime repair(const FlatProblem& flat, Rungs& rungs) {
  std::vector<core::ExactTime> end;
  for (;;) {
    const core::ExactTime makespan = exact_ends(flat, rungs, end);
    if (makespan <= flat.exact_target) return makespan;
    --rungs[cheapest_on_longest_path(flat, rungs, end, makespan)];
  }
}

}  // namespace perseus::solver::internal
