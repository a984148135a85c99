// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: two trees that span the two sides of the walk's cut, and the arcs at the edge of a
// part.
//
// Every node hangs in the tree of its side, rooted at the source or at the sink. Where no more flow can reach
// what hangs by a tree arc (source's side) or leave it (sink's side), that part is cut off. It then hangs
// elsewhere: in the same tree if an arc can still feed it, else in the other one. Either way one arc leaves
// the trees and one joins them; all that the walk must know of the part is which arcs have one end in it.
//
// If the network has a drawing in the plane they are found by it (face_tree.h). Else the smaller of the part
// and the rest is gone through.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "perseus/solver/face_tree.h"
#include "perseus/solver/network.h"
#include "perseus/solver/planar.h"

namespace perseus::solver {

/// Both trees, and the edges of parts. For one thread; two steps make a change: leaving(), then rehang() or
/// move() of the part that it asked for.
class Halves {
 public:
  /// A node's place in its tree.
  struct Node {
    Dart up = kNoDart;  ///< dart to its parent; source and sink have none
    NodeId parent = 0;
  };

  /// Spans each side, by arcs with flow to give and to take where there are, then by such as can feed what
  /// hangs by them. `sink_side` per node says which side; nodes that do not hold together with their root
  /// change sides. `faces` empty: no drawing. It and the network must outlive this.
  Halves(const Network& network, const Faces& faces, const std::vector<std::int64_t>& residual,
         std::vector<bool>& sink_side);

  [[nodiscard]] NodeId to(Dart d) const { return ends_[d]; }
  [[nodiscard]] NodeId from(Dart d) const { return ends_[d ^ 1]; }
  [[nodiscard]] const Node& node(NodeId v) const { return node_[v]; }
  [[nodiscard]] NodeId nodes() const { return static_cast<NodeId>(node_.size()); }

  /// The darts that leave the part that hangs by tree dart p (which leads up), p first. `sink_side` says
  /// where it hangs. Valid until the next call.
  [[nodiscard]] const std::vector<Dart>& leaving(Dart p, bool sink_side);
  /// After leaving(p): that part hangs by d from now on, another of those darts, which leads to its own side.
  void rehang(Dart p, Dart d);
  /// After leaving(p, sink_side): that part changes sides and hangs by d, which leads to the other side.
  void move(Dart p, Dart d, bool sink_side);
  /// Work done so far, in visits of nodes and darts.
  [[nodiscard]] std::uint64_t work() const { return work_; }

 private:
  struct Incident {
    Dart dart = 0;  ///< leaves this node
    NodeId other = 0;
  };
  /// A node's place among its parent's children. Kept without a drawing only.
  struct Kin {
    NodeId child = kNoNode, next = kNoNode, prev = kNoNode;
  };
  static constexpr NodeId kNoNode = 0xffffffff;
  void index(const Network& network);
  void span(const std::vector<std::int64_t>& residual, std::vector<bool>& sink_side);
  void attach(NodeId v, NodeId parent);
  void detach(NodeId v, NodeId parent);
  [[nodiscard]] NodeId next_below(NodeId v, NodeId top) const;
  [[nodiscard]] bool collect_smaller(NodeId top, NodeId root);
  void go_through(Dart p, bool sink_side);
  void toggle(Dart out, bool sink_side);
  void exchange(Dart p, Dart d);

  NodeId source_ = 0, sink_ = 0;
  std::vector<Node> node_;
  std::vector<NodeId> ends_;   ///< per dart: where it leads
  std::vector<char> in_tree_;  ///< per arc
  std::optional<FaceTree> faces_;
  std::vector<Dart> leaving_;
  std::vector<std::uint32_t> first_incident_;
  std::vector<Incident> incident_;
  // Without a drawing:
  std::vector<Dart> crossing_;        ///< the darts from the source's to the sink's side
  std::vector<std::uint32_t> place_;  ///< per arc: where in crossing_
  std::vector<Kin> kin_;              ///< per node
  std::vector<std::uint32_t> mark_;   ///< per node: the last part that it was in
  std::uint32_t marks_ = 0;
  std::vector<NodeId> part_, rest_;
  std::uint64_t work_ = 0;
};

}  // namespace perseus::solver
