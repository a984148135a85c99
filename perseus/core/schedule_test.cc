// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/schedule.h"

#include <gtest/gtest.h>

namespace perseus::core {
namespace {

TEST(Schedule, LettersAndInstructionNames) {
  const std::pair<std::string_view, std::string_view> expected[] = {{"F", "forward"},
                                                                    {"B", "backward"},
                                                                    {"I", "backward_input"},
                                                                    {"W", "backward_weight"},
                                                                    {"FB", "forward_backward"},
                                                                    {"R", "recompute"},
                                                                    {"X", ""}};
  for (std::size_t k = 0; k < std::size(expected); ++k) {
    EXPECT_EQ(letter(static_cast<Kind>(k)), expected[k].first);
    EXPECT_EQ(instruction_name(static_cast<Kind>(k)), expected[k].second);
  }
}

TEST(Schedule, CellsReadAsPyTorchWritesThem) {
  const Schedule schedule{.instructions = {"load", "allreduce"}};
  const auto cell = [&](const Computation& c) { return to_string(schedule, c); };
  EXPECT_EQ(cell({.kind = Kind::kForward, .stage = 3, .microbatch = 12}), "3F12");
  EXPECT_EQ(cell({.kind = Kind::kBackwardInput}), "0I0");
  EXPECT_EQ(cell({.kind = Kind::kForwardBackward, .microbatch = 7, .stage_b = 7, .microbatch_b = 3}),
            "(0F7;7B3)OVERLAP_F_B");
  EXPECT_EQ(cell({.kind = Kind::kRecompute, .stage = 1, .microbatch = 2}), "1R2");
  EXPECT_EQ(cell({.kind = Kind::kOther, .stage = 1, .microbatch = 2, .instruction = 1}), "1allreduce2");
}

TEST(Schedule, CanonicalTextHoldsSizesAndOrders) {
  Schedule schedule{.name = "does not matter", .microbatches = 1, .virtual_stages = 1};
  schedule.ranks = {{{.kind = Kind::kForward}, {.kind = Kind::kBackward}},
                    {{.kind = Kind::kForward, .stage = 1}, {.kind = Kind::kBackward, .stage = 1}}};
  EXPECT_EQ(canonical_text(schedule, 8, 16),
            "perseus-schedule/1 pp=2 tp=8 dp=16 virtual_stages=1\n0F0,0B0\n1F0,1B0\n");
  EXPECT_EQ(schedule.pipeline(), 2u);
  EXPECT_EQ(schedule.stages(), 2u);
}

}  // namespace
}  // namespace perseus::core
