// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: a choice of rungs as times of events, the form on which forest search works.
//
// Starts and ends of computations are events. Events that may always fall together are one: where the same
// ends come before the same starts, without lag, all of them. What comes first falls together with time 0,
// what comes last with the target. Given the times of all events, each computation takes the slowest rung
// that fits between its start and its end.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "perseus/solver/realise_flat.h"
#include "perseus/solver/realise_slack.h"

namespace perseus::solver::internal {

/// Index of an event (of all starts and ends that were merged into it).
using Event = std::uint32_t;

/// `to` happens no earlier than `from` plus the duration of a computation, or plus a lag.
struct EventArc {
  static constexpr Position kLagOnly = std::numeric_limits<Position>::max();
  Event from = 0;
  Event to = 0;
  Position computation = kLagOnly;
  Ticks lag = 0;  ///< of an arc without computation
};

/// The events of one problem. Immutable once built.
class EventGraph {
 public:
  static constexpr Event kSource = 0;  ///< time 0
  static constexpr Event kSink = 1;    ///< the target

  explicit EventGraph(const FlatProblem& flat);

  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] const std::vector<EventArc>& arcs() const { return arcs_; }
  /// Arcs of event v, those that enter and those that leave it: [first(v), first(v + 1)) of `incident`.
  [[nodiscard]] std::uint32_t first(Event v) const { return first_[v]; }
  [[nodiscard]] const std::vector<std::uint32_t>& incident() const { return incident_; }
  /// Event in which computation p starts or ends.
  [[nodiscard]] Event start_of(Position p) const { return start_[p]; }
  [[nodiscard]] Event end_of(Position p) const { return end_[p]; }

 private:
  std::uint32_t size_ = 0;
  std::vector<EventArc> arcs_;  ///< arc p is computation p; those with lag only follow
  std::vector<std::uint32_t> first_;
  std::vector<std::uint32_t> incident_;
  std::vector<Event> start_, end_;
};

/// Times of all events under a choice that ends by the target in ticks, each as early as the choice lets it
/// be.
[[nodiscard]] std::vector<Ticks> event_times(const FlatProblem& flat, const EventGraph& graph,
                                             const Rungs& rungs);

}  // namespace perseus::solver::internal
