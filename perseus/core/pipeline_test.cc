// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "perseus/core/profile.h"

namespace perseus::core {
namespace {

using testing::ElementsAre;

/// One cell: stage, letter, microbatch; "X" is instruction 0.
Computation cell(std::uint32_t stage, char kind, std::uint32_t microbatch) {
  const std::string_view letters = "FBIW?RX";
  return {.kind = static_cast<Kind>(letters.find(kind)), .stage = stage, .microbatch = microbatch};
}

Computation pair(std::uint32_t f, std::uint32_t mf, std::uint32_t b, std::uint32_t mb) {
  return {.kind = Kind::kForwardBackward, .stage = f, .microbatch = mf, .stage_b = b, .microbatch_b = mb};
}

using Ranks = std::vector<std::vector<Computation>>;

Result<Pipeline> build(Ranks ranks, std::uint32_t microbatches = 1, std::uint32_t virtual_stages = 1) {
  return Pipeline::build({.name = "test",
                          .microbatches = microbatches,
                          .virtual_stages = virtual_stages,
                          .ranks = std::move(ranks),
                          .instructions = {"load"}});
}

std::string refusal(Ranks ranks, std::uint32_t microbatches = 1, std::uint32_t virtual_stages = 1) {
  const auto pipeline = build(std::move(ranks), microbatches, virtual_stages);
  if (pipeline) return "accepted";
  EXPECT_EQ(pipeline.error().code(), ErrorCode::kInvalidInput);
  return pipeline.error().text();
}

/// "0F0>1F0*": from, to, and * for a transfer between ranks.
std::vector<std::string> edges(const Pipeline& pipeline) {
  std::vector<std::string> text;
  const auto name = [&](ComputationId i) { return to_string(pipeline.schedule(), pipeline.computation(i)); };
  for (const Edge& e : pipeline.edges())
    text.push_back(name(e.from) + ">" + name(e.to) + (e.cross_rank ? "*" : ""));
  return text;
}

const Ranks kTwoByTwo = {{cell(0, 'F', 0), cell(0, 'F', 1), cell(0, 'B', 0), cell(0, 'B', 1)},
                         {cell(1, 'F', 0), cell(1, 'B', 0), cell(1, 'F', 1), cell(1, 'B', 1)}};

TEST(Pipeline, OneForwardOneBackwardHasTheseEdges) {
  const auto pipeline = build(kTwoByTwo, 2).value();
  EXPECT_THAT(edges(pipeline), ElementsAre("0F0>0F1", "0F0>1F0*", "0F1>0B0", "0F1>1F1*", "0B0>0B1", "1F0>1B0",
                                           "1B0>0B0*", "1B0>1F1", "1F1>1B1", "1B1>0B1*"));
  EXPECT_EQ(pipeline.size(), 8u);
  EXPECT_EQ(pipeline.first_of_rank(1), 4u);
  EXPECT_EQ(pipeline.first_of_rank(2), 8u);
  EXPECT_EQ(pipeline.rank_of(4), 1u);
  EXPECT_EQ(pipeline.name(5), "1B0 on rank 1");
  EXPECT_EQ(pipeline.first_out(1), 2u);
  EXPECT_EQ(pipeline.first_out(8), 10u);
}

TEST(Pipeline, SplitBackwardsHandTheGradientOnFromTheInputHalf) {
  // Stage 0 with its I, which does nothing but is there.
  const auto pipeline = build({{cell(0, 'F', 0), cell(0, 'I', 0), cell(0, 'W', 0)},
                               {cell(1, 'F', 0), cell(1, 'I', 0), cell(1, 'W', 0)}})
                            .value();
  EXPECT_THAT(edges(pipeline),
              ElementsAre("0F0>0I0", "0F0>1F0*", "0I0>0W0", "1F0>1I0", "1I0>0I0*", "1I0>1W0"));
}

TEST(Pipeline, WithoutItsInputHalfTheWeightHalfOfStage0WaitsForTheGradient) {
  const auto pipeline =
      build({{cell(0, 'F', 0), cell(0, 'W', 0)}, {cell(1, 'F', 0), cell(1, 'I', 0), cell(1, 'W', 0)}})
          .value();
  EXPECT_THAT(edges(pipeline), ElementsAre("0F0>0W0", "0F0>1F0*", "1F0>1I0", "1I0>0W0*", "1I0>1W0"));
}

TEST(Pipeline, AFullBackwardTakesTheGradientOfASplitOneAndTheOtherWayRound) {
  const auto pipeline = build({{cell(0, 'F', 0), cell(0, 'B', 0)},
                               {cell(1, 'F', 0), cell(1, 'I', 0), cell(1, 'W', 0)},
                               {cell(2, 'F', 0), cell(2, 'B', 0)}})
                            .value();
  EXPECT_THAT(edges(pipeline), ElementsAre("0F0>0B0", "0F0>1F0*", "1F0>1I0", "1F0>2F0*", "1I0>0B0*",
                                           "1I0>1W0", "2F0>2B0", "2B0>1I0*"));
}

TEST(Pipeline, VirtualStagesWrapAround) {
  const auto pipeline = build({{cell(0, 'F', 0), cell(2, 'F', 0), cell(2, 'B', 0), cell(0, 'B', 0)},
                               {cell(1, 'F', 0), cell(3, 'F', 0), cell(3, 'B', 0), cell(1, 'B', 0)}},
                              1, 2)
                            .value();
  EXPECT_THAT(edges(pipeline),
              ElementsAre("0F0>2F0", "0F0>1F0*", "2F0>2B0", "2F0>3F0*", "2B0>0B0", "2B0>1B0*", "1F0>2F0*",
                          "1F0>3F0", "3F0>3B0", "3B0>2B0*", "3B0>1B0", "1B0>0B0*"));
}

TEST(Pipeline, NeighbouringStagesOfOneRankNeedNoTransfer) {
  // The turn of a V: stages 1 and 2 on rank 1, 0 and 3 on rank 0.
  const auto pipeline = build({{cell(0, 'F', 0), cell(3, 'F', 0), cell(3, 'B', 0), cell(0, 'B', 0)},
                               {cell(1, 'F', 0), cell(2, 'F', 0), cell(2, 'B', 0), cell(1, 'B', 0)}},
                              1, 2)
                            .value();
  EXPECT_THAT(edges(pipeline), ElementsAre("0F0>3F0", "0F0>1F0*", "3F0>3B0", "3B0>0B0", "3B0>2B0*", "1F0>2F0",
                                           "2F0>3F0*", "2F0>2B0", "2B0>1B0", "1B0>0B0*"));
}

TEST(Pipeline, APairWaitsForBothOfItsParts) {
  // Rank 0 holds stages 0 and 3, rank 1 holds 1 and 2; the pairs run F of one microbatch with B of the other.
  const auto pipeline = build({{cell(0, 'F', 0), cell(3, 'F', 0), pair(0, 1, 3, 0), cell(0, 'B', 0),
                                cell(3, 'F', 1), cell(3, 'B', 1), cell(0, 'B', 1)},
                               {cell(1, 'F', 0), cell(2, 'F', 0), pair(1, 1, 2, 0), cell(1, 'B', 0),
                                cell(2, 'F', 1), cell(2, 'B', 1), cell(1, 'B', 1)}},
                              2, 2)
                            .value();
  const auto all = edges(pipeline);
  EXPECT_THAT(all, testing::Contains("(0F1;3B0)OVERLAP_F_B>(1F1;2B0)OVERLAP_F_B*"));
  EXPECT_THAT(all, testing::Contains("3F0>(0F1;3B0)OVERLAP_F_B"));
  EXPECT_THAT(all, testing::Contains("(1F1;2B0)OVERLAP_F_B>1B0"));
  EXPECT_EQ(pipeline.name(2), "(0F1;3B0)OVERLAP_F_B on rank 0");
}

TEST(Pipeline, RecomputationStandsBetweenForwardAndBackward) {
  EXPECT_THAT(edges(build({{cell(0, 'F', 0), cell(0, 'R', 0), cell(0, 'B', 0)}}).value()),
              ElementsAre("0F0>0R0", "0R0>0B0"));
  EXPECT_EQ(refusal({{cell(0, 'R', 0), cell(0, 'F', 0), cell(0, 'B', 0)}}),
            "0R0 on rank 0 comes before 0F0, whose result it needs: deadlock");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0), cell(0, 'R', 0)}}),
            "0B0 on rank 0 comes before 0R0, whose result it needs: deadlock");
}

