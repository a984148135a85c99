// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace perseus::model {
namespace {

using core::Megahertz;
using testing::ElementsAre;

SynthRequest gpt3() {
  SynthRequest request;
  request.model = "gpt3-175b";
  request.gpu = "a100-sxm-80g";
  request.pipeline = 8;
  request.tensor = 8;
  return request;
}

/// The refusal of a request that differs from gpt3() by `change`; empty if it is accepted.
template <class Change>
std::string refusal(Change change) {
  SynthRequest request = gpt3();
  change(request);
  const auto result = resolve(request);
  if (result) return "";
  EXPECT_EQ(result.error().code(), core::ErrorCode::kInvalidInput);
  return result.error().text();
}

TEST(Resolve, FillsInTheModelsDefaults) {
  const Deployment setup = resolve(gpt3()).value();
  EXPECT_EQ(setup.stages, 8U);
  EXPECT_EQ(setup.sequence, 2048U);
  EXPECT_EQ(setup.tokens, 2048);
}

TEST(Resolve, RefusesZeros) {
  EXPECT_EQ(refusal([](auto& r) { r.pipeline = 0; }), "--pp: is 0; the least is 1");
  EXPECT_EQ(refusal([](auto& r) { r.tensor = 0; }), "--tp: is 0; the least is 1");
  EXPECT_EQ(refusal([](auto& r) { r.virtual_stages = 0; }), "--virtual-stages: is 0; the least is 1");
  EXPECT_EQ(refusal([](auto& r) { r.microbatch_size = 0; }), "--microbatch-size: is 0; the least is 1");
  EXPECT_EQ(refusal([](auto& r) { r.sequence_length = 0; }), "--sequence-length: is 0; the least is 1");
  EXPECT_EQ(refusal([](auto& r) { r.samples = 0; }), "--samples: is 0; the least is 1");
}

TEST(Resolve, RefusesMoreStagesThanLayers) {
  EXPECT_EQ(refusal([](auto& r) { r.pipeline = 96; }), "");
  EXPECT_EQ(refusal([](auto& r) { r.pipeline = 97; }),
            "--pp: 97 pipeline ranks x 1 virtual stages are 97 stages; gpt3-175b has only 96 layers");
  EXPECT_EQ(refusal([](auto& r) { r.virtual_stages = 13; }),
            "--pp: 8 pipeline ranks x 13 virtual stages are 104 stages; gpt3-175b has only 96 layers");
  EXPECT_EQ(
      refusal([](auto& r) { r.pipeline = r.virtual_stages = std::numeric_limits<std::uint32_t>::max(); }),
      "--pp: 4294967295 pipeline ranks x 4294967295 virtual stages are 18446744065119617025 stages; "
      "gpt3-175b has "
      "only 96 layers");
}

TEST(Resolve, RefusesTensorWidthsThatDoNotDivide) {
  EXPECT_EQ(refusal([](auto& r) { r.tensor = 5; }),
            "--tp: tensor width 5 does not divide the 96 attention heads of gpt3-175b");
  EXPECT_EQ(refusal([](auto& r) { r.tensor = 16; }), "--tp: is 16; the most is 8, the GPUs of one node");
  EXPECT_EQ(refusal([](auto& r) {
              r.model = "gpt3-13b";
              r.tensor = 5;
            }),
            "")
      << "40 heads, 20480 columns";
}

TEST(Resolve, RefusesWhatWouldNotFit) {
  EXPECT_EQ(refusal([](auto& r) { r.microbatch_size = 2048; }), "") << "2^22 tokens";
  EXPECT_EQ(refusal([](auto& r) { r.microbatch_size = 2049; }),
            "--microbatch-size: 2049 sequences of 2048 tokens are 4196352 tokens; the most is 4194304");
  EXPECT_EQ(refusal([](auto& r) { r.samples = 10001; }), "--samples: is 10001; the most is 10000");
}

TEST(Resolve, RefusesImpossibleNoise) {
  EXPECT_EQ(refusal([](auto& r) { r.noise_time = 20; }), "");
  EXPECT_EQ(refusal([](auto& r) { r.noise_time = 20.5; }), "--noise-time: is 20.5 %; it must be 0 to 20 %");
  EXPECT_EQ(refusal([](auto& r) { r.noise_energy = -1; }), "--noise-energy: is -1 %; it must be 0 to 20 %");
  EXPECT_EQ(refusal([](auto& r) { r.noise_energy = std::numeric_limits<double>::quiet_NaN(); }),
            "--noise-energy: is nan %; it must be 0 to 20 %");
}

TEST(Resolve, RefusesUnknownNamesAndClocks) {
  EXPECT_THAT(refusal([](auto& r) { r.model = "bloom"; }),
              testing::HasSubstr("did you mean \"bloom-176b\"?"));
  EXPECT_THAT(refusal([](auto& r) { r.gpu = "h200"; }), testing::HasSubstr("did you mean \"h200-sxm\"?"));
  EXPECT_EQ(refusal([](auto& r) { r.clocks = 0; }), "--clocks: is 0; a100-sxm-80g has 1 to 55 useful clocks");
  EXPECT_EQ(refusal([](auto& r) { r.clocks = 56; }),
            "--clocks: is 56; a100-sxm-80g has 1 to 55 useful clocks");
}

TEST(ListedClocks, ReachFromTheTopToBelowEveryMinimum) {
  const auto clocks = listed_clocks(**find_gpu("a100-sxm-80g"), std::nullopt).value();
  EXPECT_EQ(clocks.size(), 55U);
  EXPECT_EQ(clocks.front(), Megahertz(1410));
  EXPECT_EQ(clocks.back(), Megahertz(600));
}

TEST(ListedClocks, SpreadEvenlyWithBothEnds) {
  const GpuModel& gpu = **find_gpu("a100-sxm-80g");
  EXPECT_THAT(listed_clocks(gpu, 1).value(), ElementsAre(Megahertz(1410)));
  EXPECT_THAT(listed_clocks(gpu, 2).value(), ElementsAre(Megahertz(1410), Megahertz(600)));
  EXPECT_THAT(listed_clocks(gpu, 4).value(),
              ElementsAre(Megahertz(1410), Megahertz(1140), Megahertz(870), Megahertz(600)));
  for (std::uint32_t n = 1; n <= 55; ++n) {
    const auto clocks = listed_clocks(gpu, n).value();
    ASSERT_EQ(clocks.size(), n);
    for (std::size_t i = 1; i < n; ++i) EXPECT_LT(clocks[i], clocks[i - 1]);
  }
}

}  // namespace
}  // namespace perseus::model
