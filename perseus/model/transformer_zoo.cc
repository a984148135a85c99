// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/transformer_zoo.h"

#include <array>

#include "perseus/model/names.h"

namespace perseus::model {
namespace {

constexpr std::string_view kGpt3 =
    "arXiv 2005.14165 Table 2.1 (layers, width, heads; MLP 4 x width; context 2048); vocabulary 50257 of "
    "GPT-2";
constexpr std::string_view kGpt3Small =
    "arXiv 2005.14165 Table 2.1 (its width 5140 for 13B is not heads x head size: 40 x 128 = 5120 is used); "
    "vocabulary "
    "50257 of GPT-2";
constexpr std::string_view kBloom =
    "arXiv 2211.05100 section 3 (70 layers, 14336, 112 heads, vocabulary 250680, 2048)";
constexpr std::string_view kLlama3 =
    "arXiv 2407.21783 Table 3 and section 3.2 (vocabulary 128K: 128256 in the published configuration; "
    "sequence 8192)";

// Sorted by name.
constexpr std::array kTransformers = {
    TransformerModel{.name = "bloom-176b",
                     .layers = 70,
                     .hidden = 14336,
                     .heads = 112,
                     .kv_heads = 112,
                     .ffn = 57344,
                     .vocabulary = 250680,
                     .sequence = 2048,
                     .gated = false,
                     .source = kBloom},
    TransformerModel{.name = "gpt3-13b",
                     .layers = 40,
                     .hidden = 5120,
                     .heads = 40,
                     .kv_heads = 40,
                     .ffn = 20480,
                     .vocabulary = 50257,
                     .sequence = 2048,
                     .gated = false,
                     .source = kGpt3Small},
    TransformerModel{.name = "gpt3-175b",
                     .layers = 96,
                     .hidden = 12288,
                     .heads = 96,
                     .kv_heads = 96,
                     .ffn = 49152,
                     .vocabulary = 50257,
                     .sequence = 2048,
                     .gated = false,
                     .source = kGpt3},
    TransformerModel{.name = "gpt3-6.7b",
                     .layers = 32,
                     .hidden = 4096,
                     .heads = 32,
                     .kv_heads = 32,
                     .ffn = 16384,
                     .vocabulary = 50257,
                     .sequence = 2048,
                     .gated = false,
                     .source = kGpt3},
    TransformerModel{.name = "llama-3-405b",
                     .layers = 126,
                     .hidden = 16384,
                     .heads = 128,
                     .kv_heads = 8,
                     .ffn = 53248,
                     .vocabulary = 128256,
                     .sequence = 8192,
                     .gated = true,
                     .source = kLlama3},
    TransformerModel{.name = "llama-3-70b",
                     .layers = 80,
                     .hidden = 8192,
                     .heads = 64,
                     .kv_heads = 8,
                     .ffn = 28672,
                     .vocabulary = 128256,
                     .sequence = 8192,
                     .gated = true,
                     .source = kLlama3},
    TransformerModel{.name = "llama-3-8b",
                     .layers = 32,
                     .hidden = 4096,
                     .heads = 32,
                     .kv_heads = 8,
                     .ffn = 14336,
                     .vocabulary = 128256,
                     .sequence = 8192,
                     .gated = true,
                     .source = kLlama3},
};

constexpr std::uint64_t kVocabularyMultiple = 128;  // Megatron-LM, --make-vocab-size-divisible-by

}  // namespace

std::span<const TransformerModel> transformers() {
  return kTransformers;
}

core::Result<const TransformerModel*> find_transformer(std::string_view name) {
  return find_by_name(transformers(), name, "model", "--model");
}

std::uint64_t padded_vocabulary(const TransformerModel& model, std::uint32_t tensor) {
  const std::uint64_t multiple = kVocabularyMultiple * tensor;
  return (model.vocabulary + multiple - 1) / multiple * multiple;
}

double parameters(const TransformerModel& model) {
  const double h = model.hidden;
  const double kv = h / model.heads * model.kv_heads;
  const double layer = 2 * h * h + 2 * h * kv + (model.gated ? 3.0 : 2.0) * h * model.ffn;
  return model.layers * layer + 2 * h * model.vocabulary;
}

}  // namespace perseus::model
