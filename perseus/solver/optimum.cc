// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "perseus/solver/walk.h"

namespace perseus::solver {
namespace {

std::string check_arcs(const Network& network, const Optimum& optimum) {
  std::vector<Int128> excess(network.nodes, 0);
  for (ArcId a = 0; a < network.arcs.size(); ++a) {
    const Arc& arc = network.arcs[a];
    const std::int64_t span = optimum.node_time[arc.head] - optimum.node_time[arc.tail];
    if (span < network.curves.fastest(arc.curve)) return fmt::format("arc {} is faster than it can be", a);
    const FlowRange range = network.curves.flow_range(arc.curve, span);
    const std::int64_t flow = optimum.arc_flow[a];
    if (flow < range.least || flow > range.most)
      return fmt::format("arc {} carries a flow that its span forbids", a);
    excess[arc.head] += flow;
    excess[arc.tail] -= flow;
  }
  for (NodeId v = 0; v < network.nodes; ++v) {
    if (v != network.source && v != network.sink && excess[v] != 0)
      return fmt::format("node {} loses flow", v);
  }
  return {};
}

}  // namespace

std::string check_optimum(const Network& network, const Optimum& optimum) {
  if (optimum.node_time.size() != network.nodes || optimum.sink_side.size() != network.nodes ||
      optimum.arc_flow.size() != network.arcs.size()) {
    return "it has another size than the network";
  }
  // Times below 2^62 keep all sums and differences of the walk in 64 bits.
  constexpr std::int64_t kTimeLimit = std::int64_t{1} << 62;
  for (const std::int64_t t : optimum.node_time) {
    if (t < 0 || t >= kTimeLimit) return "an event lies outside the range of times";
  }
  if (optimum.node_time[network.source] != 0) return "the source is not at time 0";
  if (optimum.sink_side[network.source] || !optimum.sink_side[network.sink])
    return "source or sink is on the wrong side";
  return check_arcs(network, optimum);
}

Optimum slowest_optimum(const Network& network) {
  Optimum optimum;
  optimum.node_time.assign(network.nodes, 0);
  optimum.arc_flow.assign(network.arcs.size(), 0);
  optimum.sink_side.assign(network.nodes, false);
  optimum.sink_side[network.sink] = true;
  for (const Arc& arc : network.arcs) {
    // Arcs are sorted by their tails, which are numbered by time: every tail is final before its arcs come.
    optimum.node_time[arc.head] = std::max(optimum.node_time[arc.head],
                                           optimum.node_time[arc.tail] + network.curves.slowest(arc.curve));
  }
  return optimum;
}

}  // namespace perseus::solver
