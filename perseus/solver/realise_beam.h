// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: beam search over the choices of a window of computations, guided by the flow's prices.
//
// With a conserving flow of value F the cost of any choice is the lower bound plus a sum of losses that are never
// negative (DESIGN section 3): per computation the reduced cost c_k + flow t_k - min over k, per edge flow times
// the time that the edge idles. So a partial choice in order of time has a cost so far that is comparable between
// partial choices, however late each of them runs, and the best W of them are kept.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "perseus/solver/realise_flat.h"

namespace perseus::solver::internal {

/// One call's task: choose rungs for the positions [begin, end); all others keep theirs.
struct BeamWindow {
  Position begin = 0;
  Position end = 0;
  std::uint32_t width = 1;  ///< partial choices kept
  std::uint64_t work_limit = std::numeric_limits<std::uint64_t>::max();
};

/// Beam search; keeps its memory from call to call.
class Beam {
 public:
  /// `flat` must outlive the object.
  explicit Beam(const FlatProblem& flat);

  /// Replaces the window's rungs in `rungs` by the cheapest found. `deadline` (by position): latest ends that are
  /// consistent (see latest_ends()), so that no partial choice is a dead end. `end` (by position): ends of the
  /// positions before the window. False if the work limit was reached: `rungs` is then unchanged.
  bool run(const BeamWindow& window, std::span<const Ticks> deadline, std::span<const Ticks> end, Rungs& rungs);

  /// Partial choices looked at so far.
  [[nodiscard]] std::uint64_t work() const { return work_; }
  float last_score=0;

 private:
  struct Candidate {
    float score = 0;
    std::uint32_t parent = 0;
    std::uint32_t rung = 0;
    Ticks end = 0;
    std::uint64_t hash = 0;
  };
  struct Trace {
    std::uint32_t parent = 0;
    std::uint32_t rung = 0;
  };
  void assign_slots(const BeamWindow& window);
  void expand(Position p, std::span<const Ticks> deadline, std::span<const Ticks> end, Position begin);
  void select(std::uint32_t width);

  const FlatProblem* flat_;
  std::uint64_t work_ = 0;
  std::vector<double> reduced_minimum_;
  std::vector<std::uint32_t> first_rung_, last_rung_;
  std::vector<std::uint32_t> slot_;
  std::uint32_t slots_ = 0;
  std::vector<Ticks> ends_, next_ends_;
  std::vector<float> scores_; std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> free_at_;
  std::vector<Candidate> candidates_;
  std::vector<std::vector<Trace>> trace_;
  std::vector<std::uint64_t> seen_;
 public:
  double range=3; // experiment: rungs around the reduced minimum
};

}  // namespace perseus::solver::internal
