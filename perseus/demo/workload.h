// SPDX-License-Identifier: Apache-2.0
//
// What the demo's job computes: a model of the zoo, cut into stages that are not balanced, on one GPU a
// stage.
//
//   PERSEUS_ASSIGN_OR_RETURN(Workload w, make_workload({.model = "llama-3-8b", .gpu = "a100-sxm-80g"},
//   gpu_spec)); w.stages[3].forward  // simulated seconds at the top clock
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/demo/rank.h"
#include "perseus/simgpu/spec.h"

namespace perseus::demo {

/// The job's size. The defaults are the demo's; each is assumed, for the reasons that docs/demo.md gives.
struct Shape {
  std::string model = "llama-3-8b";
  std::string gpu = "a100-sxm-80g";
  std::uint32_t pipelines = 2, stages = 4;
  std::uint32_t microbatches = 6;
  std::uint32_t microbatch_size = 2;  ///< sequences
};

struct Workload {
  std::vector<StageWork> stages;
  core::Seconds shortest, longest;  ///< computations at the top clock, simulated
};

/// Times, memory-bound shares and utilisations for which the simulated GPU takes the time and power that the
/// model predicts at its top clock; utilisation at most what the power limit lets the top clock hold. Errors:
/// those of model::synthesise().
[[nodiscard]] core::Result<Workload> make_workload(const Shape& shape, const simgpu::GpuSpec& gpu);

/// Iteration time of one pipeline with every computation at its top clock: the longest path.
[[nodiscard]] core::Result<core::Seconds> ideal_iteration(const Workload& workload,
                                                          std::uint32_t microbatches);

}  // namespace perseus::demo
