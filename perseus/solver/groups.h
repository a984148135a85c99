// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the nodes of the walk, joined into rigid groups.
//
// An arc at a point of its curve with room for more and for less flow is rigid: its span cannot change until
// its flow has come to an end of its range. Nodes that rigid arcs connect move together, whatever happens. A
// group holds one time for all of them and a spanning tree of rigid arcs; flow that passes it goes along the
// tree. Between two augmentations the walk deals with groups only: a hundred of them where the network has
// ten thousand nodes. An augmentation merges groups along its path and splits those in which it used an arc
// up.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/solver/network.h"

namespace perseus::solver {

/// An arc seen from one of its ends: 2a leads from tail to head, 2a + 1 back.
using Dart = std::uint32_t;
inline constexpr Dart kNoDart = 0xffffffff;
using GroupId = std::uint32_t;
/// Side of a cut. The source's side stands still, the sink's moves earlier.
enum Side : std::uint8_t { kSourceSide = 0, kSinkSide = 1 };

/// Nodes, groups and residual flows. Members are public: the walk's inner loops work on them.
class Groups {
 public:
  static constexpr NodeId kNoNode = 0xffffffff;
  /// A node and its place in its group's tree.
  struct Node {
    std::int64_t offset = 0;  ///< its time less its group's
    GroupId group = 0;
    Dart up = kNoDart;  ///< dart to its parent; the root has none
    NodeId parent = kNoNode, child = kNoNode, next_sibling = kNoNode, prev_sibling = kNoNode;
  };
  struct Group {
    std::int64_t potential = 0;  ///< time; on the sink side plus the clock
    Dart parent_dart = kNoDart;  ///< search tree; source side: parent -> group; sink side: group -> parent
    Dart boundary = kNoDart;     ///< one dart of the ring of darts that leave it; some may lead back into it
    NodeId root = 0;             ///< of its tree
    std::uint32_t size = 1;      ///< nodes
    std::uint32_t flipped_in = 0;  ///< the walk's last instant in which nodes of it changed sides; 0: seen to
    Side side = kSourceSide;
  };
  struct Ring {
    Dart next = kNoDart, prev = kNoDart;  ///< kNoDart: in no ring
  };

  /// Every node a group of its own, at time 0, without residuals.
  explicit Groups(const Network& network);

  [[nodiscard]] NodeId to(Dart d) const { return ends_[d]; }
  [[nodiscard]] NodeId from(Dart d) const { return ends_[d ^ 1]; }
  [[nodiscard]] GroupId group_to(Dart d) const { return node[ends_[d]].group; }
  [[nodiscard]] GroupId group_from(Dart d) const { return node[ends_[d ^ 1]].group; }
  [[nodiscard]] bool rigid(ArcId a) const { return residual[2 * a] > 0 && residual[2 * a + 1] > 0; }
  /// The other group of a search tree's dart of group g.
  [[nodiscard]] GroupId parent(const Group& g) const {
    return g.side == kSourceSide ? group_from(g.parent_dart) : group_to(g.parent_dart);
  }

  /// Joins the two groups of a rigid arc on one side. Nothing happens if they are one already.
  void merge(ArcId a);
  /// A tree arc is rigid no more: its group becomes two. Should another rigid arc join them (flows that are
  /// no vertex of the optimal face), they stay two groups that cannot part: that costs time only.
  void split(ArcId a);
  /// Appends the darts of the tree path between two nodes of one group.
  void append_path(NodeId first, NodeId last, std::vector<Dart>& path);
  /// Takes a dart whose ends have come into one group out of the ring it is in.
  void unlink(Dart d, Group& group);
  /// Work done so far, in visits of darts and nodes.
  [[nodiscard]] std::uint64_t work() const { return work_; }

  std::vector<Node> node;
  std::vector<Group> group;
  std::vector<std::int64_t> residual;  ///< per dart; 0 on both darts of an arc inside a segment
  std::vector<Ring> ring;              ///< per dart: the boundary ring of its tail's group

 private:
  struct Incident {
    Dart dart = 0;  ///< leaves this node
    NodeId other = 0;
  };
  void link(Dart d, Group& g);
  void attach(NodeId v, Dart up);
  void detach(NodeId v);
  void make_root(NodeId v);
  [[nodiscard]] NodeId next_in_tree(NodeId v, NodeId root) const;
  [[nodiscard]] bool is_ancestor(GroupId ancestor, GroupId g) const;
  [[nodiscard]] Dart merged_parent(GroupId kept, GroupId gone) const;
  void relabel(GroupId gone, GroupId kept);
  [[nodiscard]] bool collect_smaller(NodeId low, NodeId root);
  void separate(NodeId part_root, GroupId fresh);

  std::vector<NodeId> ends_;  ///< per dart: where it leads
  std::vector<std::uint32_t> first_incident_;
  std::vector<Incident> incident_;
  std::vector<GroupId> free_;
  NodeId source_ = 0, sink_ = 0;
  // Marks that last for one operation each.
  std::vector<std::uint32_t> mark_;
  std::uint32_t stamp_ = 0;
  std::vector<NodeId> part_, other_part_;  ///< the nodes of the two halves of a split
  std::vector<Dart> down_;
  std::uint64_t work_ = 0;
};

}  // namespace perseus::solver
