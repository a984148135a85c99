// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <tuple>

#include "perseus/core/profile.h"

namespace perseus::core {
namespace {

constexpr ComputationId kNone = std::numeric_limits<ComputationId>::max();

/// The ids that do each part of one (stage, microbatch); an FB stands in two such rows.
struct Parts {
  ComputationId forward = kNone;
  ComputationId backward = kNone;
  ComputationId backward_input = kNone;
  ComputationId backward_weight = kNone;
  ComputationId recompute = kNone;

  /// What hands the input gradient on to the stage before.
  [[nodiscard]] ComputationId gradient() const { return backward != kNone ? backward : backward_input; }
  /// What waits for the gradient of the stage after. Stage 0 has no input to differentiate: its W does the
  /// work.
  [[nodiscard]] ComputationId gradient_user(bool first_stage) const {
    if (backward != kNone) return backward;
    return first_stage && backward_input == kNone ? backward_weight : backward_input;
  }
};

/// Collects the parts of every (stage, microbatch) and the edges; one use per Pipeline::build.
class Builder {
 public:
  explicit Builder(const Schedule& schedule)
      : schedule_(schedule), stage_rank_(schedule.stages()), parts_(schedule.stages()) {
    for (auto& row : parts_) row.resize(schedule.microbatches);
  }

  Status collect() {
    ComputationId id = 0;
    for (std::uint32_t rank = 0; rank < schedule_.pipeline(); ++rank) {
      if (schedule_.ranks[rank].empty()) {
        return fail(ErrorCode::kInvalidInput, fmt::format("rank {} has no computation", rank));
      }
      for (const Computation& c : schedule_.ranks[rank]) {
        PERSEUS_RETURN_IF_ERROR(place(id, rank, c));
        rank_of_.push_back(rank);
        ++id;
      }
    }
    PERSEUS_RETURN_IF_ERROR(check_others());
    return check_complete();
  }

  /// Adds the edges of one (stage, microbatch) and of the hand-over to the next stage.
  Status connect() {
    for (std::uint32_t s = 0; s < parts_.size(); ++s) {
      const bool last = s + 1 == parts_.size();
      for (std::uint32_t m = 0; m < schedule_.microbatches; ++m) {
        const Parts& own = parts_[s][m];
        const ComputationId use = own.gradient_user(s == 0);
        if (last) {
          PERSEUS_RETURN_IF_ERROR(add(own.forward, use));
        } else {
          const Parts& next = parts_[s + 1][m];
          PERSEUS_RETURN_IF_ERROR(add(own.forward, next.forward));
          PERSEUS_RETURN_IF_ERROR(add(next.gradient(), use));
          PERSEUS_RETURN_IF_ERROR(add(own.forward, use));
        }
        if (own.backward_input != kNone) {
          PERSEUS_RETURN_IF_ERROR(add(own.backward_input, own.backward_weight));
        }
        if (own.recompute != kNone) {
          PERSEUS_RETURN_IF_ERROR(add(own.forward, own.recompute));
          PERSEUS_RETURN_IF_ERROR(add(own.recompute, use));
        }
      }
    }
    return {};
  }

  std::vector<Edge> take_edges() {
    for (ComputationId i = 0; i + 1 < rank_of_.size(); ++i) {
      if (rank_of_[i] == rank_of_[i + 1]) edges_.push_back({i, i + 1, false});
    }
    const auto key = [](const Edge& e) { return std::pair(e.from, e.to); };
    std::ranges::sort(edges_, {}, key);
    const auto doubles = std::ranges::unique(edges_, {}, key);
    edges_.erase(doubles.begin(), doubles.end());
    return std::move(edges_);
  }

  std::vector<std::uint32_t> take_ranks() { return std::move(rank_of_); }

