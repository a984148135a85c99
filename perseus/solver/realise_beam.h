// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: rounds a relaxed optimum by beam search in order of time, guided by the flow's prices:
// the best few partial choices are kept (losses: realise_guide.h). Most of the loss of a rounded plan is
// idling where paths join, so each choice is charged at once for the joins that it settles.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "perseus/solver/realise_flat.h"
#include "perseus/solver/realise_guide.h"

namespace perseus::solver::internal {

struct BeamOptions {
  std::uint32_t width = 1;  ///< partial choices kept, >= 1
  std::uint32_t rungs = 4;  ///< rungs tried per computation: those of least reduced cost, >= 1
  double drift = 0.1;       ///< price of being early or late, as a share of the computation's flow
  /// Gives up when this many partial choices have been looked at.
  std::uint64_t work_limit = std::numeric_limits<std::uint64_t>::max();
};

/// One problem's beam search; keeps what does not depend on the options from run to run.
class Beam {
 public:
  /// `flat` and `guide` must outlive the object; the order should be one of time, which keeps the search
  /// narrow.
  Beam(const FlatProblem& flat, const Guide& guide);

  /// The cheapest choice found; empty if the work limit was reached. It ends by the target in ticks.
  [[nodiscard]] Rungs run(const BeamOptions& options);
  /// Partial choices looked at by all runs so far.
  [[nodiscard]] std::uint64_t work() const { return work_; }

 private:
  static constexpr std::uint32_t kNoSlot = std::numeric_limits<std::uint32_t>::max();
  /// One in-edge of a join: the end in `slot`, or the end of the computation just chosen (kNoSlot).
  struct Input {
    std::uint32_t slot = kNoSlot;
    Ticks lag = 0;
    double price = 0;  ///< J per tick of idling
  };
  /// A computation whose start is known once the step's own end is.
  struct Join {
    std::uint32_t first_input = 0;
    std::uint32_t last_input = 0;
    std::uint32_t start_slot = 0;
  };
  /// The choice of one position's rung. Slots hold the times of a partial choice that are still needed.
  struct Step {
    std::uint32_t start_slot = 0;
    std::uint32_t end_slot = kNoSlot;  ///< where the end is kept for joins that come later
    std::uint32_t first_join = 0;
    std::uint32_t last_join = 0;
  };
  struct Near {
    std::uint32_t rung = 0;
    double loss = 0;  ///< reduced cost, J
  };
  struct Candidate {
    double score = 0;
    std::uint32_t parent = 0;
    std::uint32_t rung = 0;
  };
  /// A kept partial choice: its last rung and the partial choice that it extends.
  struct Trace {
    std::uint32_t parent = 0;
    std::uint32_t rung = 0;
  };

  void plan_slots();
  void add_join(Position v, const std::vector<std::uint32_t>& end_slot, Position last);
  void find_near(std::uint32_t count);
  void expand(Position p, const BeamOptions& options);
  [[nodiscard]] double settle(const Step& step, const Ticks* slots, Ticks end) const;
  void keep_best(Position p, std::uint32_t width);
  bool enter(Position p, const Candidate& candidate, std::size_t index);

  const FlatProblem* flat_;
  const Guide* guide_;
  double tick_ = 0;  ///< s
  std::uint32_t slots_ = 0;
  std::vector<Step> steps_;
  std::vector<Join> joins_;
  std::vector<Input> inputs_;
  std::uint32_t near_count_ = 0;
  std::vector<std::uint32_t> near_first_;  ///< by position, into near_
  std::vector<Near> near_;

  std::uint64_t work_ = 0;
  std::vector<double> scores_, next_scores_;
  std::vector<Ticks> times_, next_times_;  ///< slots_ per partial choice
  std::vector<Candidate> candidates_;
  std::vector<std::uint64_t> seen_;  ///< hashes of kept times, open addressing; 0: empty
  std::vector<Trace> trace_;         ///< width entries per position
};

}  // namespace perseus::solver::internal
