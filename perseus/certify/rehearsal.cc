// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/rehearsal.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>

namespace perseus::certify {
namespace {

using core::Computation;
using core::ExactTime;
using core::Kind;

/// When each (stage, microbatch) has handed something on, if it has.
class Handovers {
 public:
  Handovers(std::uint32_t stages, std::uint32_t microbatches)
      : microbatches_(microbatches), time_(std::size_t{stages} * microbatches), done_(time_.size(), false) {}

  void set(std::uint32_t stage, std::uint32_t microbatch, ExactTime time) {
    time_[index(stage, microbatch)] = time;
    done_[index(stage, microbatch)] = true;
  }
  [[nodiscard]] std::optional<ExactTime> get(std::uint32_t stage, std::uint32_t microbatch) const {
    if (!done_[index(stage, microbatch)]) return std::nullopt;
    return time_[index(stage, microbatch)];
  }

 private:
  [[nodiscard]] std::size_t index(std::uint32_t stage, std::uint32_t microbatch) const {
    return std::size_t{stage} * microbatches_ + microbatch;
  }
  std::uint32_t microbatches_;
  std::vector<ExactTime> time_;
  std::vector<bool> done_;
};

/// All ranks of one iteration; one use.
class Ranks {
 public:
  Ranks(const core::Problem& problem, const std::function<core::Seconds(core::ComputationId)>& time_of)
      : problem_(problem),
        schedule_(problem.pipeline().schedule()),
        time_of_(time_of),
        next_(schedule_.pipeline(), 0),
        clock_(schedule_.pipeline()),
        rank_of_stage_(schedule_.stages(), 0),
        outputs_(schedule_.stages(), schedule_.microbatches),
        gradients_(schedule_.stages(), schedule_.microbatches) {
    result_.busy.resize(schedule_.pipeline());
    for (std::uint32_t rank = 0; rank < schedule_.pipeline(); ++rank) {
      to_try_.push_back(rank);
      for (const Computation& c : schedule_.ranks[rank]) {
        rank_of_stage_[c.stage] = rank;
        if (c.kind == Kind::kForwardBackward) rank_of_stage_[c.stage_b] = rank;
      }
    }
  }

  core::Result<Rehearsal> run() {
    while (!to_try_.empty()) {
      const std::uint32_t rank = to_try_.front();
      to_try_.pop_front();
      while (try_next(rank)) {
      }
    }
    for (std::uint32_t rank = 0; rank < schedule_.pipeline(); ++rank) {
      if (next_[rank] == schedule_.ranks[rank].size()) continue;
      return core::fail(core::ErrorCode::kInternal,
                        fmt::format("rank {} waits for ever before {}", rank,
                                    to_string(schedule_, schedule_.ranks[rank][next_[rank]])));
    }
    return std::move(result_);
  }

 private:
  /// Runs the next computation of a rank if all that it waits for is there.
  bool try_next(std::uint32_t rank) {
    const auto& order = schedule_.ranks[rank];
    if (next_[rank] == order.size()) return false;
    const Computation& c = order[next_[rank]];
    const auto forward_input = input(rank, c);
    const auto gradient = gradient_input(rank, c);
    if (!forward_input || !gradient) return false;
    const core::ComputationId id =
        problem_.pipeline().first_of_rank(rank) + static_cast<core::ComputationId>(next_[rank]);
    const ExactTime time(time_of_(id));
    clock_[rank] = std::max({clock_[rank], *forward_input, *gradient}) + time;
    result_.busy[rank] += time;
    result_.end = std::max(result_.end, clock_[rank]);
    hand_on(c, clock_[rank]);
    ++next_[rank];
    return true;
  }

  /// When the activations that `c` needs from the stage before are there: 0 if it needs none.
  [[nodiscard]] std::optional<ExactTime> input(std::uint32_t rank, const Computation& c) const {
    const bool needs = c.kind == Kind::kForward || c.kind == Kind::kForwardBackward;
    if (!needs || c.stage == 0) return ExactTime();
    return arrival(outputs_, c.stage - 1, c.microbatch, rank);
  }

  /// When the gradient that `c` needs from the stage after is there: 0 if it needs none.
  [[nodiscard]] std::optional<ExactTime> gradient_input(std::uint32_t rank, const Computation& c) const {
    const bool pair = c.kind == Kind::kForwardBackward;
    const std::uint32_t stage = pair ? c.stage_b : c.stage;
    const std::uint32_t microbatch = pair ? c.microbatch_b : c.microbatch;
    // The I of stage 0 may be absent; its W then is the first to need the gradient.
    const bool needs = pair || c.kind == Kind::kBackward || c.kind == Kind::kBackwardInput ||
                       (c.kind == Kind::kBackwardWeight && stage == 0);
    if (!needs || stage + 1 == schedule_.stages()) return ExactTime();
    return arrival(gradients_, stage + 1, microbatch, rank);
  }

  [[nodiscard]] std::optional<ExactTime> arrival(const Handovers& from, std::uint32_t stage,
                                                 std::uint32_t microbatch, std::uint32_t rank) const {
    const auto sent = from.get(stage, microbatch);
    if (!sent) return std::nullopt;
    return *sent + ExactTime(transfer_lag(problem_, rank_of_stage_[stage], rank));
  }

  /// Records what `c` gives to other stages and lets the ranks try that may have waited for it.
  void hand_on(const Computation& c, ExactTime time) {
    const bool pair = c.kind == Kind::kForwardBackward;
    if (pair || c.kind == Kind::kForward) {
      outputs_.set(c.stage, c.microbatch, time);
      if (c.stage + 1 < schedule_.stages()) to_try_.push_back(rank_of_stage_[c.stage + 1]);
    }
    if (pair || c.kind == Kind::kBackward || c.kind == Kind::kBackwardInput) {
      const std::uint32_t stage = pair ? c.stage_b : c.stage;
      gradients_.set(stage, pair ? c.microbatch_b : c.microbatch, time);
      if (stage > 0) to_try_.push_back(rank_of_stage_[stage - 1]);
    }
  }

  const core::Problem& problem_;
  const core::Schedule& schedule_;
  const std::function<core::Seconds(core::ComputationId)>& time_of_;
  std::vector<std::size_t> next_;  // per rank, index into its order
  std::vector<ExactTime> clock_;   // per rank, when it is free
  std::vector<std::uint32_t> rank_of_stage_;
  std::deque<std::uint32_t> to_try_;
  Handovers outputs_;
  Handovers gradients_;
  Rehearsal result_;
};

}  // namespace

core::Seconds transfer_lag(const core::Problem& problem, std::uint32_t from_rank, std::uint32_t to_rank) {
  if (from_rank == to_rank) return core::Seconds(0);
  const auto& inputs = problem.inputs();
  const auto it = inputs.edge_lag.find({from_rank, to_rank});
  return it == inputs.edge_lag.end() ? inputs.p2p_lag : it->second;
}

core::Result<Rehearsal> rehearse(const core::Problem& problem,
                                 const std::function<core::Seconds(core::ComputationId)>& time_of) {
  return Ranks(problem, time_of).run();
}

}  // namespace perseus::certify
