// SPDX-License-Identifier: Apache-2.0
//
// Zeus's solution files `freqs_pipeline_%05d.py`: one row per pipeline rank, one (instruction, MHz) per
// computation.
//
//   [
//   [('forward', 1410), ('forward', 900), ('backward', 1320)],
//   [('forward', 1410), ('backward', 1410), ('forward', 1410)],
//   ]
//   # Iteration 3 cost change: 1.25
//   # Iteration 3 total cost: 1798.13
//   # Iteration 3 total cost with P2P: 2566.53
//
// Zeus evaluates such a file as Python. Perseus parses this very subset and evaluates nothing. Frequency 0
// means "leave the clock as it is"; here it is an absent clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::format {

/// Largest file: 2^24 computations of some 30 bytes.
inline constexpr std::size_t kMaxZeusBytes = std::size_t{1} << 29;

/// One computation of a Zeus row.
struct ZeusInstruction {
  std::string name;                      ///< as the profile names it: "forward", "backward", ...
  std::optional<core::Megahertz> clock;  ///< absent: leave the clock as it is
  friend bool operator==(const ZeusInstruction&, const ZeusInstruction&) = default;
};

/// The three comment lines. Costs are effective energies of one GPU per rank (DESIGN section 3).
struct ZeusCosts {
  std::uint64_t iteration = 0;  ///< number of the plan, 0 = slowest
  core::Joules change;          ///< cost that this step of the frontier added
  core::Joules total;           ///< sum of e - P t over all computations
  core::Joules total_with_p2p;  ///< the same plus T sum P
  friend bool operator==(const ZeusCosts&, const ZeusCosts&) = default;
};

/// A whole file.
struct ZeusSchedule {
  std::vector<std::vector<ZeusInstruction>> rows;  ///< rows[r] = pipeline rank r, in order of execution
  std::optional<ZeusCosts> costs;
  friend bool operator==(const ZeusSchedule&, const ZeusSchedule&) = default;
};

/// The file's text. Names are quoted and escaped as Python does.
[[nodiscard]] std::string write_zeus_schedule(const ZeusSchedule& schedule);
/// A plan in that form. `iteration` numbers the plan among others (0 = slowest); `change` is what Zeus calls
/// the cost change of the step that led to it, 0 for a plan that stands alone.
[[nodiscard]] std::string write_zeus_schedule(const core::Problem& problem, const core::Plan& plan,
                                              std::uint64_t iteration = 0, core::Joules change = {});

/// Reads that subset of Python: a list of lists of (string, whole number) pairs; strings in single or double
/// quotes with no escape but of a quote or a backslash; a comma may follow a last item; `#` comments. The
/// three cost lines are read where all three follow the list. Refused with line and column: all else
/// (kInvalidInput), a clock above kMaxClockMhz, more than kMaxComputations (kLimit).
[[nodiscard]] core::Result<ZeusSchedule> parse_zeus_schedule(std::string_view bytes, std::string source);

}  // namespace perseus::format
