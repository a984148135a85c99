// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/halves.h"

#include <algorithm>
#include <array>

namespace perseus::solver {
namespace {

constexpr std::uint32_t kNowhere = 0xffffffff;

}  // namespace

Halves::Halves(const Network& network, const Faces& faces, const std::vector<std::int64_t>& residual,
               std::vector<bool>& sink_side)
    : source_(network.source),
      sink_(network.sink),
      node_(network.nodes),
      ends_(2 * network.arcs.size()),
      in_tree_(network.arcs.size(), 0) {
  index(network);
  span(residual, sink_side);
  if (faces.count > 0) {
    faces_.emplace(faces, in_tree_);
  } else {
    mark_.assign(network.nodes, 0);
    kin_.resize(network.nodes);
    for (NodeId v = 0; v < network.nodes; ++v) {
      if (node_[v].up != kNoDart) attach(v, node_[v].parent);
    }
    place_.assign(network.arcs.size(), kNowhere);
    for (ArcId a = 0; a < network.arcs.size(); ++a) {
      const auto [tail, head, curve] = network.arcs[a];
      if (sink_side[tail] != sink_side[head]) toggle(sink_side[head] ? 2 * a : 2 * a + 1, true);
    }
  }
}

void Halves::index(const Network& network) {
  first_incident_.assign(network.nodes + 1, 0);
  incident_.resize(ends_.size());
  for (ArcId a = 0; a < network.arcs.size(); ++a) {
    const Arc& arc = network.arcs[a];
    ends_[2 * a] = arc.head;
    ends_[2 * a + 1] = arc.tail;
    ++first_incident_[arc.tail + 1];
    ++first_incident_[arc.head + 1];
  }
  for (NodeId v = 0; v < network.nodes; ++v) first_incident_[v + 1] += first_incident_[v];
  std::vector<std::uint32_t> fill(first_incident_.begin(), first_incident_.end() - 1);
  for (Dart d = 0; d < ends_.size(); ++d) incident_[fill[from(d)]++] = {d, to(d)};
}

/// Grows both trees at once, always by the best kind of arc that leads on (Prim's algorithm).
void Halves::span(const std::vector<std::int64_t>& residual, std::vector<bool>& sink_side) {
  struct Fringe {
    std::vector<Dart> darts;
    std::size_t next = 0;
  };
  std::array<Fringe, 4> fringe;
  std::vector<bool> hangs(node_.size(), false);
  const auto add = [&](NodeId v) {
    hangs[v] = true;
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
      const auto [d, other] = incident_[i];
      if (hangs[other]) continue;
      const bool crosses = sink_side[v] != sink_side[other];
      const bool rigid = residual[d] > 0 && residual[d ^ 1] > 0;
      const bool feeds = residual[sink_side[v] ? d ^ 1 : d] > 0;
      const std::size_t kind = crosses ? 3 : rigid ? 0 : feeds ? 1 : 2;
      fringe[kind].darts.push_back(d);
    }
  };
  add(source_);
  add(sink_);
  while (true) {
    std::size_t kind = 0;
    while (kind < fringe.size() && fringe[kind].next == fringe[kind].darts.size()) ++kind;
    if (kind == fringe.size()) return;
    const Dart d = fringe[kind].darts[fringe[kind].next++];
    const NodeId v = to(d);
    if (hangs[v]) continue;
    sink_side[v] = sink_side[from(d)];
    node_[v] = {d ^ 1, from(d)};
    in_tree_[d / 2] = 1;
    add(v);
  }
}

const std::vector<Dart>& Halves::leaving(Dart p, bool sink_side) {
  leaving_.assign(1, p);
  if (faces_) {
    faces_->append_leaving(p, leaving_);
  } else {
    go_through(p, sink_side);
  }
  work_ += leaving_.size();
  return leaving_;
}

void Halves::attach(NodeId v, NodeId parent) {
  Kin& kin = kin_[v];
  kin.prev = kNoNode;
  kin.next = kin_[parent].child;
  if (kin.next != kNoNode) kin_[kin.next].prev = v;
  kin_[parent].child = v;
}

