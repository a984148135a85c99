// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/kernels.h"

#include <array>

namespace perseus::model {
namespace {

constexpr double kBf16 = 2;  // B

constexpr Assumption kLayerPasses{
    "element-wise passes over the residual stream, forward, one layer",
    {10, "passes", "assumed: two norms (read, write), two bias-dropout-adds (read, read, write)"}};
constexpr Assumption kBackwardPasses{"... backward over forward",
                                     {2, "1", "assumed: each reads its saved input and the gradient"}};
constexpr Assumption kMlpPasses{"passes over one MLP activation", {2, "passes", "assumed: read, write"}};
constexpr Assumption kRotaryPasses{"passes over queries, keys, values",
                                   {2, "passes", "assumed: read, write"}};
constexpr Assumption kCausalShare{
    "share of the attention square that is computed",
    {0.5, "1",
     "assumed: causal mask with FlashAttention, which skips masked blocks (arXiv 2307.08691 section 3.1)"}};
constexpr Assumption kAttentionBackward{
    "attention backward over forward",
    {2.5, "1", "arXiv 2307.08691 section 3.1: five matrix products for two"}};
constexpr Assumption kEmbeddingPasses{
    "passes over the residual stream in the embedding",
    {4, "passes", "assumed: gather (read, write), positions (read, write)"}};
constexpr Assumption kLossPasses{
    "passes over the FP32 logits in the loss, forward",
    {4, "passes",
     "assumed: cast, maximum, exponential, sum (Megatron's vocabulary-parallel cross entropy, unfused)"}};
constexpr Assumption kLossBackwardPasses{"... backward", {2, "passes", "assumed: read, write"}};
constexpr Assumption kAllReduces{"all-reduces of the residual stream, one layer, one direction",
                                 {2, "1", "arXiv 1909.08053 section 3, Figure 4"}};

constexpr std::array kAssumptions = {kLayerPasses,        kBackwardPasses,    kMlpPasses,       kRotaryPasses,
                                     kCausalShare,        kAttentionBackward, kEmbeddingPasses, kLossPasses,
                                     kLossBackwardPasses, kAllReduces};
constexpr double kFp32 = 4;  // B

/// y[m,n] = x[m,k] w[k,n] in BF16. Both products of the backward have the same FLOP and bytes.
Kernel gemm(double m, double k, double n, double count) {
  return {KernelClass::kGemm, 2 * m * k * n, kBf16 * (m * k + k * n + m * n), count};
}

/// Widths on one GPU of the tensor-parallel group.
struct Shard {
  explicit Shard(const Deployment& setup)
      : tokens(setup.tokens),
        hidden(setup.model->hidden),
        heads_width(hidden / setup.tensor),
        kv_width(hidden / setup.model->heads * setup.model->kv_heads / setup.tensor),
        ffn(double{1} * setup.model->ffn / setup.tensor),
        vocabulary(static_cast<double>(padded_vocabulary(*setup.model, setup.tensor)) / setup.tensor),
        mlp_inputs(setup.model->gated ? 2 : 1) {}

