// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/insert.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "perseus/core/pipeline.h"
#include "perseus/schedule/generate.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::Insert;
using core::Kind;
using core::Position;
using core::Schedule;

Schedule make(const Request& request) {
  return generate(request).value();
}

Schedule with(Schedule schedule, const std::vector<Insert>& inserts) {
  auto result = apply_inserts(std::move(schedule), inserts);
  EXPECT_TRUE(result.has_value()) << result.error().text();
  return result.value_or(Schedule{});
}

std::string cells(const Schedule& schedule, std::uint32_t rank) {
  std::string text;
  for (const Computation& c : schedule.ranks.at(rank)) {
    text += (text.empty() ? "" : " ") + core::to_string(schedule, c);
  }
  return text;
}

TEST(Insert, NothingChangesNothing) {
  const Schedule plain = make({.name = "1f1b", .pipeline = 2, .microbatches = 3});
  EXPECT_EQ(with(plain, {}).ranks, plain.ranks);
}

TEST(Insert, EveryPositionOfAFullBackward) {
  const Schedule schedule = with(make({.name = "1f1b", .pipeline = 2, .microbatches = 2}),
                                 {{"load", 0, Position::kBeforeForward},
                                  {"fwd_done", 0, Position::kAfterForward},
                                  {"gather", 0, Position::kBeforeBackward},
                                  {"reduce", 0, Position::kAfterBackward},
                                  {"first", 0, Position::kStart},
                                  {"last", 0, Position::kEnd}});
  EXPECT_EQ(cells(schedule, 0),
            "0first0 0load0 0F0 0fwd_done0 0load1 0F1 0fwd_done1 0gather0 0B0 0reduce0 0gather1 0B1 0reduce1 "
            "0last0");
  EXPECT_EQ(cells(schedule, 1), "1F0 1B0 1F1 1B1");
  EXPECT_EQ(schedule.instructions,
            (std::vector<std::string>{"load", "fwd_done", "gather", "reduce", "first", "last"}));
  EXPECT_TRUE(core::Pipeline::build(schedule).has_value());
}

TEST(Insert, ASplitBackwardStartsWithIAndEndsWithW) {
  const Schedule schedule =
      with(make({.name = "zb-h1", .pipeline = 2, .microbatches = 2}),
           {{"gather", 1, Position::kBeforeBackward}, {"reduce", 1, Position::kAfterBackward}});
  EXPECT_EQ(cells(schedule, 1), "1F0 1gather0 1I0 1F1 1gather1 1I1 1W0 1reduce0 1W1 1reduce1");
}

TEST(Insert, WithoutAnITheFirstStagesBackwardStartsWithW) {
  Schedule schedule = make({.name = "zb-h1", .pipeline = 2, .microbatches = 2});
  std::erase_if(schedule.ranks[0], [](const Computation& c) { return c.kind == Kind::kBackwardInput; });
  EXPECT_EQ(cells(with(schedule, {{"gather", 0, Position::kBeforeBackward}}), 0),
            "0F0 0F1 0gather0 0W0 0gather1 0W1");
}

TEST(Insert, RecomputationIsNotTheBackward) {
  const Schedule schedule = with(make({.name = "early-recompute-1f1b", .pipeline = 1, .microbatches = 1}),
                                 {{"gather", 0, Position::kBeforeBackward}});
  EXPECT_EQ(cells(schedule, 0), "0F0 0R0 0gather0 0B0");
}

TEST(Insert, BothHalvesOfAnOverlappedPair) {
  Schedule schedule;
  schedule.microbatches = 2;
  schedule.virtual_stages = 2;
  schedule.ranks = {
      {{.kind = Kind::kForwardBackward, .stage = 0, .microbatch = 1, .stage_b = 1, .microbatch_b = 0}}};
  EXPECT_EQ(cells(with(schedule, {{"load", 0, Position::kBeforeForward},
                                  {"sent", 0, Position::kAfterForward},
                                  {"gather", 1, Position::kBeforeBackward},
                                  {"reduce", 1, Position::kAfterBackward},
                                  {"never", 1, Position::kBeforeForward},
                                  {"never", 0, Position::kAfterBackward}}),
                  0),
            "0load1 1gather0 (0F1;1B0)OVERLAP_F_B 0sent1 1reduce0");
}

TEST(Insert, SeveralAtOnePlaceKeepTheirOrder) {
  const Schedule schedule = with(make({.name = "gpipe", .pipeline = 1, .microbatches = 1}),
                                 {{"read", 0, Position::kBeforeForward},
                                  {"decode", 0, Position::kBeforeForward},
                                  {"one", 0, Position::kAfterForward},
                                  {"two", 0, Position::kAfterForward}});
  EXPECT_EQ(cells(schedule, 0), "0read0 0decode0 0F0 0one0 0two0 0B0");
}

TEST(Insert, AnInstructionOfTheFileIsTheSame) {
  Schedule schedule = make({.name = "gpipe", .pipeline = 1, .microbatches = 1});
  schedule = with(std::move(schedule), {{"load", 0, Position::kBeforeForward}});
  schedule = with(std::move(schedule), {{"save", 0, Position::kEnd}, {"load", 0, Position::kBeforeBackward}});
  EXPECT_EQ(schedule.instructions, (std::vector<std::string>{"load", "save"}));
  const auto pipeline = core::Pipeline::build(schedule);
  ASSERT_FALSE(pipeline.has_value());
  EXPECT_EQ(pipeline.error().text(), "0load0 on rank 0 is repeated");
}

std::string refusal(const Insert& insert, const Schedule& schedule) {
  const auto result = apply_inserts(schedule, {&insert, 1});
  return result ? "accepted" : result.error().text();
}

TEST(InsertRefuses, StagesThatNobodyHas) {
  EXPECT_EQ(refusal({"load", 2, Position::kStart}, make({.name = "1f1b", .pipeline = 2, .microbatches = 2})),
            "instruction 'load' is for stage 2, which no rank has; the schedule has stages 0 to 1");
  EXPECT_EQ(refusal({"load", 0, Position::kStart}, Schedule{}),
            "nothing can be inserted into an empty schedule");
}

TEST(InsertRefuses, NamesThatNoCellCanHold) {
  const Schedule schedule = make({.name = "1f1b", .pipeline = 2, .microbatches = 2});
  for (const char* name :
       {"", "x", "F", "FB", "forward", "SEND_F", "load2", "2load", "a b", "a,b", "-load", "load-"}) {
    EXPECT_EQ(refusal({name, 0, Position::kStart}, schedule),
              "instruction '" + std::string(name) +
                  "' cannot be inserted: a name is 2 to 64 letters, digits, '_', '-' or '.', starts and "
                  "ends with a letter or '_', and is not PyTorch's or ours for a computation");
  }
  EXPECT_EQ(refusal({"_fp8-all.reduce", 0, Position::kStart}, schedule), "accepted");
}

TEST(InsertRefuses, TooManyComputations) {
  Schedule schedule = make({.name = "1f1b", .pipeline = 1, .microbatches = 2});
  schedule.microbatches =
      1U << 24U;  // as a forged file could claim; the check must not need the computations
  const auto result = apply_inserts(schedule, std::vector<Insert>{{"load", 0, Position::kBeforeForward}});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), core::ErrorCode::kLimit);
  EXPECT_EQ(
      result.error().text(),
      "with its inserted instructions the schedule has up to 16777220 computations; the limit is 16777216");
}

}  // namespace
}  // namespace perseus::schedule
