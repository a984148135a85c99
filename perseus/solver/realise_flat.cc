// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_flat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace perseus::solver::internal {
namespace {

/// A target takes this many bits in ticks: two of them still add up without overflow.
constexpr int kTargetBits = 60;

Ticks ceil_ticks(core::Seconds t, int tick_exponent) {
  return static_cast<Ticks>(std::ceil(std::ldexp(t.value(), -tick_exponent)));
}

/// Sorts one set's options into rungs and appends them. Options slower than the target are left out.
void add_ladder(const core::Problem& problem, std::uint32_t set, core::Watts blocking, core::Seconds target,
                FlatProblem& flat) {
  const auto options = problem.option_set(set);
  const auto cost = [&](const core::Option& o) { return (o.energy - blocking * o.time).value(); };
  std::vector<std::uint32_t> order;
  for (std::uint32_t k = 0; k < options.size(); ++k) {
    if (options[k].time <= target) order.push_back(k);
  }
  std::ranges::sort(order, [&](std::uint32_t a, std::uint32_t b) {
    if (options[a].time != options[b].time) return options[a].time < options[b].time;
    const double cost_a = cost(options[a]);
    const double cost_b = cost(options[b]);
    return cost_a != cost_b ? cost_a < cost_b : a < b;
  });
  Ladder ladder{.first = static_cast<std::uint32_t>(flat.time.size()), .count = 0};
  double cheapest = std::numeric_limits<double>::infinity();
  for (const std::uint32_t k : order) {
    const double c = cost(options[k]);
    if (c >= cheapest) continue;
    cheapest = c;
    flat.time.push_back(ceil_ticks(options[k].time, flat.tick_exponent));
    flat.cost.push_back(c);
    flat.option.push_back(k);
    flat.exact_time.emplace_back(options[k].time);
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
  const auto edges = problem.pipeline().edges();
  const double unit = std::ldexp(1.0, certificate.unit_exponent);
  std::vector<double> flow(edges.size(), 0);
  for (const auto& e : certificate.edges) flow[e.edge] = unit * static_cast<double>(e.flow);
  std::vector<Position> position(flat.size);
  for (Position p = 0; p < flat.size; ++p) position[flat.id[p]] = p;

  flat.in_first.assign(flat.size + 1, 0);
  flat.out_first.assign(flat.size + 1, 0);
  for (const core::Edge& e : edges) {
    ++flat.in_first[position[e.to] + 1];
    ++flat.out_first[position[e.from] + 1];
  }
  for (Position p = 0; p < flat.size; ++p) {
    flat.in_first[p + 1] += flat.in_first[p];
    flat.out_first[p + 1] += flat.out_first[p];
  }
  flat.in.resize(edges.size());
  flat.exact_lag.resize(edges.size());
  flat.out.resize(edges.size());
  auto in_next = flat.in_first;
  auto out_next = flat.out_first;
  flat.sink_flow = flat.flow;
  for (core::EdgeId e = 0; e < edges.size(); ++e) {
    const Position from = position[edges[e].from];
    const Position to = position[edges[e].to];
    const core::Seconds seconds = edges[e].cross_rank ? problem.lag(e) : core::Seconds(0);
    const Ticks lag = ceil_ticks(seconds, flat.tick_exponent);
    flat.exact_lag[in_next[to]] = core::ExactTime(seconds);
    flat.in[in_next[to]++] = {from, lag, flow[e]};
    flat.out[out_next[from]++] = {to, lag, flow[e]};
    flat.sink_flow[from] -= flow[e];
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

/// Ends of all computations and their maximum, exactly.
core::ExactTime exact_ends(const FlatProblem& flat, const Rungs& rungs, std::vector<core::ExactTime>& end) {
  end.resize(flat.size);
  core::ExactTime makespan;
  for (Position p = 0; p < flat.size; ++p) {
    core::ExactTime start;
    for (std::uint32_t e = flat.in_first[p]; e < flat.in_first[p + 1]; ++e) {
      start = std::max(start, end[flat.in[e].other] + flat.exact_lag[e]);
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
    while (e < flat.in_first[p + 1] && end[flat.in[e].other] + flat.exact_lag[e] != start) ++e;
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

void repair(const FlatProblem& flat, Rungs& rungs) {
  std::vector<core::ExactTime> end;
  for (;;) {
    const core::ExactTime makespan = exact_ends(flat, rungs, end);
    if (makespan <= flat.exact_target) return;
    --rungs[cheapest_on_longest_path(flat, rungs, end, makespan)];
  }
}

}  // namespace perseus::solver::internal