TEST(Pipeline, OtherInstructionsFollowTheirRanksOrderOnly) {
  const auto pipeline = build({{cell(0, 'X', 0), cell(0, 'F', 0), cell(0, 'B', 0)}}).value();
  EXPECT_THAT(edges(pipeline), ElementsAre("0load0>0F0", "0F0>0B0"));
  Computation unknown = cell(0, 'X', 0);
  unknown.instruction = 1;
  EXPECT_EQ(refusal({{unknown, cell(0, 'F', 0), cell(0, 'B', 0)}}),
            "a computation of stage 0 on rank 0 is instruction 1 of 1 that the schedule names");
  EXPECT_EQ(refusal({{cell(0, 'X', 0), cell(0, 'X', 0), cell(0, 'F', 0), cell(0, 'B', 0)}}),
            "0load0 on rank 0 is repeated");
}

TEST(Pipeline, RefusesWhatIsMissingOrRepeated) {
  EXPECT_EQ(refusal({}), "the schedule has no rank");
  EXPECT_EQ(refusal({{cell(0, 'F', 0)}}, 0), "the schedule has no microbatch");
  EXPECT_EQ(refusal({{cell(0, 'F', 0)}}, 1, 0), "the schedule has 0 virtual stages per rank; the least is 1");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0)}, {}}), "rank 1 has no computation");
  EXPECT_EQ(refusal({{cell(0, 'B', 0)}}), "0F0 (stage 0, forward, microbatch 0) is missing");
  EXPECT_EQ(refusal({{cell(0, 'F', 0)}}), "0B0 (stage 0, backward, microbatch 0) is missing");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'I', 0)}}),
            "0W0 (stage 0, backward_weight, microbatch 0) is missing");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0)}, {cell(1, 'F', 0), cell(1, 'W', 0)}}),
            "1I0 (stage 1, backward_input, microbatch 0) is missing");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'F', 0), cell(0, 'B', 0)}}), "0F0 on rank 0 is repeated");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0), pair(0, 1, 0, 0), cell(0, 'B', 1)}}, 2),
            "(0F1;0B0)OVERLAP_F_B on rank 0 is repeated");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0), cell(0, 'W', 0)}}),
            "stage 0, microbatch 0: has both a full backward 0B0 and a split one");
}

