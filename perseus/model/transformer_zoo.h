// SPDX-License-Identifier: Apache-2.0
//
// The shapes of the language models that can be synthesised.
//
//   PERSEUS_ASSIGN_OR_RETURN(const TransformerModel* model, find_transformer("gpt3-175b"));
//   model->layers;  // 96
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::model {

/// A decoder-only transformer. All counts are of the whole model, before any parallelism.
struct TransformerModel {
  std::string_view name;
  std::uint32_t layers = 0;
  std::uint32_t hidden = 0;      ///< width of the residual stream
  std::uint32_t heads = 0;       ///< query heads; each has hidden / heads dimensions
  std::uint32_t kv_heads = 0;    ///< key/value heads; equal to heads without grouped-query attention
  std::uint32_t ffn = 0;         ///< inner width of the MLP
  std::uint32_t vocabulary = 0;  ///< tokens, before padding to a multiple of 128 x tensor width
  std::uint32_t sequence = 0;    ///< default sequence length, tokens
  bool gated = false;            ///< MLP with three matrices (SwiGLU) instead of two
  std::string_view source;       ///< where the shape is published
};

/// All known models, sorted by name. Static storage; thread-safe.
[[nodiscard]] std::span<const TransformerModel> transformers();

/// The model of that name; static storage, never null. Unknown: kInvalidInput with the nearest name and all
/// names.
core::Result<const TransformerModel*> find_transformer(std::string_view name);

/// Vocabulary as Megatron pads it: the next multiple of 128 x `tensor` (its --make-vocab-size-divisible-by,
/// 128).
[[nodiscard]] std::uint64_t padded_vocabulary(const TransformerModel& model, std::uint32_t tensor);

/// Weights of the model with untied embedding and head, biases and norms left out (below 0.1 %).
[[nodiscard]] double parameters(const TransformerModel& model);

}  // namespace perseus::model
