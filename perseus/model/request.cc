// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace perseus::model {
namespace {

using core::ErrorCode;
using core::fail;
using core::Status;

constexpr double kLowestListedShare = 0.42;  // assumed, see listed_clocks()
constexpr std::uint32_t kMaxTensor = 8;      // GPUs of one node; the zoo's links reach no further
constexpr double kMaxTokens = 1U << 22;      // keeps every time far below core::kMaxTime
constexpr std::uint32_t kMaxSamples = 10'000;

std::unexpected<core::Error> refuse(const char* flag, std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), {.source = flag});
}

Status check_positive(const char* flag, std::uint32_t value) {
  if (value > 0) return {};
  return refuse(flag, "is 0; the least is 1");
}

Status check_divides(const TransformerModel& model, std::uint32_t tensor, const char* what,
                     std::uint32_t count) {
  if (count % tensor == 0) return {};
  return refuse("--tp", fmt::format("tensor width {} does not divide the {} {} of {}", tensor, count, what,
                                    model.name));
}

Status check_noise(const char* flag, double percent) {
  if (std::isfinite(percent) && percent >= 0 && percent <= kMaxNoisePercent) return {};
  return refuse(flag, fmt::format("is {} %; it must be 0 to {} %", percent, kMaxNoisePercent));
}

Status check_counts(const SynthRequest& request) {
  PERSEUS_RETURN_IF_ERROR(check_positive("--pp", request.pipeline));
  PERSEUS_RETURN_IF_ERROR(check_positive("--tp", request.tensor));
  PERSEUS_RETURN_IF_ERROR(check_positive("--virtual-stages", request.virtual_stages));
  PERSEUS_RETURN_IF_ERROR(check_positive("--microbatch-size", request.microbatch_size));
  if (request.sequence_length) {
    PERSEUS_RETURN_IF_ERROR(check_positive("--sequence-length", *request.sequence_length));
  }
  PERSEUS_RETURN_IF_ERROR(check_positive("--samples", request.samples));
  if (request.samples > kMaxSamples) {
    return refuse("--samples", fmt::format("is {}; the most is {}", request.samples, kMaxSamples));
  }
  PERSEUS_RETURN_IF_ERROR(check_noise("--noise-time", request.noise_time));
  return check_noise("--noise-energy", request.noise_energy);
}

Status check_parallel(const SynthRequest& request, const TransformerModel& model) {
  const std::uint64_t stages = std::uint64_t{request.pipeline} * request.virtual_stages;
  if (stages > model.layers) {
    return refuse("--pp",
                  fmt::format("{} pipeline ranks x {} virtual stages are {} stages; {} has only {} layers",
                              request.pipeline, request.virtual_stages, stages, model.name, model.layers));
  }
  if (request.tensor > kMaxTensor) {
    return refuse("--tp",
                  fmt::format("is {}; the most is {}, the GPUs of one node", request.tensor, kMaxTensor));
  }
  PERSEUS_RETURN_IF_ERROR(check_divides(model, request.tensor, "attention heads", model.heads));
  PERSEUS_RETURN_IF_ERROR(check_divides(model, request.tensor, "key/value heads", model.kv_heads));
  return check_divides(model, request.tensor, "MLP columns", model.ffn);
}

}  // namespace

core::Result<Deployment> resolve(const SynthRequest& request) {
  PERSEUS_ASSIGN_OR_RETURN(const TransformerModel* model, find_transformer(request.model));
  PERSEUS_ASSIGN_OR_RETURN(const GpuModel* gpu, find_gpu(request.gpu));
  PERSEUS_RETURN_IF_ERROR(check_counts(request));
  PERSEUS_RETURN_IF_ERROR(check_parallel(request, *model));
  PERSEUS_ASSIGN_OR_RETURN(const auto clocks, listed_clocks(*gpu, request.clocks));
  const std::uint32_t sequence = request.sequence_length.value_or(model->sequence);
  const double tokens = double{1} * request.microbatch_size * sequence;
  if (tokens > kMaxTokens) {
    return refuse("--microbatch-size", fmt::format("{} sequences of {} tokens are {} tokens; the most is {}",
                                                   request.microbatch_size, sequence, tokens, kMaxTokens));
  }
  return Deployment{.model = model,
                    .gpu = gpu,
                    .stages = request.pipeline * request.virtual_stages,
                    .tensor = request.tensor,
                    .tokens = tokens,
                    .sequence = sequence,
                    .recompute = request.recompute};
}

core::Result<std::vector<core::Megahertz>> listed_clocks(const GpuModel& gpu,
                                                         std::optional<std::uint32_t> count) {
  std::vector<core::Megahertz> all = supported_clocks(gpu);
  std::erase_if(all, [&](core::Megahertz f) { return f.value() < kLowestListedShare * gpu.clock_max.value; });
  if (!count) return all;
  if (*count == 0 || *count > all.size()) {
    return refuse("--clocks",
                  fmt::format("is {}; {} has 1 to {} useful clocks", *count, gpu.name, all.size()));
  }
  // Integer rounding to the nearest index; a count of one is the top clock.
  const std::size_t gaps = std::max<std::size_t>(*count - 1, 1);
  std::vector<core::Megahertz> some;
  some.reserve(*count);
  for (std::size_t i = 0; i < *count; ++i) {
    some.push_back(all[(2 * i * (all.size() - 1) + gaps) / (2 * gaps)]);
  }
  return some;
}

}  // namespace perseus::model
