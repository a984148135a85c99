// SPDX-License-Identifier: Apache-2.0
//
// Dealing layers to model stages.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/model/kernels.h"
#include "perseus/model/request.h"

namespace perseus::model {

/// What a split weighs: the time at the top clock of forward plus backward.
struct StageCosts {
  core::Seconds layer;      ///< of one layer
  core::Seconds embedding;  ///< more on the first stage
  core::Seconds head;       ///< more on the last
};

/// Layers of each of `stages` stages, at least one each. Every layer costs the same, so only three numbers
/// matter: the layers of the first and the last stage, and those of the stages between, which differ by at
/// most one (the larger first). Exhaustive over these: least slowest stage; then greatest fastest one; then
/// fewest layers on the last stage. `layers >= stages >= 1`.
[[nodiscard]] std::vector<std::uint32_t> min_imbalance_split(std::uint32_t layers, std::uint32_t stages,
                                                             const StageCosts& costs);

/// layers / stages each, one more on the first layers % stages. `layers >= stages >= 1`.
[[nodiscard]] std::vector<std::uint32_t> even_split(std::uint32_t layers, std::uint32_t stages);

/// even_split() of layers + 2 with the embedding taken from the first stage and the head from the last; at
/// least one layer stays on each, taken from the stages with most (the first of them). `layers >= stages >=
/// 1`.
[[nodiscard]] std::vector<std::uint32_t> ends_as_layers_split(std::uint32_t layers, std::uint32_t stages);

/// The stages of a setup under a policy.
[[nodiscard]] std::vector<StageShape> stage_shapes(const Deployment& setup, Partition partition);

/// Slowest over fastest stage, forward plus backward at the top clock: the imbalance ratio of arXiv
/// 2312.06902 with the backward counted as well. `stages` is not empty.
[[nodiscard]] double imbalance_ratio(const Deployment& setup, const std::vector<StageShape>& stages);

}  // namespace perseus::model
