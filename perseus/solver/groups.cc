// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/groups.h"

#include <algorithm>
#include <utility>

namespace perseus::solver {

Groups::Groups(const Network& network)
    : node(network.nodes),
      group(network.nodes),
      residual(2 * network.arcs.size(), 0),
      ring(2 * network.arcs.size()),
      ends_(2 * network.arcs.size()),
      first_incident_(network.nodes + 1, 0),
      incident_(2 * network.arcs.size()),
      source_(network.source),
      sink_(network.sink),
      mark_(network.nodes, 0) {
  for (NodeId v = 0; v < network.nodes; ++v) {
    node[v] = {.offset = 0, .group = v, .up = kNoDart, .next = v, .prev = v};
    group[v].member = v;
  }
  const auto arcs = static_cast<ArcId>(network.arcs.size());
  for (ArcId a = 0; a < arcs; ++a) {
    const Arc& arc = network.arcs[a];
    ends_[2 * a] = arc.head;
    ends_[2 * a + 1] = arc.tail;
    ++first_incident_[arc.tail + 1];
    ++first_incident_[arc.head + 1];
  }
  for (NodeId v = 0; v < network.nodes; ++v) first_incident_[v + 1] += first_incident_[v];
  std::vector<std::uint32_t> fill(first_incident_.begin(), first_incident_.end() - 1);
  for (Dart d = 0; d < ends_.size(); ++d) {
    incident_[fill[from(d)]++] = {d, to(d)};
    link(d, group[from(d)]);
  }
}

void Groups::link(Dart d, Group& g) {
  if (g.boundary == kNoDart) {
    ring[d] = {d, d};
    g.boundary = d;
    return;
  }
  const Dart next = g.boundary;
  const Dart prev = ring[next].prev;
  ring[d] = {next, prev};
  ring[prev].next = d;
  ring[next].prev = d;
}

void Groups::unlink(Dart d, Group& g) {
  const auto [next, prev] = ring[d];
  ring[d] = {};
  if (next == d) {
    g.boundary = kNoDart;
    return;
  }
  ring[prev].next = next;
  ring[next].prev = prev;
  if (g.boundary == d) g.boundary = next;
}

/// Turns the parents between v and its tree's root around.
void Groups::make_root(NodeId v) {
  Dart below = kNoDart;
  while (true) {
    ++work_;
    const Dart up = node[v].up;
    node[v].up = below;
    if (up == kNoDart) return;
    below = up ^ 1;
    v = to(up);
  }
}

bool Groups::is_ancestor(GroupId ancestor, GroupId g) const {
  while (group[g].parent_dart != kNoDart) {
    g = parent(group[g]);
    if (g == ancestor) return true;
  }
  return false;
}

/// Where the union of two groups hangs in the search tree: where the one hangs that does not hang below the other.
Dart Groups::merged_parent(GroupId kept, GroupId gone) const {
  for (const GroupId root : {node[source_].group, node[sink_].group}) {
    if (root == kept || root == gone) return kNoDart;
  }
  return is_ancestor(gone, kept) ? group[gone].parent_dart : group[kept].parent_dart;
}

/// Moves the members and the boundary of one group to another.
void Groups::relabel(GroupId gone, GroupId kept) {
  Group& small = group[gone];
  Group& large = group[kept];
  const std::int64_t shift = small.potential - large.potential;
  NodeId v = small.member;
  do {
    node[v].group = kept;
    node[v].offset += shift;
    v = node[v].next;
  } while (v != small.member);
  work_ += small.size;
  large.size += small.size;

  const NodeId a = large.member;
  const NodeId b = small.member;
  const NodeId after_a = node[a].next;
  const NodeId before_b = node[b].prev;
  node[a].next = b;
  node[b].prev = a;
  node[before_b].next = after_a;
  node[after_a].prev = before_b;

  if (small.boundary == kNoDart) return;
  if (large.boundary == kNoDart) {
    large.boundary = small.boundary;
    return;
  }
  const Dart c = large.boundary;
  const Dart d = small.boundary;
  const Dart after_c = ring[c].next;
  const Dart before_d = ring[d].prev;
  ring[c].next = d;
  ring[d].prev = c;
  ring[before_d].next = after_c;
  ring[after_c].prev = before_d;
}

void Groups::merge(ArcId a) {
  Dart d = 2 * a;  // leads from the group that goes to the one that stays
  if (group_from(d) == group_to(d)) return;
  if (group[group_from(d)].size > group[group_to(d)].size) d ^= 1;
  const GroupId gone = group_from(d);
  const GroupId kept = group_to(d);
  group[kept].parent_dart = merged_parent(kept, gone);
  make_root(from(d));
  node[from(d)].up = d;
  relabel(gone, kept);
  free_.push_back(gone);
  unlink(d, group[kept]);
  unlink(d ^ 1, group[kept]);
}

void Groups::append_path(NodeId first, NodeId last, std::vector<Dart>& path) {
  // Climb from both in turns; the first node that the other climb has met is where they join.
  stamp_ += 2;
  down_.clear();
  NodeId u = first;
  NodeId v = last;
  const std::size_t begin = path.size();
  mark_[u] = stamp_;
  if (u != v) mark_[v] = stamp_ + 1;
  NodeId join = u;
  while (u != v) {
    if (node[u].up != kNoDart) {
      path.push_back(node[u].up);
      u = to(node[u].up);
      join = u;
      if (mark_[u] == stamp_ + 1) break;
      mark_[u] = stamp_;
    }
    if (node[v].up != kNoDart) {
      down_.push_back(node[v].up ^ 1);
      v = to(node[v].up);
      join = v;
      if (mark_[v] == stamp_) break;
      mark_[v] = stamp_ + 1;
    }
  }
  while (path.size() > begin && to(path.back()) != join) path.pop_back();
  while (!down_.empty() && from(down_.back()) != join) down_.pop_back();
  work_ += path.size() - begin + down_.size();
  path.insert(path.end(), down_.rbegin(), down_.rend());
  ++stamp_;
}

/// Adds the tree neighbours of one node of a part.
void Groups::reach_from(std::vector<NodeId>& part, std::size_t next) {
  const NodeId v = part[next];
  const Dart up = node[v].up;
  for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
    const auto [dart, other] = incident_[i];
    if (mark_[other] == stamp_ || (dart != up && node[other].up != (dart ^ 1))) continue;
    mark_[other] = stamp_;
    part.push_back(other);
  }
  work_ += first_incident_[v + 1] - first_incident_[v];
}

