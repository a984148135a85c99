// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the parametric walk along the frontier, from slow to fast.
//
// State: times of all nodes, a flow, and a cut (the source's side S, the sink's side T) that fulfil
// complementary slackness, with no residual dart from S to T. All T nodes move earlier at unit speed until an
// arc that crosses the cut reaches a point of its curve, which opens a residual dart from S to T. It is
// resolved by augmenting the flow (if the source reaches its tail and its head reaches the sink) or by moving
// the part that is cut off from its root to the other side. Roots are found through two trees of parent
// pointers that are mended only when a question about them is asked. All this runs on rigid groups of nodes
// (groups.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perseus/solver/event_queue.h"
#include "perseus/solver/groups.h"
#include "perseus/solver/network.h"

namespace perseus::solver {

/// An optimum: all that is needed to go on from it. Sizes: nodes, arcs, nodes.
struct Optimum {
  std::vector<std::int64_t> node_time;  ///< ticks; the source at 0, the sink at the iteration time
  std::vector<std::int64_t> arc_flow;
  std::vector<bool> sink_side;  ///< any cut; best one without residual darts from its source to its sink side
};

/// Counts of what the walk did; for bench/ and docs/.
struct WalkCounts {
  std::uint64_t instants = 0, events = 0, augmentations = 0, path_darts = 0, searches = 0,
                searched_groups = 0, flipped_groups = 0, merges = 0, splits = 0;
};

class Walk {
 public:
  /// `network` must outlive the walk. Starts at `optimum`, which must fulfil check_optimum().
  Walk(const Network& network, const Optimum& optimum);

  /// The iteration time now, ticks.
  [[nodiscard]] std::int64_t time() const { return start_time_ - clock_; }
  /// -dC/dT just below time().
  [[nodiscard]] std::int64_t slope() const { return flow_value_; }
  /// True once no finite flow lets the iteration go faster: time() is T_min.
  [[nodiscard]] bool at_minimum() const { return at_minimum_; }
  /// The iteration time of the next instant; at the minimum, time().
  [[nodiscard]] std::int64_t next_time();
  /// Goes to the next instant and settles it. Must not be called at the minimum.
  void advance();
  /// The optimum at any time between time() and next_time().
  [[nodiscard]] Optimum optimum_at(std::int64_t time) const;
  /// A measure of the work done so far that does not depend on the machine.
  [[nodiscard]] std::uint64_t work() const { return work_ + groups_.work(); }
  [[nodiscard]] const WalkCounts& counts() const { return counts_; }

 private:
  struct ArcState {
    std::uint32_t point = 0;  ///< index into the pool: the point it is at, or the one left of its segment
    std::uint32_t first = 0, last = 0;  ///< its curve's points in the pool
    bool at_point = false;
  };

  [[nodiscard]] std::int64_t time_of(NodeId v) const {
    const Groups::Node& node = groups_.node[v];
    const Groups::Group& group = groups_.group[node.group];
    return group.potential + node.offset - (group.side == kSinkSide ? clock_ : 0);
  }
  [[nodiscard]] Side side_of(NodeId v) const { return groups_.group[groups_.node[v].group].side; }
  template <Side side>
  [[nodiscard]] GroupId root() const {
    return groups_.node[side == kSourceSide ? source_ : sink_].group;
  }
  [[nodiscard]] bool crosses(ArcId a) const {
    return side_of(groups_.from(2 * a)) != side_of(groups_.to(2 * a));
  }
  void place(ArcId a, std::int64_t span, std::int64_t flow);
  void begin_instant();
  void settle();
  void resolve(Dart d);
  enum class End : std::uint8_t { kNone, kTail, kHead };
  [[nodiscard]] End loose_end(Dart d) const;
  template <Side side>
  [[nodiscard]] bool search(GroupId start);
  template <Side side>
  [[nodiscard]] bool climb(GroupId g);
  template <Side side>
  [[nodiscard]] bool search_from(GroupId w, GroupId start);
  template <Side side>
  void adopt(GroupId w, Dart dart, GroupId until);
  template <Side side>
  void flip_searched(Dart dart);
  void collect_path(Dart d);
  void augment(Dart d);
  std::int64_t push(Dart p, std::int64_t amount);
  void part(Dart p);
  void cut_link(Dart p);
  void arrive(ArcId a);
  void refresh_boundary(GroupId g);
  void refresh(ArcId a);

  const std::vector<std::int64_t>& point_time_;
  const std::vector<std::int64_t>& point_slope_;
  std::int64_t start_time_ = 0;
  std::int64_t clock_ = 0;
  std::int64_t flow_value_ = 0;
  bool at_minimum_ = false;

  std::uint32_t instant_ = 1;  ///< counts instants from 1
  NodeId source_ = 0, sink_ = 0;
  Groups groups_;
  std::vector<ArcState> arc_;
  EventQueue
      events_;  ///< of crossing arcs; what else is left of arcs that came to rest is dropped when it surfaces
  std::vector<Dart> open_;      ///< residual darts that may lead from S to T
  std::vector<NodeId> dirty_;   ///< a node of each group that changed sides in this instant
  std::vector<ArcId> touched_;  ///< arcs to bring up to date after this instant

  // A search: groups that are known to have no root (yet), and from each the dart towards where the search
  // began.
  std::vector<std::uint32_t> seen_;  ///< per group: the search that met it last
  std::uint32_t search_ = 0;
  std::vector<GroupId> met_;
  std::vector<Dart> towards_;  ///< per group
  // The path of an augmentation: its darts in groups' trees, those of them that were used up, the others.
  std::vector<Dart> inner_, used_up_, links_;

  std::uint64_t work_ = 0;
  WalkCounts counts_;
};

/// Complementary slackness and conservation of an optimum: nothing that passes can make the walk fail.
/// Answers what is wrong, or an empty text.
[[nodiscard]] std::string check_optimum(const Network& network, const Optimum& optimum);

/// The optimum at the slowest time that pays: every computation at its least cost, no flow. Its time is
/// T_max.
[[nodiscard]] Optimum slowest_optimum(const Network& network);

}  // namespace perseus::solver
