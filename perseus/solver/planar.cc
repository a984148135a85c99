// SPDX-License-Identifier: Apache-2.0
//
// The left-right criterion (de Fraysseix and Rosenstiehl; U. Brandes, The Left-Right Planarity Test, 2009): a
// graph is planar exactly if the back edges of a depth-first search can be shared out to a left and a right
// side so that no two on one side cross. Whatever this finds is counted again by Euler's formula, so a fault
// here could cost speed, never an answer.
#include "perseus/solver/planar.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace perseus::solver {
namespace {

using Edge = std::uint32_t;
constexpr std::uint32_t kNone = kNoDart;

/// The graph as darts: edge e is darts 2e and 2e + 1.
struct Graph {
  std::uint32_t nodes = 0;
  std::vector<NodeId> to;  ///< per dart
  [[nodiscard]] NodeId from(Dart d) const { return to[d ^ 1]; }
  [[nodiscard]] std::size_t edges() const { return to.size() / 2; }
};

/// Lists of darts per node, in one array.
class Lists {
 public:
  explicit Lists(std::uint32_t nodes) : first_(nodes + 1, 0) {}
  /// Sorts `darts` into the lists by `node`, each in the order given.
  template <class NodeOf>
  void fill(const std::vector<Dart>& darts, NodeOf node) {
    std::ranges::fill(first_, 0);
    for (const Dart d : darts) ++first_[node(d) + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<std::uint32_t> place(first_.begin(), first_.end() - 1);
    dart_.resize(darts.size());
    for (const Dart d : darts) dart_[place[node(d)]++] = d;
  }
  [[nodiscard]] std::uint32_t begin(NodeId v) const { return first_[v]; }
  [[nodiscard]] std::uint32_t end(NodeId v) const { return first_[v + 1]; }
  [[nodiscard]] Dart operator[](std::uint32_t i) const { return dart_[i]; }

 private:
  std::vector<std::uint32_t> first_;
  std::vector<Dart> dart_;
};

/// Back edges from the lowest to the highest return point on one side; linked by Planarity::ref_.
struct Interval {
  Edge low = kNone, high = kNone;
  [[nodiscard]] bool empty() const { return high == kNone; }
};

/// Two intervals that must lie on different sides.
struct ConflictPair {
  Interval left, right;
};

class Planarity {
 public:
  explicit Planarity(const Graph& graph)
      : graph_(graph),
        height_(graph.nodes, kNone),
        parent_(graph.nodes, kNone),
        dart_(graph.edges(), kNone),
        low_(graph.edges()),
        second_low_(graph.edges()),
        depth_(graph.edges()),
        ref_(graph.edges(), kNone),
        side_(graph.edges(), 1),
        low_edge_(graph.edges()),
        bottom_(graph.edges()),
        out_(graph.nodes) {}

  /// The rotation: per dart the next one around its tail. Empty: not planar, or not connected.
  std::vector<Dart> rotation() {
    orient();
    if (order_.size() != graph_.edges() || !sort_and_test()) return {};
    resolve_sides();
    return embed();
  }

 private:
  [[nodiscard]] NodeId tail(Edge e) const { return graph_.from(dart_[e]); }
  [[nodiscard]] NodeId head(Edge e) const { return graph_.to[dart_[e]]; }
  [[nodiscard]] bool is_tree(Edge e) const { return parent_[head(e)] == e; }

  /// Depth-first search from node 0: directs all edges, finds how far back what hangs below each leads.
  void orient() {
    Lists around(graph_.nodes);
    std::vector<Dart> all(graph_.to.size());
    std::iota(all.begin(), all.end(), 0);
    around.fill(all, [&](Dart d) { return graph_.from(d); });
    std::vector<std::uint32_t> next(graph_.nodes);
    for (NodeId v = 0; v < graph_.nodes; ++v) next[v] = around.begin(v);
    height_[0] = 0;
    for (NodeId v = 0;;) {
      if (next[v] == around.end(v)) {
        const Edge up = parent_[v];
        if (up == kNone) return;
        v = tail(up);
        leave(up);
        continue;
      }
      const Dart d = around[next[v]++];
      const Edge e = d / 2;
      if (dart_[e] != kNone) continue;
      dart_[e] = d;
      order_.push_back(d);
      const NodeId w = graph_.to[d];
      low_[e] = second_low_[e] = height_[v];
      if (height_[w] == kNone) {
        parent_[w] = e;
        height_[w] = height_[v] + 1;
        v = w;
      } else {
        low_[e] = height_[w];
        leave(e);
      }
    }
  }

