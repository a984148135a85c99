// SPDX-License-Identifier: Apache-2.0
//
// Any bytes into parse_schedule_csv: it must refuse them with a message or return a schedule that is read
// back the same after it was written, and that Pipeline::build accepts or refuses without harm.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/core/pipeline.h"
#include "perseus/core/schedule.h"
#include "perseus/format/schedule_csv.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Pipeline::build keeps a row for every stage and microbatch; a file may name one that is far beyond its own
// size. More would only be slow here.
constexpr std::uint64_t kMaxRows = 1U << 16U;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using perseus::format::parse_schedule_csv;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto parsed = parse_schedule_csv(bytes, "fuzz.csv");
  if (!parsed) {
    require(!parsed.error().message().empty());
    return 0;
  }
  const perseus::core::Schedule& schedule = parsed->schedule;
  const auto again = parse_schedule_csv(perseus::format::write_schedule_csv(schedule), "fuzz.csv");
  require(again.has_value() && again->warnings.empty());
  require(again->schedule.ranks == schedule.ranks && again->schedule.instructions == schedule.instructions);
  require(again->schedule.microbatches == schedule.microbatches);
  require(again->schedule.virtual_stages == schedule.virtual_stages);
  if (std::uint64_t{schedule.stages()} * schedule.microbatches <= kMaxRows) {
    const auto pipeline = perseus::core::Pipeline::build(schedule);
    if (!pipeline) require(!pipeline.error().message().empty());
  }
  return 0;
}
