// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace perseus::core {
namespace {

struct KindNames {
  std::string_view letter;
  std::string_view instruction;
};

// Indexed by Kind.
constexpr std::array kNames = {
    KindNames{"F", "forward"},
    KindNames{"B", "backward"},
    KindNames{"I", "backward_input"},
    KindNames{"W", "backward_weight"},
    KindNames{"FB", "forward_backward"},
    KindNames{"R", "recompute"},
    KindNames{"X", ""},
};

}  // namespace

std::string_view letter(Kind kind) {
  return kNames.at(static_cast<std::size_t>(kind)).letter;
}

std::string_view instruction_name(Kind kind) {
  return kNames.at(static_cast<std::size_t>(kind)).instruction;
}

std::string to_string(const Schedule& schedule, const Computation& c) {
  if (c.kind == Kind::kForwardBackward) {
    return fmt::format("({}F{};{}B{})OVERLAP_F_B", c.stage, c.microbatch, c.stage_b, c.microbatch_b);
  }
  const std::string_view name =
      c.kind == Kind::kOther ? std::string_view(schedule.instructions.at(c.instruction)) : letter(c.kind);
  return fmt::format("{}{}{}", c.stage, name, c.microbatch);
}

bool fits_cell(std::string_view instruction) {
  constexpr std::array<std::string_view, 8> kTaken = {"UNSHARD", "RESHARD", "REDUCE_GRAD", "SEND_F",
                                                      "RECV_F",  "SEND_B",  "RECV_B",      "OVERLAP_F_B"};
  constexpr std::size_t kMaxBytes = 64;  // as in the other files; assumed: no instruction has a longer name
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto fits = [&](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.'; };
  if (instruction.size() < 2 || instruction.size() > kMaxBytes) return false;
  if (!is_letter(instruction.front()) || !is_letter(instruction.back())) return false;
  if (!std::ranges::all_of(instruction, fits)) return false;
  return std::ranges::find(kTaken, instruction) == kTaken.end() &&
         std::ranges::none_of(kNames, [&](const KindNames& kind) {
           return instruction == kind.letter || instruction == kind.instruction;
         });
}

std::string canonical_text(const Schedule& schedule, std::uint32_t tensor, std::uint32_t data) {
  std::string text = fmt::format("perseus-schedule/1 pp={} tp={} dp={} virtual_stages={}\n",
                                 schedule.pipeline(), tensor, data, schedule.virtual_stages);
  for (const auto& rank : schedule.ranks) {
    for (std::size_t i = 0; i < rank.size(); ++i) {
      if (i != 0) text += ',';
      text += to_string(schedule, rank[i]);
    }
    text += '\n';
  }
  return text;
}

}  // namespace perseus::core
