// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the event network of a problem, made small before the search, and the way back.
//
// Every computation has a start and an end event; a computation is an arc between them, a precedence edge an
// arc with the one point t = lag. Source and sink are events too. Many events move together in every optimum
// (an event whose only in-arc is an edge happens as early as it can; two ends that both precede the same two
// starts are one moment of the steady state), and computations in series are one arc with the cheapest shares
// of its span. Contraction does these; Expansion undoes them exactly.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/solver/scaling.h"

namespace perseus::solver {

using NodeId = std::uint32_t;
using ArcId = std::uint32_t;
/// An arc seen from one of its ends: 2a leads from tail to head, 2a + 1 back.
using Dart = std::uint32_t;
inline constexpr Dart kNoDart = 0xffffffff;

/// span = time(head) - time(tail) must be at least the curve's first point and costs what the curve says.
struct Arc {
  NodeId tail = 0;
  NodeId head = 0;
  CurveId curve = 0;
};

/// The contracted network. Nodes are numbered by their earliest time, so arcs mostly lead to near, higher
/// numbers.
struct Network {
  std::uint32_t nodes = 0;
  NodeId source = 0;
  NodeId sink = 0;
  std::vector<Arc> arcs;  ///< sorted by (tail, head)
  Curves curves;          ///< those of the arcs; more than one arc may share one
};

/// How original events and computations follow from the contracted network.
class Expansion {
 public:
  /// Spans of all computations and their flows, from the times of the nodes and the flows of the arcs of an
  /// optimum. Edge flows are routed on edges without slack.
  struct Detail {
    std::vector<std::int64_t> duration;
    core::Certificate certificate;
  };
  /// kInternal if these are no optimum (the flows cannot be routed).
  [[nodiscard]] core::Result<Detail> expand(const core::Problem& problem, const Scaled& scaled,
                                            std::span<const std::int64_t> node_time,
                                            std::span<const std::int64_t> arc_flow) const;

 private:
  friend class Contraction;
  /// An event that happens `offset` ticks after another.
  struct Anchor {
    std::uint32_t event = 0;
    std::int64_t offset = 0;
  };
  /// Two arcs in series that became one: tail -> middle -> head.
  struct Series {
    std::uint32_t tail = 0, middle = 0, head = 0;
    CurveId first = 0, second = 0;
    ArcId first_arc = 0, second_arc = 0, whole_arc = 0;
  };
  static constexpr NodeId kNoNode = 0xffffffff;
  [[nodiscard]] std::int64_t first_share(const Series& series, std::int64_t span) const;
  [[nodiscard]] std::vector<std::int64_t> event_times(std::span<const std::int64_t> node_time) const;

  Curves curves_;  ///< those of the series' parts
  std::vector<Anchor>
      anchor_;                ///< per event of the original network; itself: a live node or a series' middle
  std::vector<NodeId> node_;  ///< per event: its number in the contracted network, or kNoNode
  std::vector<ArcId> live_arc_;     ///< per contracted arc: the working arc that it was
  std::vector<Series> series_;      ///< in the order in which they were made
  std::uint32_t working_arcs_ = 0;  ///< computations (equal ids), edges, source, sink and series arcs
};

struct Contracted {
  Network network;
  Expansion expansion;
};

/// Builds and contracts. O(computations + edges) for pipelines of bounded degree.
[[nodiscard]] Contracted contract(const core::Problem& problem, const Scaled& scaled);

}  // namespace perseus::solver
