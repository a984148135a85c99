// SPDX-License-Identifier: Apache-2.0
//
// The per-rank orders behind schedule::generate. Internal to the room: sizes are checked by generate(), which
// is the only caller; every function here takes time and memory proportional to the computations that it
// returns.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/core/schedule.h"

namespace perseus::schedule {

/// Sizes of a pipeline; all at least 1.
struct Shape {
  std::uint32_t pipeline = 1;
  std::uint32_t microbatches = 1;
  std::uint32_t virtual_stages = 1;
  /// Microbatches that pass through one chunk of a rank before its next chunk takes over; 1 .. microbatches.
  std::uint32_t group_size = 1;
};

/// What becomes of the backward.
enum class BackwardStyle : std::uint8_t {
  kFull,       ///< B
  kRecompute,  ///< R, then B
  kSplit,      ///< I, and W some backwards later
};

/// A rank of the family "warm up with forwards, then one forward and one backward by turns, then the rest of
/// the backwards".
struct OneForwardOneBackward {
  std::uint64_t warmup = 0;  ///< forwards before the first backward, less the one of the first turn
  BackwardStyle style = BackwardStyle::kFull;
  std::uint32_t weight_delay =
      0;  ///< kSplit: W of backward k runs right after I of backward k + weight_delay
};

/// Forwards go through the rank's chunks group by group of microbatches, backwards the same with the chunks
/// reversed. Stages are placed as loops: chunk c of rank r is stage c * pipeline + r.
[[nodiscard]] std::vector<core::Computation> one_forward_one_backward(const Shape& shape, std::uint32_t rank,
                                                                      const OneForwardOneBackward& how);

/// Breadth first (arXiv 2211.05953) in PyTorch's form: all microbatches through chunk after chunk, then
/// backwards from the last chunk to the first, the last microbatch first. Stages are placed as loops.
[[nodiscard]] std::vector<core::Computation> looped_breadth_first(const Shape& shape, std::uint32_t rank);

/// ZB-V (arXiv 2401.10241, section 6) with equal F, I and W times. Stages r and 2 * pipeline - 1 - r on rank
/// r.
[[nodiscard]] std::vector<core::Computation> zero_bubble_v(const Shape& shape, std::uint32_t rank);

/// DualPipe folded into a V (DualPipeV). Stages as for zero_bubble_v. Needs microbatches >= 2 * pipeline.
[[nodiscard]] std::vector<core::Computation> dual_pipe_v(const Shape& shape, std::uint32_t rank);

}  // namespace perseus::schedule