TEST(Pipeline, RefusesWhatIsOutOfPlace) {
  EXPECT_EQ(refusal({{cell(1, 'F', 0), cell(0, 'B', 0)}}),
            "1F0 on rank 0: stage 1 is out of range; the schedule has stages 0 to 0");
  EXPECT_EQ(refusal({{cell(0, 'F', 2), cell(0, 'B', 0)}}),
            "0F2 on rank 0: microbatch 2 is out of range; the schedule has 1 microbatches");
  EXPECT_EQ(refusal({{pair(0, 0, 4, 0)}}),
            "(0F0;4B0)OVERLAP_F_B on rank 0: stage 4 is out of range; the schedule has stages 0 to 0");
  EXPECT_EQ(refusal({{cell(0, 'F', 0)}, {cell(0, 'B', 0), cell(1, 'F', 0), cell(1, 'B', 0)}}),
            "0B0 on rank 1: stage 0 is already on rank 0");
}

TEST(Pipeline, RefusesDeadlocks) {
  EXPECT_EQ(refusal({{cell(0, 'B', 0), cell(0, 'F', 0)}}),
            "0B0 on rank 0 comes before 0F0, whose result it needs: deadlock");
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'W', 0), cell(0, 'I', 0)}}),
            "0W0 on rank 0 comes before 0I0, whose result it needs: deadlock");
  EXPECT_EQ(
      refusal({{pair(0, 0, 0, 0)}}),
      "(0F0;0B0)OVERLAP_F_B on rank 0 comes before (0F0;0B0)OVERLAP_F_B, whose result it needs: deadlock");
  // Rank 0 wants the gradient of microbatch 0 before it sends microbatch 1, rank 1 wants microbatch 1 first.
  EXPECT_EQ(refusal({{cell(0, 'F', 0), cell(0, 'B', 0), cell(0, 'F', 1), cell(0, 'B', 1)},
                     {cell(1, 'F', 0), cell(1, 'F', 1), cell(1, 'B', 0), cell(1, 'B', 1)}},
                    2),
            "0B0 on rank 0 can never start: the ranks wait for each other (deadlock)");
}

TEST(Pipeline, SizesAreLimitedBeforeAnythingIsAllocated) {
  const auto limit = [](std::uint32_t microbatches, std::uint32_t virtual_stages) {
    const auto pipeline = build({{cell(0, 'F', 0)}, {cell(1, 'F', 0)}}, microbatches, virtual_stages);
    EXPECT_EQ(pipeline.error().code(), ErrorCode::kLimit);
    return pipeline.error().text();
  };
  EXPECT_EQ(limit(1u << 24, 1), "the schedule has at least 33554432 computations; the limit is 16777216");
  // 2 ranks of 2^31 stages: 2^32, which 32 bits do not hold.
  EXPECT_EQ(limit(1, 1u << 31), "the schedule has at least 4294967296 computations; the limit is 16777216");
  EXPECT_EQ(limit(0xffffffff, 0xffffffff),
            "the schedule has at least 8589934590 computations; the limit is 16777216");
}

}  // namespace
}  // namespace perseus::core