  /// All that hangs below e has been seen.
  void leave(Edge e) {
    const NodeId v = tail(e);
    depth_[e] = 2 * static_cast<std::int32_t>(low_[e]) + (second_low_[e] < height_[v] ? 1 : 0);
    const Edge up = parent_[v];
    if (up == kNone) return;
    if (low_[e] < low_[up]) {
      second_low_[up] = std::min(low_[up], second_low_[e]);
      low_[up] = low_[e];
    } else if (low_[e] > low_[up]) {
      second_low_[up] = std::min(second_low_[up], low_[e]);
    } else {
      second_low_[up] = std::min(second_low_[up], second_low_[e]);
    }
  }

  /// Outgoing edges of each node by nesting depth. Depths may be negative once sides are known.
  void sort_out() {
    std::vector<Dart> sorted = order_;
    std::ranges::sort(sorted, {}, [&](Dart d) { return std::pair(depth_[d / 2], d); });
    out_.fill(sorted, [&](Dart d) { return graph_.from(d); });
  }

  bool sort_and_test() {
    sort_out();
    std::vector<std::uint32_t> next(graph_.nodes);
    for (NodeId v = 0; v < graph_.nodes; ++v) next[v] = out_.begin(v);
    for (NodeId v = 0;;) {
      if (next[v] == out_.end(v)) {
        const Edge up = parent_[v];
        if (up == kNone) return true;
        remove_back_edges(up);
        v = tail(up);
        if (!integrate(up)) return false;
        continue;
      }
      const Edge e = out_[next[v]++] / 2;
      bottom_[e] = pairs_.size();
      if (is_tree(e)) {
        v = head(e);
      } else {
        low_edge_[e] = e;
        pairs_.push_back({.left = {}, .right = {e, e}});
        if (!integrate(e)) return false;
      }
    }
  }

  /// Brings the return edges of e together with those of its earlier siblings.
  bool integrate(Edge e) {
    const NodeId v = tail(e);
    if (low_[e] >= height_[v]) return true;
    const Edge up = parent_[v];
    if (out_[out_.begin(v)] / 2 == e) {
      if (up != kNone) low_edge_[up] = low_edge_[e];
      return true;
    }
    return constrain(e, up);
  }

  [[nodiscard]] bool conflicting(const Interval& interval, Edge e) const {
    return !interval.empty() && low_[interval.high] > low_[e];
  }

  /// Appends `below` to the low end of `interval`.
  void extend(Interval& interval, const Interval& below) {
    if (interval.empty()) {
      interval.high = below.high;
    } else {
      ref_[interval.low] = below.high;
    }
    interval.low = below.low;
  }

  bool constrain(Edge e, Edge up) {
    ConflictPair merged;
    do {  // the return edges of e belong to one side
      ConflictPair q = pairs_.back();
      pairs_.pop_back();
      if (!q.left.empty()) std::swap(q.left, q.right);
      if (!q.left.empty()) return false;
      if (low_[q.right.low] > low_[up]) {
        extend(merged.right, q.right);
      } else {
        ref_[q.right.low] = low_edge_[up];
      }
    } while (pairs_.size() != bottom_[e]);
    // Those of earlier siblings that end above e's lowest belong to the other.
    while (!pairs_.empty() && (conflicting(pairs_.back().left, e) || conflicting(pairs_.back().right, e))) {
      ConflictPair q = pairs_.back();
      pairs_.pop_back();
      if (conflicting(q.right, e)) std::swap(q.left, q.right);
      if (conflicting(q.right, e)) return false;
      if (!q.right.empty()) {
        if (merged.right.empty()) {
          merged.right = q.right;
        } else {
          extend(merged.right, q.right);
        }
      }
      extend(merged.left, q.left);
    }
    if (!merged.left.empty() || !merged.right.empty()) pairs_.push_back(merged);
    return true;
  }

  [[nodiscard]] std::uint32_t lowest(const ConflictPair& p) const {
    if (p.left.empty()) return low_[p.right.low];
    if (p.right.empty()) return low_[p.left.low];
    return std::min(low_[p.left.low], low_[p.right.low]);
  }

  /// Takes the back edges that end at u off the high end of an interval whose counterpart is `other`.
  void trim(Interval& interval, const Interval& other, NodeId u) {
    while (!interval.empty() && head(interval.high) == u) interval.high = ref_[interval.high];
    if (!interval.empty() || interval.low == kNone) return;
    ref_[interval.low] = other.low;
    side_[interval.low] = -1;
    interval.low = kNone;
  }

  /// Forgets the back edges that end where the tree edge `up` begins.
  void remove_back_edges(Edge up) {
    const NodeId u = tail(up);
    while (!pairs_.empty() && lowest(pairs_.back()) == height_[u]) {
      if (!pairs_.back().left.empty()) side_[pairs_.back().left.low] = -1;
      pairs_.pop_back();
    }
    if (!pairs_.empty()) {
      ConflictPair& p = pairs_.back();
      trim(p.left, p.right, u);
      trim(p.right, p.left, u);
    }
    if (low_[up] >= height_[u]) return;  // no return edge
    const Edge left = pairs_.back().left.high;
    const Edge right = pairs_.back().right.high;
    ref_[up] = left != kNone && (right == kNone || low_[left] > low_[right]) ? left : right;
  }