 private:
  Status place(ComputationId id, std::uint32_t rank, const Computation& c) {
    if (c.kind == Kind::kOther && c.instruction >= schedule_.instructions.size()) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("a computation of stage {} on rank {} is instruction {} of {} that the schedule names",
                      c.stage, rank, c.instruction, schedule_.instructions.size()));
    }
    PERSEUS_RETURN_IF_ERROR(check_range(rank, c, c.stage, c.microbatch));
    switch (c.kind) {
      case Kind::kForward:
        return put(id, rank, c, c.stage, c.microbatch, &Parts::forward);
      case Kind::kBackward:
        return put(id, rank, c, c.stage, c.microbatch, &Parts::backward);
      case Kind::kBackwardInput:
        return put(id, rank, c, c.stage, c.microbatch, &Parts::backward_input);
      case Kind::kBackwardWeight:
        return put(id, rank, c, c.stage, c.microbatch, &Parts::backward_weight);
      case Kind::kRecompute:
        return put(id, rank, c, c.stage, c.microbatch, &Parts::recompute);
      case Kind::kForwardBackward:
        PERSEUS_RETURN_IF_ERROR(check_range(rank, c, c.stage_b, c.microbatch_b));
        PERSEUS_RETURN_IF_ERROR(put(id, rank, c, c.stage, c.microbatch, &Parts::forward));
        return put(id, rank, c, c.stage_b, c.microbatch_b, &Parts::backward);
      case Kind::kOther:
        others_.push_back(c);
        return own_stage(rank, c, c.stage);
    }
    return fail(ErrorCode::kInternal, "unknown kind of computation");
  }

  Status check_range(std::uint32_t rank, const Computation& c, std::uint32_t stage,
                     std::uint32_t microbatch) {
    if (stage >= parts_.size()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} on rank {}: stage {} is out of range; the schedule has stages 0 to {}",
                              to_string(schedule_, c), rank, stage, parts_.size() - 1));
    }
    if (microbatch >= schedule_.microbatches) {
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format("{} on rank {}: microbatch {} is out of range; the schedule has {} microbatches",
                      to_string(schedule_, c), rank, microbatch, schedule_.microbatches));
    }
    return {};
  }

  /// A stage lives on one rank only.
  Status own_stage(std::uint32_t rank, const Computation& c, std::uint32_t stage) {
    const std::uint32_t owner = stage_rank_[stage].value_or(rank);
    if (owner != rank) {
      return fail(ErrorCode::kInvalidInput, fmt::format("{} on rank {}: stage {} is already on rank {}",
                                                        to_string(schedule_, c), rank, stage, owner));
    }
    stage_rank_[stage] = rank;
    return {};
  }

  Status put(ComputationId id, std::uint32_t rank, const Computation& c, std::uint32_t stage,
             std::uint32_t microbatch, ComputationId Parts::* part) {
    PERSEUS_RETURN_IF_ERROR(own_stage(rank, c, stage));
    ComputationId& place = parts_[stage][microbatch].*part;
    if (place != kNone) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} on rank {} is repeated", to_string(schedule_, c), rank));
    }
    place = id;
    return {};
  }

  Status missing(Kind kind, std::uint32_t stage, std::uint32_t microbatch) const {
    const Computation c{.kind = kind, .stage = stage, .microbatch = microbatch};
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} (stage {}, {}, microbatch {}) is missing", to_string(schedule_, c), stage,
                            instruction_name(kind), microbatch));
  }

  /// A plan tells computations apart by stage, instruction and microbatch.
  Status check_others() {
    std::ranges::sort(others_);
    const auto twice = std::ranges::adjacent_find(others_);
    if (twice == others_.end()) return {};
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} on rank {} is repeated", to_string(schedule_, *twice), *stage_rank_[twice->stage]));
  }

  [[nodiscard]] Status check_complete() const {
    for (std::uint32_t s = 0; s < parts_.size(); ++s) {
      for (std::uint32_t m = 0; m < schedule_.microbatches; ++m) {
        const Parts& p = parts_[s][m];
        if (p.forward == kNone) return missing(Kind::kForward, s, m);
        const bool split = p.backward_input != kNone || p.backward_weight != kNone;
        if (p.backward != kNone && split) {
          return fail(ErrorCode::kInvalidInput,
                      fmt::format("stage {}, microbatch {}: has both a full backward {}B{} and a split one",
                                  s, m, s, m));
        }
        if (p.backward == kNone && !split) return missing(Kind::kBackward, s, m);
        if (split && p.backward_weight == kNone) return missing(Kind::kBackwardWeight, s, m);
        if (split && p.backward_input == kNone && s != 0) return missing(Kind::kBackwardInput, s, m);
      }
    }
    return {};
  }

  /// A dependency: an edge between ranks, or on one rank a demand on its order.
  Status add(ComputationId from, ComputationId to) {
    if (rank_of_[from] != rank_of_[to]) {
      edges_.push_back({from, to, true});
      return {};
    }
    if (from < to) return {};
    const std::uint32_t rank = rank_of_[from];
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} on rank {} comes before {}, whose result it needs: deadlock", text(to), rank,
                            text(from)));
  }

  [[nodiscard]] std::string text(ComputationId i) const {
    ComputationId first = 0;
    for (std::uint32_t r = 0; r < rank_of_[i]; ++r)
      first += static_cast<ComputationId>(schedule_.ranks[r].size());
    return to_string(schedule_, schedule_.ranks[rank_of_[i]][i - first]);
  }

  const Schedule& schedule_;
  std::vector<std::optional<std::uint32_t>> stage_rank_;
  std::vector<Computation> others_;  ///< every kOther
  std::vector<std::vector<Parts>> parts_;
  std::vector<std::uint32_t> rank_of_;
  std::vector<Edge> edges_;
};