  double tokens, hidden, heads_width, kv_width, ffn, vocabulary, mlp_inputs;
};

/// The four matrix products of a layer, forward.
void add_layer_gemms(Work& work, const Shard& s, double layers) {
  work.push_back(gemm(s.tokens, s.hidden, s.heads_width + 2 * s.kv_width, layers));
  work.push_back(gemm(s.tokens, s.heads_width, s.hidden, layers));
  work.push_back(gemm(s.tokens, s.hidden, s.mlp_inputs * s.ffn, layers));
  work.push_back(gemm(s.tokens, s.ffn, s.hidden, layers));
}

void add_head_gemm(Work& work, const Shard& s) {
  work.push_back(gemm(s.tokens, s.hidden, s.vocabulary, 1));
}

void add_attention(Work& work, const Deployment& setup, const Shard& s, double layers, double times) {
  const double square =
      4 * s.tokens * setup.sequence * s.heads_width;  // scores and their product with the values
  const double bytes = kBf16 * s.tokens * 2 * (s.heads_width + s.kv_width);
  work.push_back(
      {KernelClass::kAttention, times * kCausalShare.figure.value * square, times * bytes, layers});
}

void add_memory(Work& work, double bytes, double count) {
  work.push_back({KernelClass::kMemory, 0, bytes, count});
}

void add_layer_passes(Work& work, const Shard& s, double layers, double times) {
  const double replicated = kLayerPasses.figure.value * s.hidden;
  const double mlp = kMlpPasses.figure.value * s.ffn * s.mlp_inputs;
  const double rotary = kRotaryPasses.figure.value * (s.heads_width + 2 * s.kv_width);
  add_memory(work, times * kBf16 * s.tokens * (replicated + mlp + rotary), layers);
}

/// All-reduces of the residual stream in a ring: each GPU sends 2 (t - 1) / t of the payload.
void add_all_reduces(Work& work, const Deployment& setup, const Shard& s, double count) {
  if (setup.tensor == 1 || count == 0) return;
  const double t = setup.tensor;
  work.push_back({KernelClass::kLink, 0, 2 * (t - 1) / t * kBf16 * s.tokens * s.hidden, count});
}

void add_layers_forward(Work& work, const Deployment& setup, const Shard& s, double layers) {
  add_layer_gemms(work, s, layers);
  add_attention(work, setup, s, layers, 1);
  add_layer_passes(work, s, layers, 1);
  add_all_reduces(work, setup, s, kAllReduces.figure.value * layers);
}

}  // namespace

std::span<const Assumption> work_assumptions() {
  return kAssumptions;
}

Work forward_work(const Deployment& setup, const StageShape& stage) {
  const Shard s(setup);
  Work work;
  add_layers_forward(work, setup, s, stage.layers);
  if (stage.first) {
    add_memory(work, kEmbeddingPasses.figure.value * kBf16 * s.tokens * s.hidden, 1);
    add_all_reduces(work, setup, s, 1);
  }
  if (stage.last) {
    add_head_gemm(work, s);
    add_memory(work, kLossPasses.figure.value * kFp32 * s.tokens * s.vocabulary, 1);
  }
  return work;
}

Work recompute_work(const Deployment& setup, const StageShape& stage) {
  Work work;
  add_layers_forward(work, setup, Shard(setup), stage.layers);
  return work;
}

Work backward_input_work(const Deployment& setup, const StageShape& stage) {
  const Shard s(setup);
  const double layers = stage.layers;
  Work work;
  add_layer_gemms(work, s, layers);
  add_attention(work, setup, s, layers, kAttentionBackward.figure.value);
  add_layer_passes(work, s, layers, kBackwardPasses.figure.value);
  // The head's input gradient is all-reduced like that of any column-parallel product.
  add_all_reduces(work, setup, s, kAllReduces.figure.value * layers + (stage.last ? 1 : 0));
  if (stage.first) add_memory(work, kEmbeddingPasses.figure.value * kBf16 * s.tokens * s.hidden, 1);
  if (stage.last) {
    add_head_gemm(work, s);
    add_memory(work, kLossBackwardPasses.figure.value * kFp32 * s.tokens * s.vocabulary, 1);
  }
  return work;
}

Work backward_weight_work(const Deployment& setup, const StageShape& stage) {
  const Shard s(setup);
  Work work;
  add_layer_gemms(work, s, stage.layers);
  if (stage.last) add_head_gemm(work, s);
  return work;
}

double model_flop(const Deployment& setup, const StageShape& stage) {
  const Shard s(setup);
  Work once;
  add_layer_gemms(once, s, stage.layers);
  add_attention(once, setup, s, stage.layers, 1);
  if (stage.last) add_head_gemm(once, s);
  double flop = 0;
  for (const Kernel& k : once) flop += k.count * k.flop;
  return 3 * flop;  // the backward needs twice the forward
}

}  // namespace perseus::model
