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
    node[v].group = v;
    group[v].root = v;
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

void Groups::attach(NodeId v, Dart up) {
  const NodeId parent = to(up);
  Node& n = node[v];
  n.up = up;
  n.parent = parent;
  n.prev_sibling = kNoNode;
  n.next_sibling = node[parent].child;
  if (n.next_sibling != kNoNode) node[n.next_sibling].prev_sibling = v;
  node[parent].child = v;
}

void Groups::detach(NodeId v) {
  Node& n = node[v];
  if (n.prev_sibling != kNoNode) {
    node[n.prev_sibling].next_sibling = n.next_sibling;
  } else {
    node[n.parent].child = n.next_sibling;
  }
  if (n.next_sibling != kNoNode) node[n.next_sibling].prev_sibling = n.prev_sibling;
  n.up = kNoDart;
  n.parent = kNoNode;
  n.next_sibling = kNoNode;
  n.prev_sibling = kNoNode;
}

/// Turns the parents between v and its tree's root around.
void Groups::make_root(NodeId v) {
  Dart down = kNoDart;  // from the node that has just been turned to v
  while (true) {
    ++work_;
    const Dart up = node[v].up;
    const NodeId parent = node[v].parent;
    if (up != kNoDart) detach(v);
    if (down != kNoDart) attach(v, down);
    if (up == kNoDart) return;
    down = up ^ 1;
    v = parent;
  }
}

/// The node after v in the tree below `root`, parents first, or kNoNode.
NodeId Groups::next_in_tree(NodeId v, NodeId root) const {
  if (node[v].child != kNoNode) return node[v].child;
  for (; v != root; v = node[v].parent) {
    if (node[v].next_sibling != kNoNode) return node[v].next_sibling;
  }
  return kNoNode;
}

bool Groups::is_ancestor(GroupId ancestor, GroupId g) const {
  while (group[g].parent_dart != kNoDart) {
    g = parent(group[g]);
    if (g == ancestor) return true;
  }
  return false;
}

/// Where the union of two groups hangs in the search tree: where the one hangs that does not hang below the
/// other.
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
  for (NodeId v = small.root; v != kNoNode; v = next_in_tree(v, small.root)) {
    node[v].group = kept;
    node[v].offset += shift;
  }
  work_ += small.size;
  large.size += small.size;
  large.flipped_in = std::max(large.flipped_in, small.flipped_in);
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
  group[gone].root = from(d);
  relabel(gone, kept);
  attach(from(d), d);
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
      u = node[u].parent;
      join = u;
      if (mark_[u] == stamp_ + 1) break;
      mark_[u] = stamp_;
    }
    if (node[v].up != kNoDart) {
      down_.push_back(node[v].up ^ 1);
      v = node[v].parent;
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

/// Puts the nodes of the smaller tree into part_; true if that is the one below `low`.
bool Groups::collect_smaller(NodeId low, NodeId root) {
  part_.clear();
  other_part_.clear();
  NodeId a = low;
  NodeId b = root;
  while (true) {
    part_.push_back(a);
    a = next_in_tree(a, low);
    if (a == kNoNode) return true;
    other_part_.push_back(b);
    b = next_in_tree(b, root);
    if (b == kNoNode) {
      part_.swap(other_part_);
      return false;
    }
  }
}

/// Makes part_ the group `fresh`.
void Groups::separate(NodeId part_root, GroupId fresh) {
  const GroupId old = node[part_root].group;
  group[fresh] = {.potential = group[old].potential,
                  .parent_dart = kNoDart,
                  .boundary = kNoDart,
                  .root = part_root,
                  .size = static_cast<std::uint32_t>(part_.size()),
                  .flipped_in = group[old].flipped_in,
                  .side = group[old].side};
  group[old].size -= group[fresh].size;
  for (const NodeId v : part_) node[v].group = fresh;
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
  const NodeId low = node[from(2 * a)].up == 2 * a ? from(2 * a) : to(2 * a);
  const GroupId old = node[low].group;
  const NodeId root = group[old].root;
  detach(low);
  const GroupId fresh = free_.back();
  free_.pop_back();
  if (collect_smaller(low, root)) {
    separate(low, fresh);
  } else {
    group[old].root = low;
    separate(root, fresh);
  }
}

}  // namespace perseus::solver