Status check_size(const Schedule& schedule) {
  if (schedule.ranks.empty()) return fail(ErrorCode::kInvalidInput, "the schedule has no rank");
  if (schedule.microbatches == 0) return fail(ErrorCode::kInvalidInput, "the schedule has no microbatch");
  if (schedule.virtual_stages == 0) {
    return fail(ErrorCode::kInvalidInput, "the schedule has 0 virtual stages per rank; the least is 1");
  }
  std::size_t count = schedule.ranks.size();
  // Each stage has a forward of each microbatch. The factors have 32 bits, so two of them fit.
  for (const std::size_t factor : {schedule.virtual_stages, schedule.microbatches}) {
    if (count <= kMaxComputations) count *= factor;
  }
  std::size_t listed = 0;
  for (const auto& rank : schedule.ranks) listed += rank.size();
  count = std::max(count, listed);
  if (count <= kMaxComputations) return {};
  return fail(ErrorCode::kLimit, fmt::format("the schedule has at least {} computations; the limit is {}",
                                             count, kMaxComputations));
}

}  // namespace

std::string Pipeline::name(ComputationId i) const {
  return fmt::format("{} on rank {}", to_string(schedule_, computation(i)), rank_of(i));
}

Result<Pipeline> Pipeline::build(Schedule schedule) {
  PERSEUS_RETURN_IF_ERROR(check_size(schedule));
  Pipeline p;
  p.schedule_ = std::move(schedule);
  Builder builder(p.schedule_);
  PERSEUS_RETURN_IF_ERROR(builder.collect());
  PERSEUS_RETURN_IF_ERROR(builder.connect());
  p.edges_ = builder.take_edges();
  p.rank_of_ = builder.take_ranks();

  p.first_of_rank_.push_back(0);
  for (const auto& rank : p.schedule_.ranks) {
    p.first_of_rank_.push_back(p.first_of_rank_.back() + static_cast<ComputationId>(rank.size()));
  }
  p.first_out_.assign(p.size() + 1, 0);
  std::vector<std::uint32_t> waits(p.size(), 0);
  for (const Edge& e : p.edges_) {
    ++p.first_out_[e.from + 1];
    ++waits[e.to];
  }
  for (ComputationId i = 0; i < p.size(); ++i) p.first_out_[i + 1] += p.first_out_[i];

  for (ComputationId i = 0; i < p.size(); ++i) {
    if (waits[i] == 0) p.topological_order_.push_back(i);
  }
  for (std::size_t done = 0; done < p.topological_order_.size(); ++done) {
    const ComputationId i = p.topological_order_[done];
    for (EdgeId e = p.first_out(i); e < p.first_out(i + 1); ++e) {
      if (--waits[p.edges_[e].to] == 0) p.topological_order_.push_back(p.edges_[e].to);
    }
  }
  if (p.topological_order_.size() != p.size()) {
    const auto stuck = std::ranges::find_if(waits, [](std::uint32_t w) { return w != 0; });
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} can never start: the ranks wait for each other (deadlock)",
                            p.name(static_cast<ComputationId>(stuck - waits.begin()))));
  }
  return p;
}

}  // namespace perseus::core
