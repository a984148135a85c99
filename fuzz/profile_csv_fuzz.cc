// SPDX-License-Identifier: Apache-2.0
//
// Whatever parse_profile_csv() accepts keeps the rules of core/profile.h and survives being written and read
// again.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <tuple>

#include "perseus/format/profile_csv.h"

namespace {

using perseus::core::Option;
using perseus::core::Profile;
using perseus::core::ProfileEntry;

void demand(bool condition) {
  if (!condition) std::abort();
}

void check_option(const Profile& profile, const Option& option) {
  demand(option.clock && option.clock->value() > 0 && option.clock->value() <= perseus::core::kMaxClockMhz);
  demand(option.time >= perseus::core::kMinTime && option.time <= perseus::core::kMaxTime);
  demand(option.energy >= perseus::core::Joules(0) && option.energy <= perseus::core::kMaxEnergy);
  demand(option.samples >= 1 && option.knobs.size() == profile.knob_names.size());
}

void check(const Profile& profile) {
  const auto key = [](const ProfileEntry& e) { return std::tie(e.stage, e.instruction, e.stage_b); };
  for (std::size_t i = 0; i < profile.entries.size(); ++i) {
    const ProfileEntry& entry = profile.entries[i];
    demand(i == 0 || key(profile.entries[i - 1]) < key(entry));
    demand(!entry.options.empty());
    for (std::size_t k = 0; k < entry.options.size(); ++k) {
      check_option(profile, entry.options[k]);
      demand(k == 0 || entry.options[k - 1].clock >= entry.options[k].clock);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parsed = perseus::format::parse_profile_csv(bytes, "fuzz.csv");
  if (!parsed) {
    demand(!parsed.error().message().empty());
    return 0;
  }
  check(parsed->profile);
  const std::string text = perseus::format::write_profile_csv(parsed->profile);
  const auto again = perseus::format::parse_profile_csv(text, "again.csv");
  demand(again && perseus::format::write_profile_csv(again->profile) == text);
  return 0;
}
