// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/walk.h"

#include <algorithm>

namespace perseus::solver {
Walk::Walk(const Network& network, const Optimum& optimum)
    : point_time_(network.curves.all_times()),
      point_slope_(network.curves.all_slopes()),
      start_time_(optimum.node_time[network.sink]),
      source_(network.source),
      sink_(network.sink),
      groups_(network),
      arc_(network.arcs.size()),
      events_(network.arcs.size()),
      seen_(network.nodes, 0),
      towards_(network.nodes, kNoDart) {
  for (NodeId v = 0; v < network.nodes; ++v) {
    groups_.group[v].potential = optimum.node_time[v];
    groups_.group[v].side = optimum.sink_side[v] ? kSinkSide : kSourceSide;
  }
  const auto arcs = static_cast<ArcId>(network.arcs.size());
  for (ArcId a = 0; a < arcs; ++a) {
    const Arc& arc = network.arcs[a];
    arc_[a].first = network.curves.first(arc.curve);
    arc_[a].last = arc_[a].first + network.curves.size(arc.curve) - 1;
    place(a, optimum.node_time[arc.head] - optimum.node_time[arc.tail], optimum.arc_flow[a]);
    if (arc.tail == network.source) flow_value_ += optimum.arc_flow[a];
    if (crosses(a)) {
      touched_.push_back(a);
      open_.push_back(side_of(arc.tail) == kSourceSide ? 2 * a : 2 * a + 1);
    } else if (groups_.rigid(a)) {
      groups_.merge(a);
    }
  }
  settle();
}

void Walk::place(ArcId a, std::int64_t span, std::int64_t flow) {
  ArcState& state = arc_[a];
  const auto begin = point_time_.begin() + state.first;
  const auto above = std::upper_bound(begin, point_time_.begin() + state.last + 1, span);
  state.point = static_cast<std::uint32_t>(above - point_time_.begin()) - 1;
  state.at_point = point_time_[state.point] == span;
  const std::int64_t least = point_slope_[state.point];
  const std::int64_t most = !state.at_point              ? least
                            : state.point == state.first ? kUnlimited
                                                         : point_slope_[state.point - 1];
  groups_.residual[2 * a] = most - flow;
  groups_.residual[2 * a + 1] = flow - least;
}

std::int64_t Walk::next_time() {
  if (at_minimum_) return time();
  while (!crosses(events_.front().arc)) events_.erase(events_.front().arc);  // it came to rest meanwhile
  return start_time_ - events_.front().clock;
}

void Walk::advance() {
  clock_ = start_time_ - next_time();
  ++counts_.instants;
  begin_instant();
  while (!events_.empty() && events_.front().clock == clock_) {
    const ArcId a = events_.front().arc;
    events_.erase(a);
    if (crosses(a)) arrive(a);
  }
  settle();
}

void Walk::begin_instant() {
  if (++instant_ != 0) return;
  instant_ = 1;
  for (Groups::Group& g : groups_.group) g.flipped_in = 0;
}

/// A crossing arc has come to a point of its curve: its flow may change from now on.
void Walk::arrive(ArcId a) {
  ++counts_.events;
  ArcState& state = arc_[a];
  state.at_point = true;
  std::int64_t* residual = &groups_.residual[2 * a];
  if (side_of(groups_.from(2 * a)) == kSourceSide) {  // it became shorter
    residual[0] = state.point == state.first ? kUnlimited - point_slope_[state.point]
                                             : point_slope_[state.point - 1] - point_slope_[state.point];
    residual[1] = 0;
    open_.push_back(2 * a);
  } else {
    residual[0] = 0;
    residual[1] = point_slope_[state.point] - point_slope_[state.point + 1];
    ++state.point;
    open_.push_back(2 * a + 1);
  }
  touched_.push_back(a);
}

void Walk::settle() {
  while (!open_.empty()) {
    const Dart d = open_.back();
    open_.pop_back();
    while (groups_.residual[d] > 0 && side_of(groups_.from(d)) == kSourceSide &&
           side_of(groups_.to(d)) == kSinkSide) {
      resolve(d);
      if (at_minimum_) return;
    }
    // Its ends may have come to one side with flow left to give and to take.
    if (groups_.rigid(d / 2) && !crosses(d / 2)) groups_.merge(d / 2);
  }
  for (const NodeId v : dirty_) refresh_boundary(groups_.node[v].group);
  for (const ArcId a : touched_) {
    if (crosses(a)) refresh(a);
  }
  dirty_.clear();
  touched_.clear();
}

/// Brings up to date all arcs that lead from a group across the cut.
void Walk::refresh_boundary(GroupId g) {
  Groups::Group& group = groups_.group[g];
  if (group.flipped_in != instant_) return;  // its turn has been
  group.flipped_in = 0;
  Dart d = group.boundary;
  if (d == kNoDart) return;
  const Dart end = d;
  do {
    if (side_of(groups_.to(d)) != group.side) {
      refresh(d / 2);
    } else {
      events_.erase(d / 2);
    }
    d = groups_.ring[d].next;
  } while (d != end);
}

/// Brings a crossing arc's event up to date after its instant. An arc that starts to move leaves its point.
void Walk::refresh(ArcId a) {
  ++work_;
  ArcState& state = arc_[a];
  const NodeId tail = groups_.from(2 * a);
  const NodeId head = groups_.to(2 * a);
  const bool shrinks = side_of(tail) == kSourceSide;
  const std::int64_t span = time_of(head) - time_of(tail);
  if (state.at_point) {
    // Its flow is at the bound that the segment ahead demands, or the dart would lead from S to T.
    state.at_point = false;
    if (shrinks) --state.point;
    groups_.residual[2 * a] = 0;
    groups_.residual[2 * a + 1] = 0;
  }
  if (!shrinks && state.point == state.last) {
    events_.erase(a);
    return;
  }
  const std::int64_t way = shrinks ? span - point_time_[state.point] : point_time_[state.point + 1] - span;
  events_.set(a, clock_ + way);
}

void Walk::resolve(Dart d) {
  while (true) {
    switch (loose_end(d)) {
      case End::kTail:
        if (search<kSourceSide>(groups_.group_from(d))) break;
        flip_searched<kSourceSide>(d);
        return;
      case End::kHead:
        if (search<kSinkSide>(groups_.group_to(d))) break;
        flip_searched<kSinkSide>(d);
        return;
      case End::kNone:
        augment(d);
        return;
    }
  }
}

/// The end of d from which parents do not lead to its side's root. Most events cut one end off close by while
/// the other one's way is as long as the pipeline: both are climbed in turns.
Walk::End Walk::loose_end(Dart d) const {
  const GroupId source = root<kSourceSide>();
  const GroupId sink = root<kSinkSide>();
  GroupId tail = groups_.group_from(d);
  GroupId head = groups_.group_to(d);
  while (tail != source || head != sink) {
    if (tail != source) {
      const Dart up = groups_.group[tail].parent_dart;
      if (up == kNoDart) return End::kTail;
      tail = groups_.group_from(up);
    }
    if (head != sink) {
      const Dart up = groups_.group[head].parent_dart;
      if (up == kNoDart) return End::kHead;
      head = groups_.group_to(up);
    }
  }
  return End::kNone;
}

/// Follows parents from g. True if they lead to the root; else all groups passed have been added to met_.
template <Side side>
bool Walk::climb(GroupId g) {
  while (true) {
    if (g == root<side>()) return true;
    if (seen_[g] == search_) return false;
    seen_[g] = search_;
    met_.push_back(g);
    const Groups::Group& group = groups_.group[g];
    if (group.parent_dart == kNoDart) return false;
    g = groups_.parent(group);
    if (seen_[g] != search_) towards_[g] = group.parent_dart;
    ++work_;
  }
}

/// Makes w a child by `dart`, and every group from w on towards the search's beginning a child of the one
/// before.
template <Side side>
void Walk::adopt(GroupId w, Dart dart, GroupId until) {
  while (true) {
    const Dart onward = towards_[w];
    groups_.group[w].parent_dart = dart;
    if (w == until) return;
    dart = onward;
    w = side == kSourceSide ? groups_.group_to(onward) : groups_.group_from(onward);
  }
}

/// Whether a residual path joins g and its side's root, within the side. If so the search tree holds it
/// afterwards; if not, met_ holds every group of the side that has a residual path to g (source side) or from
/// g (sink side), and no other group has one of them as its parent.
template <Side side>
bool Walk::search(GroupId start) {
  ++counts_.searches;
  ++search_;
  met_.clear();
  towards_[start] = kNoDart;
  if (climb<side>(start)) return true;
  for (std::size_t next = 0; next < met_.size(); ++next) {
    if (search_from<side>(met_[next], start)) return true;
  }
  return false;
}

/// Looks at what leads into w (source side) or out of it (sink side).
template <Side side>
bool Walk::search_from(GroupId w, GroupId start) {
  ++counts_.searched_groups;
  Groups::Group& group = groups_.group[w];
  Dart leaves = group.boundary;
  if (leaves == kNoDart) return false;
  const Dart end = groups_.ring[leaves].prev;
  for (bool last = false; !last;) {
    ++work_;
    const Dart d = leaves;
    last = d == end;
    leaves = groups_.ring[d].next;
    const GroupId x = groups_.group_to(d);
    if (x == w) {
      groups_.unlink(d, group);
      continue;
    }
    if (groups_.group[x].side != side || seen_[x] == search_) continue;
    const Dart dart = side == kSourceSide ? d ^ 1 : d;  // x -> w, or w -> x
    Groups::Group& other = groups_.group[x];
    if (other.parent_dart == (dart ^ 1)) other.parent_dart = kNoDart;  // a child of w has no root either
    if (groups_.residual[dart] <= 0) continue;
    towards_[x] = dart;
    if (climb<side>(x)) {
      adopt<side>(w, dart, start);
      return true;
    }
  }
  return false;
}

/// Moves all of met_ to the other side. They hang there by `dart` and by the way the search came.
template <Side side>
void Walk::flip_searched(Dart dart) {
  constexpr Side kOther = side == kSourceSide ? kSinkSide : kSourceSide;
  counts_.flipped_groups += met_.size();
  for (const GroupId g : met_) {
    Groups::Group& group = groups_.group[g];
    group.side = kOther;
    group.potential += kOther == kSinkSide ? clock_ : -clock_;
    group.parent_dart = towards_[g] == kNoDart ? dart : towards_[g];
    group.flipped_in = instant_;
    dirty_.push_back(group.root);
  }
}

/// The residual path from the source over d to the sink: along the search trees from group to group (links_),
/// along each group's own tree inside it (inner_).
void Walk::collect_path(Dart d) {
  inner_.clear();
  links_.assign(1, d);
  NodeId exit = groups_.from(d);
  for (GroupId g = groups_.node[exit].group; g != root<kSourceSide>();) {
    const Dart in = groups_.group[g].parent_dart;
    groups_.append_path(groups_.to(in), exit, inner_);
    links_.push_back(in);
    exit = groups_.from(in);
    g = groups_.node[exit].group;
  }
  groups_.append_path(source_, exit, inner_);
  NodeId entry = groups_.to(d);
  for (GroupId g = groups_.node[entry].group; g != root<kSinkSide>();) {
    const Dart out = groups_.group[g].parent_dart;
    groups_.append_path(entry, groups_.from(out), inner_);
    links_.push_back(out);
    entry = groups_.to(out);
    g = groups_.node[entry].group;
  }
  groups_.append_path(entry, sink_, inner_);
}

void Walk::augment(Dart d) {
  ++counts_.augmentations;
  collect_path(d);
  std::int64_t amount = kUnlimited;
  for (const Dart p : inner_) amount = std::min(amount, groups_.residual[p]);
  for (const Dart p : links_) amount = std::min(amount, groups_.residual[p]);
  const std::size_t length = inner_.size() + links_.size();
  counts_.path_darts += length;
  work_ += length;
  if (amount >= kFlowLimit) {
    at_minimum_ = true;
    return;
  }
  flow_value_ += amount;
  used_up_.clear();
  for (const Dart p : inner_) {
    if (push(p, amount) == 0) used_up_.push_back(p);
  }
  for (const Dart p : used_up_) part(p);
  for (const Dart p : links_) {
    if (push(p, amount) == 0) cut_link(p);
  }
  for (const Dart p : links_) {
    if (!groups_.rigid(p / 2) || crosses(p / 2)) continue;
    ++counts_.merges;
    groups_.merge(p / 2);
  }
}

/// Answers what may still pass.
std::int64_t Walk::push(Dart p, std::int64_t amount) {
  groups_.residual[p ^ 1] += amount;
  return groups_.residual[p] -= amount;
}

/// A tree arc on the path was used up.
void Walk::part(Dart p) {
  ++counts_.splits;
  groups_.split(p / 2);
  for (const NodeId v : {groups_.from(p), groups_.to(p)}) {
    if (groups_.group[groups_.node[v].group].flipped_in == instant_) dirty_.push_back(v);
  }
}

/// An arc between groups was used up: what hung by it hangs no more.
void Walk::cut_link(Dart p) {
  for (const GroupId g : {groups_.group_to(p), groups_.group_from(p)}) {
    if (groups_.group[g].parent_dart == p) groups_.group[g].parent_dart = kNoDart;
  }
}

Optimum Walk::optimum_at(std::int64_t time) const {
  Optimum optimum;
  const std::size_t nodes = groups_.node.size();
  optimum.node_time.resize(nodes);
  optimum.sink_side.resize(nodes);
  for (NodeId v = 0; v < nodes; ++v) {
    const bool moves = side_of(v) == kSinkSide;
    optimum.sink_side[v] = moves;
    optimum.node_time[v] = time_of(v) - (moves ? this->time() - time : 0);
  }
  optimum.arc_flow.resize(arc_.size());
  for (ArcId a = 0; a < arc_.size(); ++a) {
    optimum.arc_flow[a] = point_slope_[arc_[a].point] + groups_.residual[2 * a + 1];
  }
  return optimum;
}

}  // namespace perseus::solver
