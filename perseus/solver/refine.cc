// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/refine.h"

#include <algorithm>
#include <array>
#include <vector>

namespace perseus::solver {
namespace {

/// Longer than any way that a node must go (times are below 2^62), short enough that a clock can reach it.
constexpr std::int64_t kFar = std::int64_t{1} << 60;
/// Flow on the arc that holds the iteration time: more than any flow that may have to turn back on it.
constexpr std::int64_t kGround = std::int64_t{1} << 60;

/// The network with a source and a sink of what is out of balance.
class Repair {
 public:
  Repair(const Network& network, const Optimum& rough)
      : network_(network), extended_(network), start_(rough), time_(rough.node_time[network.sink]) {
    extended_.source = network.nodes;
    extended_.sink = network.nodes + 1;
    extended_.nodes = network.nodes + 2;
    start_.node_time.push_back(0);
    start_.node_time.push_back(time_);
    start_.sink_side.assign(extended_.nodes, false);
    start_.sink_side[extended_.sink] = true;
  }

  core::Result<Optimum> run() {
    const std::vector<std::int64_t> excess = clamp();
    hold_time();
    for (NodeId v = 0; v < network_.nodes; ++v) balance(v, excess[v]);
    if (to_move_ > 0) {
      Walk walk(extended_, start_);
      while (!walk.at_minimum() && walk.slope() < to_move_) walk.advance();
      start_ = walk.optimum_at(walk.time());
    }
    return checked();
  }

 private:
  /// Moves each flow into its range; answers what then enters each node less what leaves it, but for the
  /// source and the sink, which the arc that holds the time joins: all that they lack together stands at the
  /// sink.
  std::vector<std::int64_t> clamp() {
    std::vector<std::int64_t> excess(network_.nodes, 0);
    for (ArcId a = 0; a < network_.arcs.size(); ++a) {
      const Arc& arc = network_.arcs[a];
      const std::int64_t span = start_.node_time[arc.head] - start_.node_time[arc.tail];
      const FlowRange range = network_.curves.flow_range(arc.curve, span);
      std::int64_t& flow = start_.arc_flow[a];
      flow = std::clamp(flow, range.least, range.most);
      excess[arc.head] += flow;
      excess[arc.tail] -= flow;
    }
    excess[network_.sink] += excess[network_.source];
    excess[network_.source] = 0;
    return excess;
  }

  void add_arc(NodeId tail, NodeId head, std::span<const std::int64_t> times,
               std::span<const std::int64_t> slopes, std::int64_t flow) {
    extended_.arcs.push_back({tail, head, extended_.curves.add(times, slopes)});
    start_.arc_flow.push_back(flow);
  }

  void hold_time() {
    const std::int64_t zero = 0;
    add_arc(network_.source, network_.sink, {&time_, 1}, {&zero, 1}, kGround);
  }

  void balance(NodeId v, std::int64_t excess) {
    if (excess == 0) return;
    const bool feed = excess > 0;
    const std::int64_t span = feed ? start_.node_time[v] : time_ - start_.node_time[v];
    const std::array<std::int64_t, 2> times{span - kFar, span};
    const std::array<std::int64_t, 2> slopes{feed ? excess : -excess, 0};
    if (feed) {
      to_move_ += excess;
      add_arc(extended_.source, v, times, slopes, 0);
    } else {
      add_arc(v, extended_.sink, times, slopes, 0);
    }
  }

  /// Drops what was added and checks that it is an optimum.
  core::Result<Optimum> checked() {
    const std::int64_t zero = start_.node_time[network_.source];
    start_.node_time.resize(network_.nodes);
    for (std::int64_t& t : start_.node_time) t -= zero;
    start_.arc_flow.resize(network_.arcs.size());
    start_.sink_side.assign(network_.nodes, false);
    start_.sink_side[network_.sink] = true;
    const std::string fault = check_optimum(network_, start_);
    if (!fault.empty() || start_.node_time[network_.sink] != time_) {
      return core::fail(core::ErrorCode::kInternal, "a refined optimum is none: " + fault);
    }
    return std::move(start_);
  }

  const Network& network_;
  Network extended_;
  Optimum start_;
  std::int64_t time_ = 0;
  std::int64_t to_move_ = 0;
};

}  // namespace

Network coarsened(const Network& network, std::uint32_t step) {
  Network coarse = network;
  coarse.curves = Curves();
  for (CurveId c = 0; c < network.curves.count(); ++c) {
    static_cast<void>(coarse.curves.add_coarse(network.curves, c, step));
  }
  return coarse;
}

core::Result<Optimum> refine(const Network& network, const Optimum& rough) {
  return Repair(network, rough).run();
}

}  // namespace perseus::solver
