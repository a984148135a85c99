// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/profile_csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "perseus/format/numbers.h"
#include "perseus/format/profile_rows.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

/// Which optional columns a profile needs.
struct Extras {
  bool stage_b = false;
  bool samples = false;
  bool time_std = false;
  bool energy_std = false;
};

Extras needed_extras(const core::Profile& profile) {
  Extras needed;
  for (const core::ProfileEntry& entry : profile.entries) {
    needed.stage_b |= entry.stage_b.has_value();
    for (const core::Option& option : entry.options) {
      needed.samples |= option.samples != 1;
      needed.time_std |= option.time_std.has_value();
      needed.energy_std |= option.energy_std.has_value();
    }
  }
  return needed;
}

template <class Quantity>
void append_optional(std::string& out, const std::optional<Quantity>& quantity) {
  out += ',';
  if (quantity) append_number(out, quantity->value());
}

void append_option(std::string& out, const core::ProfileEntry& entry, const core::Option& option,
                   const Extras& extras) {
  fmt::format_to(std::back_inserter(out), "{},{},", entry.stage, entry.instruction);
  if (option.clock) fmt::format_to(std::back_inserter(out), "{}", option.clock->value());
  out += ',';
  append_number(out, option.time.value());
  out += ',';
  append_number(out, option.energy.value());
  if (extras.stage_b) out += ',';
  if (entry.stage_b) fmt::format_to(std::back_inserter(out), "{}", *entry.stage_b);
  if (extras.samples) fmt::format_to(std::back_inserter(out), ",{}", option.samples);
  if (extras.time_std) append_optional(out, option.time_std);
  if (extras.energy_std) append_optional(out, option.energy_std);
  for (const std::string& knob : option.knobs) {
    out += ',';
    append_csv_field(out, knob);
  }
  out += '\n';
}

/// Keeps the first warnings and counts the others.
void shorten(std::vector<core::Warning>& warnings, std::size_t most, const std::string& source) {
  if (warnings.size() <= most) return;
  const std::size_t more = warnings.size() - most;
  warnings.resize(most);
  warnings.push_back(
      {fmt::format("{} more warning{} about this profile", more, more == 1 ? "" : "s"), {source}});
}

}  // namespace

core::Result<ParsedProfile> parse_profile_csv(std::string_view bytes, const std::string& source,
                                              const ProfileCsvOptions& options) {
  PERSEUS_ASSIGN_OR_RETURN(auto table, read_profile_table(bytes, source));
  PERSEUS_ASSIGN_OR_RETURN(auto lined, aggregate(std::move(table), source));
  ParsedProfile parsed;
  parsed.warnings = profile_warnings(lined, source, options.throttle_tolerance);
  shorten(parsed.warnings, options.max_warnings, source);
  parsed.profile = std::move(lined.profile);
  return parsed;
}

std::string write_profile_csv(const core::Profile& profile) {
  const Extras extras = needed_extras(profile);
  std::string out = "stage,instruction,frequency,time,energy";
  if (extras.stage_b) out += ",stage_b";
  if (extras.samples) out += ",samples";
  if (extras.time_std) out += ",time_std";
  if (extras.energy_std) out += ",energy_std";
  for (const std::string& name : profile.knob_names) {
    out += ',';
    append_csv_field(out, name);
  }
  out += '\n';
  for (const core::ProfileEntry& entry : profile.entries) {
    for (const core::Option& option : entry.options) append_option(out, entry, option, extras);
  }
  return out;
}

core::Status check_stages(const core::Profile& profile, std::uint32_t stages, const core::Origin& origin) {
  const auto in_range = [stages](std::uint32_t stage) { return stage < stages; };
  for (const core::ProfileEntry& entry : profile.entries) {
    const bool first_good = in_range(entry.stage);
    if (first_good && in_range(entry.stage_b.value_or(0))) continue;
    return core::fail(
        core::ErrorCode::kInvalidInput,
        fmt::format("the profile has {} {} ({}); the job's stages (pp * virtual_stages) are 0 to {}",
                    first_good ? "stage_b" : "stage", first_good ? entry.stage_b.value_or(0) : entry.stage,
                    entry.instruction, static_cast<std::int64_t>(stages) - 1),
        origin);
  }
  return {};
}

}  // namespace perseus::format
