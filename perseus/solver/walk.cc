// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/walk.h"

#include <algorithm>

namespace perseus::solver {
namespace {

/// std heap algorithms keep the greatest first.
constexpr auto kLater = [](const auto& a, const auto& b) { return a.clock > b.clock; };

}  // namespace

Walk::Walk(const Network& network, const Optimum& optimum)
    : network_(network),
      point_time_(network.curves.all_times()),
      point_slope_(network.curves.all_slopes()),
      start_time_(optimum.node_time[network.sink]),
      nodes_(network.nodes),
      side_(network.nodes),
      first_incident_(network.nodes + 1, 0),
      incident_(2 * network.arcs.size()),
      ends_(2 * network.arcs.size()),
      residual_(2 * network.arcs.size()),
      arc_(network.arcs.size()),
      seen_(network.nodes, 0),
      towards_(network.nodes, kNoDart) {
  for (NodeId v = 0; v < network.nodes; ++v) {
    nodes_[v].potential = optimum.node_time[v];
    side_[v] = optimum.sink_side[v] ? kSinkSide : kSourceSide;
  }
  const auto arcs = static_cast<ArcId>(network.arcs.size());
  for (ArcId a = 0; a < arcs; ++a) {
    const Arc& arc = network.arcs[a];
    ends_[2 * a] = arc.head;
    ends_[2 * a + 1] = arc.tail;
    ++first_incident_[arc.tail + 1];
    ++first_incident_[arc.head + 1];
    place(a, optimum.node_time[arc.head] - optimum.node_time[arc.tail], optimum.arc_flow[a]);
    if (arc.tail == network.source) flow_value_ += optimum.arc_flow[a];
  }
  for (NodeId v = 0; v < network.nodes; ++v) first_incident_[v + 1] += first_incident_[v];
  std::vector<std::uint32_t> fill(first_incident_.begin(), first_incident_.end() - 1);
  for (Dart d = 0; d < ends_.size(); ++d) incident_[fill[from(d)]++] = {d, to(d)};
  for (ArcId a = 0; a < arcs; ++a) {
    touched_.push_back(a);
    for (const Dart d : {2 * a, 2 * a + 1}) {
      if (residual_[d] > 0 && side_[from(d)] == kSourceSide && side_[to(d)] == kSinkSide) open_.push_back(d);
    }
  }
  settle_instant();
}

void Walk::place(ArcId a, std::int64_t span, std::int64_t flow) {
  const CurveId c = network_.arcs[a].curve;
  ArcState& state = arc_[a];
  state.first = network_.curves.first(c);
  state.last = state.first + network_.curves.size(c) - 1;
  const auto begin = point_time_.begin() + state.first;
  const auto above = std::upper_bound(begin, point_time_.begin() + state.last + 1, span);
  state.point = static_cast<std::uint32_t>(above - point_time_.begin()) - 1;
  state.at_point = point_time_[state.point] == span;
  const std::int64_t least = point_slope_[state.point];
  const std::int64_t most = !state.at_point              ? least
                            : state.point == state.first ? kUnlimited
                                                         : point_slope_[state.point - 1];
  residual_[2 * a] = most - flow;
  residual_[2 * a + 1] = flow - least;
}

std::int64_t Walk::flow_of(ArcId a) const {
  return point_slope_[arc_[a].point] + residual_[2 * a + 1];
}

void Walk::push_event(std::int64_t clock, ArcId a) {
  arc_[a].event = clock;
  arc_[a].has_event = true;
  heap_.push_back({clock, a});
  std::ranges::push_heap(heap_, kLater);
}

std::int64_t Walk::next_time() {
  while (!heap_.empty()) {
    const Event& first = heap_.front();
    if (arc_[first.arc].has_event && arc_[first.arc].event == first.clock) return start_time_ - first.clock;
    std::ranges::pop_heap(heap_, kLater);
    heap_.pop_back();
  }
  return time();
}

void Walk::advance() {
  clock_ = start_time_ - next_time();
  ++counts_.instants;
  while (!heap_.empty() && heap_.front().clock == clock_) {
    const Event event = heap_.front();
    std::ranges::pop_heap(heap_, kLater);
    heap_.pop_back();
    ArcState& state = arc_[event.arc];
    if (state.has_event && state.event == event.clock) arrive(event.arc);
  }
  settle_instant();
}

/// A crossing arc has come to a point of its curve: its flow may change from now on.
void Walk::arrive(ArcId a) {
  ++counts_.events;
  ArcState& state = arc_[a];
  state.has_event = false;
  state.at_point = true;
  if (side_[network_.arcs[a].tail] == kSourceSide) {  // it became shorter
    residual_[2 * a] = state.point == state.first ? kUnlimited - point_slope_[state.point]
                                                  : point_slope_[state.point - 1] - point_slope_[state.point];
    residual_[2 * a + 1] = 0;
    open_.push_back(2 * a);
  } else {
    residual_[2 * a] = 0;
    residual_[2 * a + 1] = point_slope_[state.point] - point_slope_[state.point + 1];
    ++state.point;
    open_.push_back(2 * a + 1);
  }
  touched_.push_back(a);
}

void Walk::settle_instant() {
  while (!open_.empty() && !at_minimum_) {
    const Dart d = open_.back();
    open_.pop_back();
    while (!at_minimum_ && residual_[d] > 0 && side_[from(d)] == kSourceSide && side_[to(d)] == kSinkSide)
      resolve(d);
  }
  if (at_minimum_) return;
  for (const NodeId v : dirty_) {
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i)
      refresh(incident_[i].dart / 2);
  }
  for (const ArcId a : touched_) refresh(a);
  dirty_.clear();
  touched_.clear();
}

