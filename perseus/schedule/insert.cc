// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/insert.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "perseus/core/profile.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::ErrorCode;
using core::fail;
using core::Insert;
using core::Kind;
using core::Position;
using core::Result;
using core::Schedule;
using core::Status;

/// An insert whose name has its place in Schedule::instructions.
struct Extra {
  Position position;
  std::uint32_t instruction;
};

using ExtrasOfStage = std::map<std::uint32_t, std::vector<Extra>>;

/// The microbatches whose backward on stage 0 has an I; the others' begins with W or B.
using InputGradients = std::set<std::uint32_t>;

Status check_insert(const Insert& insert, const std::set<std::uint32_t>& stages) {
  if (!core::fits_cell(insert.instruction)) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format(
            "instruction '{}' cannot be inserted: a name is 2 to 64 letters, digits, '_', '-' or '.', "
            "starts and ends with a letter or '_', and is not PyTorch's or ours for a computation",
            insert.instruction));
  }
  if (stages.contains(insert.stage)) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("instruction '{}' is for stage {}, which no rank has; the "
                          "schedule has stages {} to {}",
                          insert.instruction, insert.stage, *stages.begin(), *stages.rbegin()));
}

std::uint32_t intern(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::ranges::find(names, name);
  if (found != names.end()) return static_cast<std::uint32_t>(found - names.begin());
  names.push_back(name);
  return static_cast<std::uint32_t>(names.size() - 1);
}

/// Copies one rank's order with the extras in between.
class RankWriter {
 public:
  RankWriter(const ExtrasOfStage& extras, const InputGradients& input_gradients)
      : extras_(extras), input_gradients_(input_gradients) {}

  std::vector<Computation> write(const std::vector<Computation>& order) {
    std::set<std::uint32_t> stages;
    for (const Computation& c : order) {
      stages.insert(c.stage);
      if (c.kind == Kind::kForwardBackward) stages.insert(c.stage_b);
    }
    for (const std::uint32_t stage : stages) add(stage, 0, Position::kStart);
    for (const Computation& c : order) around(c);
    for (const std::uint32_t stage : stages) add(stage, 0, Position::kEnd);
    return std::move(out_);
  }

 private:
  void around(const Computation& c) {
    const bool overlapped = c.kind == Kind::kForwardBackward;
    const std::uint32_t stage_b = overlapped ? c.stage_b : c.stage;
    const std::uint32_t microbatch_b = overlapped ? c.microbatch_b : c.microbatch;
    const bool forward = overlapped || c.kind == Kind::kForward;
    if (forward) add(c.stage, c.microbatch, Position::kBeforeForward);
    if (starts_backward(c)) add(stage_b, microbatch_b, Position::kBeforeBackward);
    out_.push_back(c);
    if (forward) add(c.stage, c.microbatch, Position::kAfterForward);
    const bool ends = overlapped || c.kind == Kind::kBackward || c.kind == Kind::kBackwardWeight;
    if (ends) add(stage_b, microbatch_b, Position::kAfterBackward);
  }

  [[nodiscard]] bool starts_backward(const Computation& c) const {
    switch (c.kind) {
      case Kind::kBackward:
      case Kind::kBackwardInput:
      case Kind::kForwardBackward:
        return true;
      case Kind::kBackwardWeight:
        return c.stage == 0 && !input_gradients_.contains(c.microbatch);
      default:
        return false;
    }
  }

  void add(std::uint32_t stage, std::uint32_t microbatch, Position position) {
    const auto found = extras_.find(stage);
    if (found == extras_.end()) return;
    for (const Extra& e : found->second) {
      if (e.position != position) continue;
      out_.push_back(
          {.kind = Kind::kOther, .stage = stage, .microbatch = microbatch, .instruction = e.instruction});
    }
  }

  const ExtrasOfStage& extras_;
  const InputGradients& input_gradients_;
  std::vector<Computation> out_;
};

std::set<std::uint32_t> all_stages(const Schedule& schedule) {
  std::set<std::uint32_t> stages;
  for (const auto& rank : schedule.ranks) {
    for (const Computation& c : rank) {
      stages.insert(c.stage);
      if (c.kind == Kind::kForwardBackward) stages.insert(c.stage_b);
    }
  }
  return stages;
}

InputGradients input_gradients_of_first_stage(const Schedule& schedule) {
  InputGradients microbatches;
  for (const auto& rank : schedule.ranks) {
    for (const Computation& c : rank) {
      if (c.kind == Kind::kBackwardInput && c.stage == 0) microbatches.insert(c.microbatch);
    }
  }
  return microbatches;
}

Status check_count(const Schedule& schedule, std::span<const Insert> inserts) {
  std::uint64_t count = 0;
  for (const auto& rank : schedule.ranks) count += rank.size();
  for (const Insert& insert : inserts) {
    const bool once = insert.position == Position::kStart || insert.position == Position::kEnd;
    count += once ? 1 : schedule.microbatches;
  }
  if (count <= core::kMaxComputations) return {};
  return fail(ErrorCode::kLimit,
              fmt::format("with its inserted instructions the schedule has up to {} computations; "
                          "the limit is {}",
                          count, core::kMaxComputations));
}

}  // namespace

Result<Schedule> apply_inserts(Schedule schedule, std::span<const Insert> inserts) {
  if (inserts.empty()) return schedule;
  const std::set<std::uint32_t> stages = all_stages(schedule);
  if (stages.empty()) return fail(ErrorCode::kInvalidInput, "nothing can be inserted into an empty schedule");
  ExtrasOfStage extras;
  for (const Insert& insert : inserts) {
    PERSEUS_RETURN_IF_ERROR(check_insert(insert, stages));
    extras[insert.stage].push_back({insert.position, intern(schedule.instructions, insert.instruction)});
  }
  PERSEUS_RETURN_IF_ERROR(check_count(schedule, inserts));
  const InputGradients input_gradients = input_gradients_of_first_stage(schedule);
  for (auto& rank : schedule.ranks) rank = RankWriter(extras, input_gradients).write(rank);
  return schedule;
}

}  // namespace perseus::schedule
