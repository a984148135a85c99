// SPDX-License-Identifier: Apache-2.0
//
// What one GPU has to do for one computation of a stage: matrix products, attention, element-wise passes over
// memory and all-reduces. Work only; gpu_physics.h turns it into time and energy.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "perseus/model/figure.h"
#include "perseus/model/request.h"

namespace perseus::model {

/// What bounds a kernel and how it loads the chip.
enum class KernelClass : std::uint8_t {
  kGemm,       ///< tensor cores at the GEMM efficiency, or memory if that takes longer
  kAttention,  ///< tensor cores at the attention efficiency, or memory
  kMemory,     ///< memory bandwidth alone
  kLink,       ///< an all-reduce among the tensor-parallel group
};

/// `count` kernels of equal size, run one after the other.
struct Kernel {
  KernelClass kind = KernelClass::kGemm;
  double flop = 0;   ///< of one kernel on one GPU
  double bytes = 0;  ///< memory traffic of one kernel, B; kLink: bytes that cross the bus (ring all-reduce)
  double count = 1;
};
using Work = std::vector<Kernel>;

/// Which layers a model stage holds.
struct StageShape {
  std::uint32_t layers = 0;
  bool first = false;  ///< holds the embedding
  bool last = false;   ///< holds the head and the loss
  friend bool operator==(const StageShape&, const StageShape&) = default;
};

/// The parts of a stage's work on one microbatch.
[[nodiscard]] Work forward_work(const Deployment& setup, const StageShape& stage);
/// Recomputation: the forward of the layers alone (the head's and the embedding's outputs are kept).
[[nodiscard]] Work recompute_work(const Deployment& setup, const StageShape& stage);
/// Gradients of the input: dX products, attention, element-wise passes, all-reduces.
[[nodiscard]] Work backward_input_work(const Deployment& setup, const StageShape& stage);
/// Gradients of the weights: dW products, nothing else.
[[nodiscard]] Work backward_weight_work(const Deployment& setup, const StageShape& stage);

/// FLOP that the model itself needs in forward and backward of one microbatch of this stage on one GPU,
/// recomputation not counted and causal attention counted by half; MFU's numerator (arXiv 2204.02311 appendix
/// B, with that change).
[[nodiscard]] double model_flop(const Deployment& setup, const StageShape& stage);

/// One constant of the work or of the physics that is the same on every GPU.
struct Assumption {
  std::string_view name;
  Figure figure;
};
/// All of them, for the documentation.
[[nodiscard]] std::span<const Assumption> work_assumptions();

}  // namespace perseus::model