/// Leaves the smaller of the two trees of a and b in part_, and no mark but its own at stamp_.
void Groups::collect_smaller(NodeId a, NodeId b) {
  part_.assign(1, a);
  other_part_.assign(1, b);
  ++stamp_;  // the trees are apart: one stamp serves both until one is complete
  mark_[a] = stamp_;
  mark_[b] = stamp_;
  for (std::size_t next = 0;; ++next) {
    if (next == part_.size()) break;
    reach_from(part_, next);
    if (next == other_part_.size()) {
      part_.swap(other_part_);
      break;
    }
    reach_from(other_part_, next);
  }
  ++stamp_;
  for (const NodeId v : part_) mark_[v] = stamp_;
}

/// A rigid dart from part_ to the rest of its group.
Dart Groups::replacement() const {
  const GroupId g = node[part_.front()].group;
  for (const NodeId v : part_) {
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
      const auto [dart, other] = incident_[i];
      if (node[other].group == g && mark_[other] != stamp_ && rigid(dart / 2)) return dart;
    }
  }
  return kNoDart;
}

/// Makes part_ a group of its own.
void Groups::separate() {
  const GroupId old = node[part_.front()].group;
  const GroupId fresh = free_.back();
  free_.pop_back();
  group[fresh] = {.potential = group[old].potential,
                  .parent_dart = kNoDart,
                  .boundary = kNoDart,
                  .member = part_.front(),
                  .size = static_cast<std::uint32_t>(part_.size()),
                  .side = group[old].side};
  group[old].size -= group[fresh].size;
  for (const NodeId v : part_) {
    if (group[old].member == v) group[old].member = node[v].next;
    node[node[v].prev].next = node[v].next;
    node[node[v].next].prev = node[v].prev;
    node[v].group = fresh;
  }
  NodeId last = part_.back();
  for (const NodeId v : part_) {
    node[v].prev = last;
    node[last].next = v;
    last = v;
  }
  for (const NodeId v : part_) {
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
      const auto [dart, other] = incident_[i];
      if (ring[dart].next != kNoDart) unlink(dart, group[old]);
      if (node[other].group == fresh) continue;
      link(dart, group[fresh]);
      if (ring[dart ^ 1].next == kNoDart) link(dart ^ 1, group[node[other].group]);
    }
  }
  work_ += 4 * part_.size();
  // The search tree's dart stays with the part that it leads to; the root of a side with its node.
  const Dart up = group[old].parent_dart;
  if (up != kNoDart) {
    const NodeId end = group[old].side == kSourceSide ? to(up) : from(up);
    if (node[end].group == fresh) std::swap(group[fresh].parent_dart, group[old].parent_dart);
  }
}

void Groups::split(ArcId a) {
  const NodeId tail = from(2 * a);
  const NodeId head = to(2 * a);
  node[node[tail].up == 2 * a ? tail : head].up = kNoDart;
  collect_smaller(tail, head);
  const Dart dart = replacement();
  if (dart == kNoDart) {
    separate();
    return;
  }
  make_root(from(dart));
  node[from(dart)].up = dart;
}

}  // namespace perseus::solver