void Halves::detach(NodeId v, NodeId parent) {
  const Kin& kin = kin_[v];
  (kin.prev != kNoNode ? kin_[kin.prev].next : kin_[parent].child) = kin.next;
  if (kin.next != kNoNode) kin_[kin.next].prev = kin.prev;
}

/// The node after v below `top`, parents first, or kNoNode.
NodeId Halves::next_below(NodeId v, NodeId top) const {
  if (kin_[v].child != kNoNode) return kin_[v].child;
  for (; v != top; v = node_[v].parent) {
    if (kin_[v].next != kNoNode) return kin_[v].next;
  }
  return kNoNode;
}

/// Goes through what hangs below `top` and through the rest below `root` in turns until one of them ends,
/// which is then part_. Whether that is the one below `top`.
bool Halves::collect_smaller(NodeId top, NodeId root) {
  part_.clear();
  rest_.clear();
  NodeId a = top;
  NodeId b = root;
  while (true) {
    part_.push_back(a);
    a = next_below(a, top);
    if (a == kNoNode) return true;
    rest_.push_back(b);
    b = next_below(b, root);
    if (b == kNoNode) {
      part_.swap(rest_);
      return false;
    }
  }
}

void Halves::go_through(Dart p, bool sink_side) {
  detach(from(p), to(p));
  const bool is_part = collect_smaller(from(p), sink_side ? sink_ : source_);
  work_ += 4 * part_.size();
  if (++marks_ == 0) {
    std::ranges::fill(mark_, 0);
    marks_ = 1;
  }
  for (const NodeId v : part_) mark_[v] = marks_;
  for (const NodeId v : part_) {
    for (std::uint32_t i = first_incident_[v]; i < first_incident_[v + 1]; ++i) {
      const auto [d, other] = incident_[i];
      if (mark_[other] == marks_ || d / 2 == p / 2) continue;
      if (is_part) {
        leaving_.push_back(d);
      } else if (place_[d / 2] == kNowhere) {
        leaving_.push_back(d ^ 1);  // from the part to the rest
      }
    }
  }
  if (is_part) return;
  // And what crosses the cut, but not from the rest.
  work_ += crossing_.size();
  for (const Dart d : crossing_) {
    const Dart out = sink_side ? d ^ 1 : d;
    if (mark_[from(out)] != marks_) leaving_.push_back(out);
  }
}

void Halves::rehang(Dart p, Dart d) {
  exchange(p, d);
}

void Halves::move(Dart p, Dart d, bool sink_side) {
  if (!faces_) {
    for (const Dart out : leaving_) toggle(out, sink_side);
  }
  exchange(p, d);
}

/// The arc of a dart that leaves a part which changes sides crosses the cut from now on, or no more.
void Halves::toggle(Dart out, bool sink_side) {
  std::uint32_t& place = place_[out / 2];
  if (place == kNowhere) {
    place = static_cast<std::uint32_t>(crossing_.size());
    crossing_.push_back(sink_side ? out : out ^ 1);
    return;
  }
  crossing_[place] = crossing_.back();
  place_[crossing_[place] / 2] = place;
  place = kNowhere;
  crossing_.pop_back();
}

void Halves::exchange(Dart p, Dart d) {
  in_tree_[p / 2] = 0;
  in_tree_[d / 2] = 1;
  // Turn the parents between the new arc's end and the old one's around.
  const NodeId top = from(p);
  NodeId v = from(d);
  for (Dart up = d;;) {
    ++work_;
    const Node old = node_[v];
    node_[v] = {up, to(up)};
    if (!faces_) {
      if (v != top) detach(v, old.parent);
      attach(v, to(up));
    }
    if (v == top) break;
    up = old.up ^ 1;
    v = old.parent;
  }
  if (faces_) faces_->exchange(p, d);
}

}  // namespace perseus::solver