/// Brings an arc's event up to date after its instant. An arc that starts to move leaves its point.
void Walk::refresh(ArcId a) {
  ++counts_.refreshed_arcs;
  ++work_;
  const NodeId tail = network_.arcs[a].tail;
  const NodeId head = network_.arcs[a].head;
  ArcState& state = arc_[a];
  if (side_[tail] == side_[head]) {
    state.has_event = false;
    return;
  }
  const bool shrinks = side_[tail] == kSourceSide;
  const std::int64_t span = time_of(head) - time_of(tail);
  if (state.at_point) {
    // Its flow is at the bound that the segment ahead demands, or the dart would lead from S to T.
    state.at_point = false;
    if (shrinks) --state.point;
    residual_[2 * a] = 0;
    residual_[2 * a + 1] = 0;
  }
  if (!shrinks && state.point == state.last) {
    state.has_event = false;
    return;
  }
  const std::int64_t way = shrinks ? span - point_time_[state.point] : point_time_[state.point + 1] - span;
  if (!state.has_event || state.event != clock_ + way) push_event(clock_ + way, a);
}

void Walk::resolve(Dart d) {
  if (!find_root<kSourceSide>(from(d))) {
    flip_searched<kSourceSide>(to(d), d);
  } else if (!find_root<kSinkSide>(to(d))) {
    flip_searched<kSinkSide>(from(d), d);
  } else {
    augment(d);
  }
}

/// Follows parents from v. True if they lead to the root; else all nodes passed have been added to met_.
template <Walk::Side side>
bool Walk::climb(NodeId v) {
  const NodeId root = side == kSourceSide ? network_.source : network_.sink;
  while (true) {
    if (v == root) return true;
    if (seen_[v] == search_) return false;
    seen_[v] = search_;
    met_.push_back(v);
    const Node& node = nodes_[v];
    if (node.parent_dart == kNoDart) return false;
    if (seen_[node.parent] != search_) towards_[node.parent] = node.parent_dart;
    v = node.parent;
    ++work_;
  }
}

/// Makes w a child of `parent`, and every node from w on towards the search's beginning a child of the one
/// before.
template <Walk::Side side>
void Walk::adopt(NodeId w, NodeId parent, Dart dart, NodeId until) {
  while (true) {
    const Dart onward = towards_[w];
    nodes_[w].parent = parent;
    nodes_[w].parent_dart = dart;
    if (w == until) return;
    parent = w;
    dart = onward;
    w = side == kSourceSide ? to(onward) : from(onward);
  }
}

