// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/walk.h"

#include <algorithm>

namespace perseus::solver {

const Faces& Walk::no_faces() {
  static const Faces kNone;
  return kNone;
}

Walk::Walk(const Network& network, const Optimum& optimum, const Faces& faces)
    : network_(network),
      point_time_(network.curves.all_times()),
      point_slope_(network.curves.all_slopes()),
      source_time_(optimum.node_time[network.source]),
      start_time_(optimum.node_time[network.sink]),
      sides_(optimum.sink_side),
      residual_(2 * network.arcs.size()),
      arc_(network.arcs.size()),
      halves_(network, faces, place_all(network, optimum), sides_),
      events_(network.arcs.size()) {
  const auto arcs = static_cast<ArcId>(network.arcs.size());
  for (ArcId a = 0; a < arcs; ++a) {
    const Arc& arc = network.arcs[a];
    if (arc.tail == network.source) flow_value_ += optimum.arc_flow[a];
    if (sides_[arc.tail] == sides_[arc.head]) continue;
    arc_[a].moves = sides_[arc.head] ? Motion::kShrinks : Motion::kGrows;
    touched_.push_back(a);
    open_.push_back(sides_[arc.head] ? 2 * a : 2 * a + 1);
  }
  settle();
}

/// The residuals, and the state of each arc as if it did not cross the cut.
const std::vector<std::int64_t>& Walk::place_all(const Network& network, const Optimum& optimum) {
  for (ArcId a = 0; a < arc_.size(); ++a) {
    const Arc& arc = network.arcs[a];
    place(a, arc.curve, optimum.node_time[arc.head] - optimum.node_time[arc.tail], optimum.arc_flow[a]);
  }
  return residual_;
}

void Walk::place(ArcId a, CurveId curve, std::int64_t span, std::int64_t flow) {
  ArcState& state = arc_[a];
  const std::uint32_t first = network_.curves.first(curve);
  const auto begin = point_time_.begin() + first;
  const auto above = std::upper_bound(begin, begin + network_.curves.size(curve), span);
  state.base = span;
  state.point = static_cast<std::uint32_t>(above - point_time_.begin()) - 1;
  state.at_point = point_time_[state.point] == span;
  const std::int64_t least = point_slope_[state.point];
  const std::int64_t most = !state.at_point ? least : most_at(state.point);
  residual_[2 * a] = most - flow;
  residual_[2 * a + 1] = flow - least;
}

/// The most flow at a point: the slope left of it. Slopes end with 0, so it is one that the point before does
/// not give exactly if it is its curve's first.
std::int64_t Walk::most_at(std::uint32_t point) const {
  return point == 0 || point_slope_[point - 1] == 0 ? kUnlimited : point_slope_[point - 1];
}

std::int64_t Walk::next_time() {
  return at_minimum_ ? time() : start_time_ - events_.next();
}

void Walk::advance() {
  clock_ = start_time_ - next_time();
  ++counts_.instants;
  arrived_.clear();
  events_.take(clock_, arrived_);
  for (const ArcId a : arrived_) arrive(a);
  settle();
}

/// A crossing arc has come to a point of its curve: its flow may change from now on.
void Walk::arrive(ArcId a) {
  ++counts_.events;
  ArcState& state = arc_[a];
  state.at_point = true;
  if (state.moves == Motion::kShrinks) {
    residual_[2 * a] = most_at(state.point) - point_slope_[state.point];
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

void Walk::settle() {
  while (!open_.empty()) {
    const Dart d = open_.back();
    open_.pop_back();
    resolve(d);
    if (at_minimum_) return;
  }
  for (const ArcId a : touched_) refresh(a);
  touched_.clear();
}

/// Whether residual dart d leads from S to T.
bool Walk::opens(Dart d) const {
  return residual_[d] > 0 && arc_[d / 2].moves == (d % 2 == 0 ? Motion::kShrinks : Motion::kGrows);
}

/// Each turn either augments, or lets more nodes hang by arcs that can feed them, or moves nodes so that
/// fewer darts are open than before: it ends.
void Walk::resolve(Dart d) {
  while (!at_minimum_ && opens(d)) {
    const Hindrance hindrance = find_way(d);
    if (hindrance.up == kNoDart) {
      augment();
    } else {
      leave(hindrance, d);
    }
  }
}

/// Climbs from both ends of d in turns, as most events find one end cut off close by while the other one's
/// way is as long as the pipeline. Fills way_ and room_.
Walk::Hindrance Walk::find_way(Dart d) {
  way_.assign(1, d);
  room_ = residual_[d];
  Halves::Node tail = halves_.node(halves_.from(d));
  Halves::Node head = halves_.node(halves_.to(d));
  while (tail.up != kNoDart || head.up != kNoDart) {
    if (tail.up != kNoDart) {
      const Dart down = tail.up ^ 1;
      if (residual_[down] == 0) return {tail.up, true};
      room_ = std::min(room_, residual_[down]);
      way_.push_back(down);
      tail = halves_.node(tail.parent);
    }
    if (head.up != kNoDart) {
      if (residual_[head.up] == 0) return {head.up, false};
      room_ = std::min(room_, residual_[head.up]);
      way_.push_back(head.up);
      head = halves_.node(head.parent);
    }
  }
  return {};
}

/// What hangs by the hindrance is hung where an arc of its own side can feed it. If there is none, it moves
/// to the other side, where d joins it.
void Walk::leave(Hindrance hindrance, Dart d) {
  work_ += way_.size();
  counts_.blocked_darts += way_.size();
  const std::vector<Dart>& edge = halves_.leaving(hindrance.up, !hindrance.source_side);
  counts_.edge_darts += edge.size();
  for (const Dart out : edge) {
    const Dart feeds = hindrance.source_side ? out ^ 1 : out;
    if (residual_[feeds] == 0 || arc_[out / 2].moves != Motion::kRests) continue;
    ++counts_.rehung;
    halves_.rehang(hindrance.up, out);
    return;
  }
  ++counts_.moved;
  for (const Dart out : edge) {
    Motion& moves = arc_[out / 2].moves;
    const bool later_end = hindrance.source_side ? out % 2 == 1 : out % 2 == 0;  // its head goes to T
    touched_.push_back(out / 2);
    moves = moves != Motion::kRests ? Motion::kRests : later_end ? Motion::kShrinks : Motion::kGrows;
  }
  halves_.move(hindrance.up, hindrance.source_side ? d : d ^ 1, !hindrance.source_side);
}

void Walk::augment() {
  ++counts_.augmentations;
  counts_.path_darts += way_.size();
  work_ += 2 * way_.size();
  if (room_ >= kFlowLimit) {
    at_minimum_ = true;
    return;
  }
  flow_value_ += room_;
  for (const Dart d : way_) {
    residual_[d] -= room_;
    residual_[d ^ 1] += room_;
  }
}

/// The span at the clock, by the motion until now.
std::int64_t Walk::span(const ArcState& state) const {
  switch (state.moved) {
    case Motion::kShrinks:
      return state.base - clock_;
    case Motion::kGrows:
      return state.base + clock_;
    case Motion::kRests:
      break;
  }
  return state.base;
}

/// Brings an arc up to date after its instant. One that starts to move leaves its point.
void Walk::refresh(ArcId a) {
  ++work_;
  ArcState& state = arc_[a];
  const std::int64_t now = span(state);
  state.moved = state.moves;
  if (state.moves == Motion::kRests) {
    state.base = now;
    events_.erase(a);
    return;
  }
  const bool shrinks = state.moves == Motion::kShrinks;
  state.base = shrinks ? now + clock_ : now - clock_;
  if (state.at_point) {
    // Its flow is at the bound that the segment ahead demands, or the dart would lead from S to T.
    state.at_point = false;
    if (shrinks) --state.point;
    residual_[2 * a] = 0;
    residual_[2 * a + 1] = 0;
  }
  if (shrinks) {
    events_.set(a, state.base - point_time_[state.point]);
  } else if (point_slope_[state.point] == 0) {
    events_.erase(a);  // beyond its last point
  } else {
    events_.set(a, point_time_[state.point + 1] - state.base);
  }
}

Optimum Walk::optimum_at(std::int64_t time) const {
  Optimum optimum;
  const NodeId nodes = halves_.nodes();
  std::vector<char> known(nodes, 0);
  optimum.node_time.assign(nodes, 0);
  optimum.sink_side.assign(nodes, false);
  known[network_.source] = known[network_.sink] = 1;
  optimum.node_time[network_.source] = source_time_;
  optimum.node_time[network_.sink] = time;
  optimum.sink_side[network_.sink] = true;
  std::vector<NodeId> chain;
  for (NodeId v = 0; v < nodes; ++v) {
    NodeId above = v;
    for (; known[above] == 0; above = halves_.node(above).parent) chain.push_back(above);
    for (; !chain.empty(); chain.pop_back()) {
      const NodeId u = chain.back();
      const Dart up = halves_.node(u).up;
      const std::int64_t length = span(arc_[up / 2]);  // it rests; at the minimum perhaps only from now on
      optimum.node_time[u] = optimum.node_time[above] + (up % 2 == 0 ? -length : length);
      optimum.sink_side[u] = optimum.sink_side[above];
      known[u] = 1;
      above = u;
    }
  }
  optimum.arc_flow.resize(arc_.size());
  for (ArcId a = 0; a < arc_.size(); ++a) {
    optimum.arc_flow[a] = point_slope_[arc_[a].point] + residual_[2 * a + 1];
  }
  return optimum;
}

}  // namespace perseus::solver
