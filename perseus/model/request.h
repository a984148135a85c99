// SPDX-License-Identifier: Apache-2.0
//
// What is to be synthesised: a model, a GPU and how the model is spread over GPUs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/model/transformer_zoo.h"

namespace perseus::model {

/// What happens to activations between forward and backward.
enum class Recompute : std::uint8_t {
  kNone,      ///< kept ("none")
  kFull,      ///< the layers' forward runs again as the first part of `backward` ("full")
  kSeparate,  ///< ... as a computation of its own, `recompute` rows, for early-recompute-1f1b ("separate")
};

/// How layers are dealt to model stages.
enum class Partition : std::uint8_t {
  /// Least time of the slowest stage, then the fastest stage as slow as possible ("min-imbalance").
  kMinImbalance,
  /// Equal counts; a remainder goes to the first stages, one layer each ("even").
  kEven,
  /// As "even" with embedding and head counted as a layer each ("ends-as-layers"): how BLOOM (arXiv
  /// 2211.05100) and
  /// Llama 3 405B (arXiv 2407.21783 section 3.3.2: one layer less on the first and the last stage) were
  /// trained.
  kEndsAsLayers,
};

/// All inputs of synthesise(). Field by field the flags of `perseus synth`; the defaults are the flags'
/// defaults.
struct SynthRequest {
  std::string model;                               ///< --model: a name of transformers()
  std::string gpu;                                 ///< --gpu-model: a name of gpus()
  std::uint32_t pipeline = 1;                      ///< --pp, 1 ..
  std::uint32_t tensor = 1;                        ///< --tp, 1 .. 8 (one node)
  std::uint32_t virtual_stages = 1;                ///< --virtual-stages, 1 ..
  std::uint32_t microbatch_size = 1;               ///< --microbatch-size, sequences
  std::optional<std::uint32_t> sequence_length;    ///< --sequence-length, tokens; absent: the model's own
  Recompute recompute = Recompute::kNone;          ///< --recompute
  Partition partition = Partition::kMinImbalance;  ///< --partition
  bool split_backward = false;  ///< --split-backward: backward_input and backward_weight rows too
  std::optional<std::uint32_t>
      clocks;                 ///< --clocks: how many, spread evenly over the useful range; absent: all of it
  double noise_time = 0;      ///< --noise-time, per cent: standard deviation of one measured time
  double noise_energy = 0;    ///< --noise-energy, per cent
  std::uint32_t samples = 1;  ///< --samples: measurements behind each row; above 1 adds the columns of spread
  std::uint64_t seed = 1;     ///< --seed of the noise
};

/// A request whose names are resolved and whose numbers were checked. The pointers are to static storage.
struct Deployment {
  const TransformerModel* model = nullptr;
  const GpuModel* gpu = nullptr;
  std::uint32_t stages = 1;  ///< model stages: pipeline x virtual stages
  std::uint32_t tensor = 1;
  double tokens = 0;           ///< of one microbatch
  std::uint32_t sequence = 0;  ///< tokens of one sequence
  Recompute recompute = Recompute::kNone;
};

/// Checks everything and resolves the names. Refused (kInvalidInput; the flag is the error's origin): an
/// unknown name, a zero, more stages than layers, a tensor width that does not divide heads, key/value heads
/// and MLP, or above 8, more than 2^22 tokens in a microbatch, more clocks than there are, noise outside 0 to
/// 20 %, 0 or over 10,000 samples.
core::Result<Deployment> resolve(const SynthRequest& request);

/// Highest share of its value that noise may have (as a standard deviation): beyond, times would turn
/// negative.
inline constexpr double kMaxNoisePercent = 20;

/// Clocks that a profile lists for this GPU: all supported ones from the top down to 0.42 of it (assumed:
/// below every least-energy clock; a real profiler stops there as well), or `count` of them evenly spread,
/// both ends included. Refused: a count of 0 or above the number there is.
core::Result<std::vector<core::Megahertz>> listed_clocks(const GpuModel& gpu,
                                                         std::optional<std::uint32_t> count);

}  // namespace perseus::model
