// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "perseus/model/gpu_physics.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/model/kernels.h"
#include "perseus/model/names.h"
#include "perseus/model/transformer_zoo.h"

namespace perseus::model {
namespace {

using core::Megahertz;

TEST(EditDistance, CountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("a40", "a40"), 0U);
  EXPECT_EQ(edit_distance("a40", "a100"), 2U);
  EXPECT_EQ(edit_distance("", "h100"), 4U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(TransformerZoo, RefusesUnknownNamesWithTheNearest) {
  const auto result = find_transformer("gpt3-175");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), core::ErrorCode::kInvalidInput);
  EXPECT_EQ(result.error().text(),
            "--model: unknown model \"gpt3-175\"; did you mean \"gpt3-175b\"? known: bloom-176b, gpt3-13b, "
            "gpt3-175b, "
            "gpt3-6.7b, llama-3-405b, llama-3-70b, llama-3-8b");
}

TEST(TransformerZoo, IsSortedAndSound) {
  EXPECT_TRUE(std::ranges::is_sorted(transformers(), {}, &TransformerModel::name));
  for (const TransformerModel& m : transformers()) {
    EXPECT_EQ(find_transformer(m.name).value(), &m);
    EXPECT_EQ(m.hidden % m.heads, 0U) << m.name;
    EXPECT_EQ(m.heads % m.kv_heads, 0U) << m.name;
    EXPECT_THAT(std::string(m.source), testing::StartsWith("arXiv ")) << m.name;
  }
}

TEST(TransformerZoo, WeightsComeToThePublishedCounts) {
  // Untied in Llama 3 (arXiv 2407.21783 Table 3: 8B, 70B, 405B); GPT-3 and BLOOM (176.2e9 of arXiv
  // 2211.05100) share embedding and head, which parameters() counts twice.
  EXPECT_NEAR(parameters(**find_transformer("llama-3-8b")), 8.03e9, 0.01e9);
  EXPECT_NEAR(parameters(**find_transformer("llama-3-70b")), 70.6e9, 0.1e9);
  EXPECT_NEAR(parameters(**find_transformer("llama-3-405b")), 405.8e9, 0.5e9);
  EXPECT_NEAR(parameters(**find_transformer("gpt3-175b")) - 12288.0 * 50257, 174.6e9, 0.2e9);
  EXPECT_NEAR(parameters(**find_transformer("bloom-176b")) - 14336.0 * 250680, 176.2e9, 0.2e9);
}

TEST(TransformerZoo, PadsTheVocabularyAsMegatronDoes) {
  EXPECT_EQ(padded_vocabulary(**find_transformer("gpt3-175b"), 8), 51200U);
  EXPECT_EQ(padded_vocabulary(**find_transformer("bloom-176b"), 4), 250880U) << "BLOOM's published embedding";
  EXPECT_EQ(padded_vocabulary(**find_transformer("llama-3-8b"), 1), 128256U);
}

TEST(GpuZoo, RefusesUnknownNamesWithTheNearest) {
  const auto result = find_gpu("a100");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text(),
            "--gpu-model: unknown GPU \"a100\"; did you mean \"a100-pcie-80g\"? known: a100-pcie-80g, "
            "a100-sxm-80g, a40, "
            "h100-pcie, h100-sxm, h200-sxm");
}

TEST(GpuZoo, EveryFigureHasAUnitAndASource) {
  EXPECT_TRUE(std::ranges::is_sorted(gpus(), {}, &GpuModel::name));
  for (const GpuModel& gpu : gpus()) {
    for (const GpuField& field : gpu_fields()) {
      const Figure& figure = gpu.*field.member;
      EXPECT_GT(figure.value, 0) << gpu.name << ": " << field.name;
      EXPECT_FALSE(figure.unit.empty()) << gpu.name << ": " << field.name;
      EXPECT_FALSE(figure.source.empty()) << gpu.name << ": " << field.name;
    }
  }
  for (const auto list : {work_assumptions(), physics_assumptions()}) {
    for (const Assumption& a : list) EXPECT_FALSE(a.figure.source.empty()) << a.name;
  }
}

TEST(GpuZoo, TensorWorkPerClockAgreesWithTheDatasheet) {
  // The data sheet's peak implies a clock between 90 % of the top clock (Hopper is rated below it) and the
  // top clock.
  for (const GpuModel& gpu : gpus()) {
    const double implied =
        gpu.datasheet_flops.value / gpu.streaming_multiprocessors.value / gpu.flop_per_clock.value;
    EXPECT_GT(implied, 0.9e6 * gpu.clock_max.value) << gpu.name;
    EXPECT_LT(implied, 1.001e6 * gpu.clock_max.value) << gpu.name;
  }
}

TEST(GpuZoo, SupportedClocksFallToTheLowest) {
  const auto clocks = supported_clocks(**find_gpu("a100-sxm-80g"));
  EXPECT_EQ(clocks.size(), 81U);
  EXPECT_EQ(clocks.front(), Megahertz(1410));
  EXPECT_EQ(clocks[1], Megahertz(1395));
  EXPECT_EQ(clocks.back(), Megahertz(210));
  EXPECT_EQ(supported_clocks(**find_gpu("a40")).size(), 103U) << "as the Perseus artifact says";
  EXPECT_EQ(supported_clocks(**find_gpu("h100-sxm")).front(), Megahertz(1980));
}

}  // namespace
}  // namespace perseus::model
