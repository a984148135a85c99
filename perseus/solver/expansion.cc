// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <ranges>

#include "perseus/solver/network.h"
#include "perseus/solver/routing.h"

namespace perseus::solver {

/// The cheapest share of the first of two arcs in series: both pass their segments in the order of falling
/// slopes.
std::int64_t Expansion::first_share(const Series& series, std::int64_t span) const {
  const auto t1 = curves_.times(series.first);
  const auto s1 = curves_.slopes(series.first);
  const auto t2 = curves_.times(series.second);
  const auto s2 = curves_.slopes(series.second);
  std::int64_t rest = span - t1.front() - t2.front();
  std::size_t i = 0;
  std::size_t k = 0;
  while (rest > 0 && (i + 1 < t1.size() || k + 1 < t2.size())) {
    if (s1[i] >= s2[k]) {
      const std::int64_t length = t1[i + 1] - t1[i];
      if (length >= rest) return t1[i] + rest;
      rest -= length;
      ++i;
    } else {
      rest -= std::min(rest, t2[k + 1] - t2[k]);
      ++k;
    }
  }
  return t1[i];
}

std::vector<std::int64_t> Expansion::event_times(std::span<const std::int64_t> node_time) const {
  std::vector<std::int64_t> time(anchor_.size(), 0);
  for (std::size_t v = 0; v < time.size(); ++v) {
    if (node_[v] != kNoNode) time[v] = node_time[node_[v]];
  }
  const auto at = [&](std::uint32_t event) { return time[anchor_[event].event] + anchor_[event].offset; };
  for (const Series& s : series_ | std::views::reverse) {
    time[s.middle] = at(s.tail) + first_share(s, at(s.head) - at(s.tail));
  }
  std::vector<std::int64_t> all(time.size());
  for (std::uint32_t v = 0; v < all.size(); ++v) all[v] = at(v);
  return all;
}

core::Result<Expansion::Detail> Expansion::expand(const core::Problem& problem, const Scaled& scaled,
                                                  std::span<const std::int64_t> node_time,
                                                  std::span<const std::int64_t> arc_flow) const {
  const core::Pipeline& pipeline = problem.pipeline();
  std::vector<std::int64_t> flow(working_arcs_, 0);
  for (ArcId a = 0; a < live_arc_.size(); ++a) flow[live_arc_[a]] = arc_flow[a];
  for (const Series& s : series_ | std::views::reverse) {
    flow[s.first_arc] = flow[s.whole_arc];
    flow[s.second_arc] = flow[s.whole_arc];
  }
  const std::vector<std::int64_t> time = event_times(node_time);

  Detail detail;
  detail.duration.resize(problem.size());
  for (core::ComputationId i = 0; i < problem.size(); ++i)
    detail.duration[i] = time[3 + 2 * i] - time[2 + 2 * i];

  core::Certificate& certificate = detail.certificate;
  certificate.unit_exponent = scaled.power_exponent;
  flow.resize(problem.size());  // computations come first among the working arcs
  certificate.computation = std::move(flow);
  const auto edges = pipeline.edges();
  std::vector<bool> tight(edges.size());
  for (core::EdgeId e = 0; e < edges.size(); ++e) {
    tight[e] = time[2 + 2 * edges[e].to] - time[3 + 2 * edges[e].from] == scaled.lag[e];
  }
  const std::vector<std::int64_t> routed = route(pipeline, tight, certificate.computation);
  if (routed.size() != edges.size()) {
    return core::fail(core::ErrorCode::kInternal,
                      "the flow of an optimum could not be routed over the edges");
  }
  certificate.edges.reserve(
      static_cast<std::size_t>(std::ranges::count_if(routed, [](std::int64_t f) { return f > 0; })));
  std::vector<bool> fed(problem.size(), false);
  for (core::EdgeId e = 0; e < edges.size(); ++e) {
    fed[edges[e].to] = true;
    if (routed[e] > 0) certificate.edges.push_back({e, routed[e]});
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (!fed[i]) certificate.value += certificate.computation[i];
  }
  return detail;
}

}  // namespace perseus::solver