/// Whether a residual path joins v and its side's root, within the side. If so the tree holds it afterwards;
/// if not, met_ holds every node of the side that has a residual path to v (source side) or from v (sink
/// side).
template <Walk::Side side>
bool Walk::find_root(NodeId start) {
  const NodeId root = side == kSourceSide ? network_.source : network_.sink;
  NodeId v = start;
  while (nodes_[v].parent_dart != kNoDart) v = nodes_[v].parent;
  if (v == root) return true;

  ++counts_.searches;
  ++search_;
  met_.clear();
  towards_[start] = kNoDart;
  if (climb<side>(start)) return true;
  for (std::size_t next = 0; next < met_.size(); ++next) {
    const NodeId w = met_[next];
    ++counts_.searched_nodes;
    for (std::uint32_t i = first_incident_[w]; i < first_incident_[w + 1]; ++i) {
      ++work_;
      const NodeId x = incident_[i].other;
      if (side_[x] != side || seen_[x] == search_) continue;
      const Dart dart = side == kSourceSide ? incident_[i].dart ^ 1 : incident_[i].dart;  // x -> w, or w -> x
      if (residual_[dart] <= 0) continue;
      towards_[x] = dart;
      const std::size_t before = met_.size();
      if (climb<side>(x)) {
        for (std::size_t k = before; k < met_.size(); ++k) seen_[met_[k]] = search_ - 1;
        met_.resize(before);
        adopt<side>(w, x, dart, start);
        return true;
      }
    }
  }
  return false;
}

/// Moves all of met_ to the other side. They hang below `next` there by `dart` and by the way the search
/// came.
template <Walk::Side side>
void Walk::flip_searched(NodeId next, Dart dart) {
  const Side other = side == kSourceSide ? kSinkSide : kSourceSide;
  for (const NodeId v : met_) {
    ++counts_.flipped_nodes;
    Node& node = nodes_[v];
    side_[v] = other;
    node.potential += other == kSinkSide ? clock_ : -clock_;
    const Dart onward = towards_[v];
    node.parent_dart = onward == kNoDart ? dart : onward;
    node.parent = onward == kNoDart ? next : other == kSinkSide ? to(onward) : from(onward);
    dirty_.push_back(v);
  }
  for (const NodeId v : met_) {  // children that stayed behind lose their parent
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
      ++work_;
      const NodeId child = incident_[i].other;
      if (side_[child] == side && nodes_[child].parent == v) nodes_[child].parent_dart = kNoDart;
    }
  }
}

void Walk::augment(Dart d) {
  ++counts_.augmentations;
  path_.clear();
  path_.push_back(d);
  for (NodeId v = from(d); v != network_.source; v = nodes_[v].parent) path_.push_back(nodes_[v].parent_dart);
  const std::size_t source_part = path_.size();
  for (NodeId v = to(d); v != network_.sink; v = nodes_[v].parent) path_.push_back(nodes_[v].parent_dart);
  std::int64_t amount = kUnlimited;
  for (const Dart p : path_) amount = std::min(amount, residual_[p]);
  counts_.path_darts += path_.size();
  work_ += path_.size();
  if (amount >= kFlowLimit) {
    at_minimum_ = true;
    return;
  }
  flow_value_ += amount;
  for (std::size_t i = 0; i < path_.size(); ++i) {
    const Dart p = path_[i];
    residual_[p] -= amount;
    residual_[p ^ 1] += amount;
    if (residual_[p] == 0 && i > 0) nodes_[i < source_part ? to(p) : from(p)].parent_dart = kNoDart;
  }
}

Optimum Walk::optimum_at(std::int64_t time) const {
  Optimum optimum;
  optimum.node_time.resize(nodes_.size());
  optimum.sink_side.resize(nodes_.size());
  for (NodeId v = 0; v < nodes_.size(); ++v) {
    optimum.sink_side[v] = side_[v] == kSinkSide;
    optimum.node_time[v] = nodes_[v].potential - (side_[v] == kSinkSide ? start_time_ - time : 0);
  }
  optimum.arc_flow.resize(arc_.size());
  for (ArcId a = 0; a < arc_.size(); ++a) optimum.arc_flow[a] = flow_of(a);
  return optimum;
}

}  // namespace perseus::solver
