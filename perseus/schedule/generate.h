// SPDX-License-Identifier: Apache-2.0
//
// The named pipeline schedules.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto schedule, generate({.name = "1f1b", .pipeline = 8, .microbatches = 128}));
//   PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(std::move(schedule)));
//
// Where PyTorch (torch.distributed.pipelining) has the schedule, the order on each rank is PyTorch's own,
// less its bubbles; tests/torch/compare_schedules.py checks that against an installed torch.
// Beyond PyTorch, 1f1b takes fewer microbatches than ranks, as Megatron-Core does. zb-h1 is the handcrafted
// schedule of arXiv 2401.10241 (figure 3): rank r puts off r weight gradients. early-recompute-1f1b is
// lowtime's order (tests/lowtime/compare_early_recompute.py): where lowtime joins a recomputation to its
// backward we write both, so that each has a clock of its own and R need not wait for the gradient.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"

namespace perseus::schedule {

/// What is asked for; 0 means "not given" where a default exists.
struct Request {
  std::string name;                  ///< a name of known_schedules()
  std::uint32_t pipeline = 0;        ///< ranks, at least 1
  std::uint32_t microbatches = 0;    ///< of one iteration, at least 1
  std::uint32_t virtual_stages = 0;  ///< model stages per rank; 0 = the schedule's own default
  std::uint32_t group_size = 0;      ///< microbatches per chunk and turn (interleaved-1f1b); 0 = default
};

/// One named schedule, for help texts, documentation and checks.
struct KnownSchedule {
  std::string_view name;
  std::string_view summary;                  ///< one line
  std::uint32_t default_virtual_stages = 1;  ///< used where none is asked for
  bool any_virtual_stages = false;           ///< false: the default is the only value
  bool takes_group_size = false;
  std::string_view torch_name =
      {};  ///< what torch.distributed.pipelining calls the same order; empty: nothing
};

/// All named schedules, in the order in which help texts show them.
[[nodiscard]] std::span<const KnownSchedule> known_schedules();

/// The row called `name` (exact spelling), or nullptr.
[[nodiscard]] const KnownSchedule* find_schedule(std::string_view name);

/// The orders of all ranks. Takes time and memory proportional to the computations made. Refused, with the
/// value and the limit and before anything large is allocated: an unknown name, 0 ranks or microbatches,
/// virtual stages or a group size that the schedule does not take, a microbatch count that it cannot run
/// (ErrorCode::kInvalidInput); more than core::kMaxComputations (ErrorCode::kLimit). Every schedule returned
/// is accepted by core::Pipeline::build.
///
/// `group_size` of interleaved-1f1b, as in Megatron-Core: from `pipeline` to `microbatches`, with a last
/// group of 0 or at least `pipeline` microbatches. Where it is not given it is microbatches / rounds with
/// rounds = max(1, microbatches / pipeline), as in PyTorch: `pipeline` itself where that divides the
/// microbatches.
[[nodiscard]] core::Result<core::Schedule> generate(const Request& request);

}  // namespace perseus::schedule
