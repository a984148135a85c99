// SPDX-License-Identifier: Apache-2.0
//
// The synthetic pipeline of the project's numbers: 1F1B on A100-like GPUs with 55 useful clocks per
// computation. Deterministic and smooth; all figures are assumed, shaped after published clock sweeps, and no
// measurement.
#pragma once

#include <cstdint>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::bench {

/// 1F1B of `stages` x `microbatches`, clocks 1410 MHz down in steps of 15 MHz, blocking power 85 W on every
/// rank.
core::Result<core::Problem> synthetic_problem(std::uint32_t stages, std::uint32_t microbatches,
                                              std::uint32_t clocks = 55);

}  // namespace perseus::bench
