// SPDX-License-Identifier: Apache-2.0
//
// The order of computations on each pipeline rank: what a generator makes, what a schedule file holds, and
// the only thing that decides the edges of the pipeline's DAG.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace perseus::core {

/// What a computation does. Letters as PyTorch uses them (`B` is the full backward).
enum class Kind : std::uint8_t {
  kForward,          ///< F
  kBackward,         ///< B: full backward
  kBackwardInput,    ///< I: gradient of the input
  kBackwardWeight,   ///< W: gradient of the weights
  kForwardBackward,  ///< FB: forward of one microbatch and backward of another, run as one computation
  kRecompute,        ///< R: activation recomputation ahead of the backward
  kOther,            ///< any other instruction of the profile (data loading, a collective)
};

/// "F", "B", "I", "W", "FB", "R", or "X" for kOther.
[[nodiscard]] std::string_view letter(Kind kind);
/// The profile's instruction name: "forward", "backward", "backward_input", "backward_weight",
/// "forward_backward", "recompute"; empty for kOther, whose name stands in Schedule::instructions.
[[nodiscard]] std::string_view instruction_name(Kind kind);

/// One pass of one microbatch through one model stage. Two computations are equal iff all fields are.
struct Computation {
  Kind kind = Kind::kForward;
  std::uint32_t stage = 0;         ///< model stage, 0 .. stages-1
  std::uint32_t microbatch = 0;    ///< 0 .. microbatches-1; 0 for a kOther that runs once an iteration
  std::uint32_t stage_b = 0;       ///< FB only: stage of the backward half
  std::uint32_t microbatch_b = 0;  ///< FB only: microbatch of the backward half
  std::uint32_t instruction = 0;   ///< kOther only: index into Schedule::instructions

  friend auto operator<=>(const Computation&, const Computation&) = default;
};

/// Per-rank orders of one training iteration. A plain value; nothing here is validated (Pipeline::build
/// does).
struct Schedule {
  std::string name;                  ///< "1f1b", ..., or the path of the file that it was read from
  std::uint32_t microbatches = 0;    ///< M
  std::uint32_t virtual_stages = 1;  ///< model stages (chunks) per rank
  std::vector<std::vector<Computation>> ranks;  ///< ranks[r] = order on pipeline rank r; size = pp
  std::vector<std::string> instructions;        ///< names of the kOther computations

  [[nodiscard]] std::uint32_t pipeline() const { return static_cast<std::uint32_t>(ranks.size()); }
  [[nodiscard]] std::uint32_t stages() const { return pipeline() * virtual_stages; }
};

/// PyTorch's cell text: "3F0", "3B0", "3I0", "3W0", "(0F7;7B3)OVERLAP_F_B"; ours for the rest: "3R0",
/// "3load0" (kOther).
[[nodiscard]] std::string to_string(const Schedule& schedule, const Computation& computation);

/// Whether a kOther of this name can be read back from its cell: 2 to 64 bytes of ASCII letters, digits, '_',
/// '-' and '.', first and last a letter or '_' (the numbers of stage and microbatch stand beside it), neither
/// letter nor instruction of a kind, and not what PyTorch calls another action ("UNSHARD", "SEND_F", ...).
[[nodiscard]] bool fits_cell(std::string_view instruction);

/// The text whose SHA-256 fences plans: version line, pp/tp/dp/virtual stages, then one line of cells per
/// rank. The same orders always give the same bytes.
[[nodiscard]] std::string canonical_text(const Schedule& schedule, std::uint32_t tensor, std::uint32_t data);

}  // namespace perseus::core
