// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the parametric walk along the frontier, from slow to fast.
//
// State: spans of all arcs, a flow, and a cut (the source's side S, the sink's side T) that fulfil
// complementary slackness, with no residual dart from S to T. All T nodes move earlier at unit speed until an
// arc that crosses the cut reaches a point of its curve, which opens a residual dart from S to T. The way
// from the source to its tail and from its head to the sink is that in the trees that span the sides
// (halves.h). If flow can go all the way, it is augmented; if not, the part beyond the arc that holds it up
// either hangs by another arc or moves to the other side. Nodes have no times here: arcs have spans, which
// change only while they cross the cut.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perseus/solver/event_queue.h"
#include "perseus/solver/halves.h"
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
  std::uint64_t instants = 0, events = 0, augmentations = 0, path_darts = 0, blocked_darts = 0, rehung = 0,
                moved = 0, edge_darts = 0;
};

class Walk {
 public:
  /// `network` and `faces` must outlive the walk. Starts at `optimum`, which must fulfil check_optimum().
  /// `faces` are draw(network), or empty; they make a walk of more than a few thousand instants faster.
  Walk(const Network& network, const Optimum& optimum, const Faces& faces = no_faces());

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
  [[nodiscard]] std::uint64_t work() const { return work_ + halves_.work(); }
  [[nodiscard]] const WalkCounts& counts() const { return counts_; }

 private:
  /// What an arc's span does while the iteration time falls.
  enum class Motion : std::uint8_t { kRests, kShrinks, kGrows };
  struct ArcState {
    std::int64_t base = 0;  ///< the span if `moved` rests; less what it has changed by since the clock was 0
    std::uint32_t point = 0;  ///< index into the pool: the point it is at, or the one left of its segment
    bool at_point = false;
    Motion moved = Motion::kRests;  ///< until the last instant
    Motion moves = Motion::kRests;  ///< from this instant on
  };
  /// A tree dart that holds flow up on the way from the source over some dart to the sink.
  struct Hindrance {
    Dart up = kNoDart;  ///< leads from what it cuts off towards the root; kNoDart: nothing is in the way
    bool source_side = false;
  };

  static const Faces& no_faces();
  const std::vector<std::int64_t>& place_all(const Network& network, const Optimum& optimum);
  [[nodiscard]] std::int64_t most_at(std::uint32_t point) const;
  void place(ArcId a, CurveId curve, std::int64_t span, std::int64_t flow);
  [[nodiscard]] bool opens(Dart d) const;
  [[nodiscard]] std::int64_t span(const ArcState& state) const;
  void arrive(ArcId a);
  void settle();
  void resolve(Dart d);
  [[nodiscard]] Hindrance find_way(Dart d);
  void leave(Hindrance hindrance, Dart d);
  void augment();
  void refresh(ArcId a);

  const Network& network_;
  const std::vector<std::int64_t>& point_time_;
  const std::vector<std::int64_t>& point_slope_;
  std::int64_t source_time_ = 0, start_time_ = 0;  ///< of source and sink where the walk began
  std::int64_t clock_ = 0;
  std::int64_t flow_value_ = 0;
  bool at_minimum_ = false;

  std::vector<bool> sides_;             ///< where the walk began
  std::vector<std::int64_t> residual_;  ///< per dart; 0 on both darts of an arc inside a segment
  std::vector<ArcState> arc_;
  Halves halves_;
  EventQueue events_;           ///< of the arcs that cross the cut
  std::vector<ArcId> arrived_;  ///< at points of their curves in this instant
  std::vector<Dart> open_;      ///< residual darts that may lead from S to T
  std::vector<ArcId> touched_;  ///< arcs to bring up to date after this instant
  std::vector<Dart> way_;       ///< from the source to the sink, in no order
  std::int64_t room_ = 0;       ///< what may pass along way_

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
