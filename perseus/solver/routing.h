// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: which precedence edge carries how much of the computations' flows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/core/pipeline.h"

namespace perseus::solver {

/// Sends what leaves each computation over `open` edges (those without slack) to where it is wanted.
/// `computation` holds the flow through each; sources and sinks of the DAG deal with the outside. Answers the
/// flow per edge, or an empty vector if it cannot be done. Edges of a part without cycles have one solution,
/// found by peeling ends with one open edge; on cycles any split is taken and mended by augmenting paths.
[[nodiscard]] std::vector<std::int64_t> route(const core::Pipeline& pipeline, const std::vector<bool>& open,
                                              std::span<const std::int64_t> computation);

}  // namespace perseus::solver
