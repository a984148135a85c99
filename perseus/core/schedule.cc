// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/schedule.h"

#include <fmt/format.h>

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
