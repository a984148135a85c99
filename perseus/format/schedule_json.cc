// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/schedule_json.h"

#include <fmt/format.h>

#include <iterator>

#include "perseus/format/text.h"

namespace perseus::format {

std::string write_schedule_json(const core::Schedule& schedule) {
  std::string out = "{\"name\":";
  append_json_string(out, schedule.name);
  fmt::format_to(std::back_inserter(out), ",\"pp\":{},\"virtual_stages\":{},\"microbatches\":{},\"ranks\":[",
                 schedule.pipeline(), schedule.virtual_stages, schedule.microbatches);
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    out += r == 0 ? "\n[" : ",\n[";
    const auto& rank = schedule.ranks[r];
    for (std::size_t i = 0; i < rank.size(); ++i) {
      if (i != 0) out += ',';
      append_json_string(out, core::to_string(schedule, rank[i]));
    }
    out += ']';
  }
  out += "]}\n";
  return out;
}

}  // namespace perseus::format
