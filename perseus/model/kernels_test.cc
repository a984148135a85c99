// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/kernels.h"

#include <gtest/gtest.h>

#include "tests/support/property.h"

namespace perseus::model {
namespace {

Deployment setup_of(const char* model, std::uint32_t tensor, std::uint32_t microbatch = 1) {
  SynthRequest request;
  request.model = model;
  request.gpu = "a100-sxm-80g";
  request.tensor = tensor;
  request.microbatch_size = microbatch;
  return resolve(request).value();
}

double flop(const Work& work) {
  double sum = 0;
  for (const Kernel& k : work) sum += k.count * k.flop;
  return sum;
}

double link_bytes(const Work& work) {
  double sum = 0;
  for (const Kernel& k : work) sum += k.kind == KernelClass::kLink ? k.count * k.bytes : 0;
  return sum;
}

TEST(Kernels, ForwardOfAGptLayerIsTheTextbooks) {
  // 24 b s h^2 + 4 b s^2 h / 2 (causal) of a layer, over 8 GPUs (arXiv 2104.04473 section 3.4, with the
  // mask).
  const double s = 2048;
  const double h = 12288;
  const double expected = (24 * s * h * h + 2 * s * s * h) / 8;
  EXPECT_NEAR(flop(forward_work(setup_of("gpt3-175b", 8), {.layers = 1})) / expected, 1, 1e-12);
}

TEST(Kernels, ForwardOfAGatedGroupedLayerIsTheTextbooks) {
  const double s = 8192;
  const double h = 8192;
  const double kv = 1024;
  const double expected = 2 * s * (2 * h * h + 2 * h * kv + 3 * h * 28672) + 2 * s * s * h;
  EXPECT_NEAR(flop(forward_work(setup_of("llama-3-70b", 1), {.layers = 1})) / expected, 1, 1e-12);
}

TEST(Kernels, HeadAndLossAreOnTheLastStage) {
  const Deployment setup = setup_of("bloom-176b", 4);
  const double more =
      flop(forward_work(setup, {.layers = 5, .last = true})) - flop(forward_work(setup, {.layers = 5}));
  EXPECT_NEAR(more / (2.0 * 2048 * 14336 * 250880 / 4), 1, 1e-9);
}

TEST(Kernels, AllReducesAreMegatrons) {
  // Two of b s h in BF16 for a layer and direction, each sending 2 (t - 1) / t of it; one for the embedding.
  const double payload = 2.0 * 2048 * 12288;
  const Deployment setup = setup_of("gpt3-175b", 8);
  EXPECT_DOUBLE_EQ(link_bytes(forward_work(setup, {.layers = 12})), 24 * payload * 2 * 7 / 8);
  EXPECT_DOUBLE_EQ(link_bytes(backward_input_work(setup, {.layers = 12})), 24 * payload * 2 * 7 / 8);
  EXPECT_DOUBLE_EQ(link_bytes(forward_work(setup, {.layers = 12, .first = true})), 25 * payload * 2 * 7 / 8);
  EXPECT_EQ(link_bytes(backward_weight_work(setup, {.layers = 12})), 0);
  EXPECT_EQ(link_bytes(forward_work(setup_of("gpt3-175b", 1), {.layers = 12, .first = true})), 0);
}

TEST(Kernels, BackwardIsTwiceTheForwardButForFlashAttention) {
  const Deployment setup = setup_of("gpt3-175b", 8);
  const StageShape stage{.layers = 12, .last = true};
  const double attention = 12 * 2.0 * 2048 * 2048 * 12288 / 8;
  const double forward = flop(forward_work(setup, stage));
  const double backward = flop(backward_input_work(setup, stage)) + flop(backward_weight_work(setup, stage));
  EXPECT_NEAR((backward - 0.5 * attention) / (2 * forward), 1, 1e-12);
  EXPECT_NEAR(model_flop(setup, stage) / (3 * forward), 1, 1e-12);
}

TEST(Kernels, RecomputationIsTheLayersForward) {
  const Deployment setup = setup_of("bloom-176b", 4);
  const double layers = flop(forward_work(setup, {.layers = 6}));
  EXPECT_DOUBLE_EQ(flop(recompute_work(setup, {.layers = 6, .first = true, .last = true})), layers);
}

TEST(Kernels, WorkGrowsWithLayersAndTokensAndShrinksWithTheTensorWidth) {
  tests::check_property([] {
    const auto& models = transformers();
    const auto& model = models[*rc::gen::inRange<std::size_t>(0, models.size())];
    const auto layers = *rc::gen::inRange<std::uint32_t>(1, 20);
    const std::string name(model.name);
    const StageShape stage{
        .layers = layers, .first = *rc::gen::arbitrary<bool>(), .last = *rc::gen::arbitrary<bool>()};
    const StageShape more{.layers = layers + 1, .first = stage.first, .last = stage.last};
    const Deployment one = setup_of(name.c_str(), 1);
    const Deployment two = setup_of(name.c_str(), 2);
    const Deployment wide = setup_of(name.c_str(), 1, 3);
    for (const auto part : {forward_work, backward_input_work, backward_weight_work}) {
      RC_ASSERT(flop(part(one, more)) > flop(part(one, stage)));
      RC_ASSERT(flop(part(two, stage)) < 0.51 * flop(part(one, stage)));
      RC_ASSERT(std::abs(flop(part(wide, stage)) / (3 * flop(part(one, stage))) - 1) < 1e-9);
    }
  });
}

}  // namespace
}  // namespace perseus::model