  /// An edge's side is given relative to ref_: follows the references to their ends.
  void resolve_sides() {
    std::vector<Edge> chain;
    for (Edge e = 0; e < graph_.edges(); ++e) {
      for (Edge i = e; i != kNone; i = ref_[i]) chain.push_back(i);
      for (chain.pop_back(); !chain.empty(); chain.pop_back()) {
        const Edge i = chain.back();
        side_[i] = static_cast<std::int8_t>(side_[i] * side_[ref_[i]]);
        ref_[i] = kNone;
      }
    }
    for (Edge e = 0; e < graph_.edges(); ++e) depth_[e] *= side_[e];
  }

  /// Puts `fresh` behind `d` in the ring around a node.
  void put_behind(Dart fresh, Dart d) {
    next_[fresh] = next_[d];
    prev_[next_[d]] = fresh;
    next_[d] = fresh;
    prev_[fresh] = d;
  }

  std::vector<Dart> embed() {
    sort_out();
    next_.assign(graph_.to.size(), kNone);
    prev_ = next_;
    std::vector<Dart> left(graph_.nodes, kNone);
    std::vector<Dart> right(graph_.nodes, kNone);
    for (NodeId v = 0; v < graph_.nodes; ++v) ring_of_out(v);
    // In the order in which the search meets them; the reverse dart of each edge takes its place.
    std::vector<std::uint32_t> at(graph_.nodes);
    for (NodeId v = 0; v < graph_.nodes; ++v) at[v] = out_.begin(v);
    for (NodeId v = 0;;) {
      if (at[v] == out_.end(v)) {
        if (parent_[v] == kNone) return std::move(next_);
        v = tail(parent_[v]);
        continue;
      }
      const Dart d = out_[at[v]++];
      const NodeId w = graph_.to[d];
      if (is_tree(d / 2)) {
        left[v] = right[v] = d;
        v = w;
      } else if (side_[d / 2] == 1) {
        put_behind(d ^ 1, right[w]);
      } else {
        put_behind(d ^ 1, prev_[left[w]]);
        left[w] = d ^ 1;
      }
    }
  }

  /// The dart to the parent, then the outgoing ones in their order.
  void ring_of_out(NodeId v) {
    Dart last = parent_[v] == kNone ? kNone : dart_[parent_[v]] ^ 1;
    if (last != kNone) next_[last] = prev_[last] = last;
    for (std::uint32_t i = out_.begin(v); i < out_.end(v); ++i) {
      const Dart d = out_[i];
      if (last == kNone) {
        next_[d] = prev_[d] = d;
      } else {
        put_behind(d, last);
      }
      last = d;
    }
  }

  const Graph& graph_;
  std::vector<std::uint32_t> height_;  ///< per node, in the search tree
  std::vector<Edge> parent_;           ///< per node: the tree edge that leads to it
  std::vector<Dart> dart_;             ///< per edge: its direction in the search
  std::vector<Dart> order_;            ///< all edges as directed, as they were met
  // Per edge: the lowest and second lowest height that it or what hangs below it leads back to.
  std::vector<std::uint32_t> low_, second_low_;
  std::vector<std::int32_t> depth_;  ///< per edge: how its node's edges nest
  std::vector<Edge> ref_;            ///< per edge: the one that its side is relative to
  std::vector<std::int8_t> side_;
  std::vector<Edge> low_edge_;       ///< per edge: its lowest return edge
  std::vector<std::size_t> bottom_;  ///< per edge: the height of pairs_ when it was begun
  std::vector<ConflictPair> pairs_;
  Lists out_;
  std::vector<Dart> next_, prev_;  ///< the rotation
};

}  // namespace

Faces draw(const Network& network) {
  Graph graph{network.nodes, {}};
  graph.to.reserve(2 * network.arcs.size() + 2);
  for (const Arc& arc : network.arcs) {
    graph.to.push_back(arc.head);
    graph.to.push_back(arc.tail);
  }
  graph.to.push_back(network.source);
  graph.to.push_back(network.sink);

  const std::vector<Dart> next = Planarity(graph).rotation();
  if (next.empty()) return {};
  Faces faces;
  faces.beside.assign(graph.to.size(), kNone);
  for (Dart start = 0; start < graph.to.size(); ++start) {
    if (faces.beside[start] != kNone) continue;
    for (Dart d = start; faces.beside[d] == kNone; d = next[d ^ 1]) faces.beside[d] = faces.count;
    ++faces.count;
  }
  // Euler: a drawing of a connected graph in the plane has so many faces, any other rotation fewer.
  if (graph.nodes + faces.count != graph.edges() + 2) return {};
  return faces;
}

}  // namespace perseus::solver
