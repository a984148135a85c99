// SPDX-License-Identifier: Apache-2.0
//
// Schedule files: the CSV that torch.distributed.pipelining reads and writes. One line per pipeline rank,
// from rank 0; one cell per computation, in the order of execution; no header.
//
//   0F0,0F1,,0B0,0B1
//   ,1F0,1B0,1F1,1B1
//   PERSEUS_ASSIGN_OR_RETURN(auto parsed, parse_schedule_csv(bytes, "custom.csv"));
//   PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(std::move(parsed.schedule)));
//
// Cells, with STAGE and MICROBATCH decimal numbers from 0:
//   STAGE (F|B|I|W) MICROBATCH                                   forward, full backward, input and weight
//   gradient (STAGE F MICROBATCH;STAGE B MICROBATCH)OVERLAP_F_B           a forward overlapped with a full
//   backward empty                                                        a bubble: no computation, no
//   meaning here STAGE R MICROBATCH, STAGE NAME MICROBATCH                    ours: recomputation; any other
//   instruction, with
//                                                                a NAME that core::fits_cell accepts
//   STAGE (SEND_F|RECV_F|SEND_B|RECV_B) MICROBATCH, STAGE (UNSHARD|RESHARD|REDUCE_GRAD)
//       communication of PyTorch's compute_comms form: checked, then skipped with one warning that counts it,
//       since transfers follow from the order of the computations. So both forms that PyTorch dumps can be
//       read.
// Blanks around a cell or a half, CRLF, a byte-order mark, a missing last newline and empty lines at the end
// are accepted. Unlike PyTorch, which takes a cell's beginning for the whole, a cell must match to its end;
// quotes and comments are refused.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"

namespace perseus::format {

/// Largest schedule file: core::kMaxComputations cells of 16 bytes.
inline constexpr std::size_t kMaxScheduleBytes = std::size_t{1} << 28;

/// A schedule and what is worth telling about its file.
struct ParsedSchedule {
  core::Schedule schedule;  ///< named after the file
  std::vector<core::Warning> warnings;
};

/// Reads a schedule file; `source` is its path for messages and the schedule's name. The microbatches are
/// counted from the cells, the virtual stages are stages / ranks. Errors with line and column (in bytes, from
/// 1): kInvalidInput for text that is not UTF-8, a cell outside the grammar, a line without computations, a
/// stage without cells below the highest one, stages that are no multiple of the ranks; kLimit for too many
/// bytes or computations. Whether the schedule can run is for core::Pipeline::build. Pure; thread-safe; time
/// proportional to the bytes.
[[nodiscard]] core::Result<ParsedSchedule> parse_schedule_csv(std::string_view bytes, std::string source);

/// The schedule in the same form, without bubbles, each line ending in "\n": parse_schedule_csv gives back
/// the same orders, and PyTorch reads it as "compute_only" if there are only its own computations.
[[nodiscard]] std::string write_schedule_csv(const core::Schedule& schedule);

}  // namespace perseus::format
