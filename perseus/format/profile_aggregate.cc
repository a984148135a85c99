// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>

#include "perseus/format/profile_rows.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;
using core::Status;

/// Which measured quantity of a row is meant.
struct Quantity {
  double ProfileRow::* mean;
  std::optional<double> ProfileRow::* deviation;
};
constexpr Quantity kTime{&ProfileRow::time, &ProfileRow::time_std};
constexpr Quantity kEnergy{&ProfileRow::energy, &ProfileRow::energy_std};

std::string key_text(const ProfileRow& row) {
  return fmt::format("stage {}, {} at {} MHz", row.stage, row.instruction, row.clock_mhz);
}

/// A stage lives on one rank and is one chunk of it: rows that say otherwise do not count model stages.
Status check_placement(const ProfileTable& table, const std::string& source) {
  constexpr std::size_t kPpRank = 2;  // index into ProfileRow::rank
  struct Seen {
    std::uint32_t value;
    std::uint64_t line;
  };
  std::map<std::uint32_t, Seen> chunks;
  std::map<std::uint32_t, Seen> ranks;
  const auto check = [&](std::map<std::uint32_t, Seen>& seen, const ProfileRow& row,
                         std::optional<std::uint32_t> value, std::string_view what) -> Status {
    if (!value) return {};
    const Seen& first = seen.emplace(row.stage, Seen{*value, row.line}).first->second;
    if (first.value == *value) return {};
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("stage {} has {} {} here and {} in line {}; `stage` counts model stages, 0 to pp * "
                    "virtual_stages - 1, each on one rank",
                    row.stage, what, *value, first.value, first.line),
        {source, row.line, 1});
  };
  for (const ProfileRow& row : table.rows) {
    PERSEUS_RETURN_IF_ERROR(check(chunks, row, row.chunk, "chunk"));
    PERSEUS_RETURN_IF_ERROR(check(ranks, row, row.rank[kPpRank], "pp_rank"));
  }
  return {};
}

/// Weighted mean and pooled deviation of the samples of one rank.
void pool(std::span<const ProfileRow> rows, Quantity quantity, ProfileRow& out) {
  long double count = 0;
  long double sum = 0;
  for (const ProfileRow& row : rows) {
    count += row.samples;
    sum += static_cast<long double>(row.samples) * row.*quantity.mean;
  }
  const auto [least, most] = std::ranges::minmax(rows, {}, quantity.mean);
  const long double mean = sum / count;
  long double squares = 0;
  bool known = true;
  for (const ProfileRow& row : rows) {
    const long double apart = row.*quantity.mean - mean;
    squares += row.samples * apart * apart;
    if (row.samples == 1) continue;  // a single sample has no spread of its own
    known = known && row.*quantity.deviation;
    const long double own = (row.*quantity.deviation).value_or(0);
    squares += (row.samples - 1) * own * own;
  }
  // The clamp takes back what rounding may add.
  out.*quantity.mean = std::clamp(static_cast<double>(mean), least.*quantity.mean, most.*quantity.mean);
  out.*quantity.deviation = std::nullopt;
  if (known) out.*quantity.deviation = static_cast<double>(std::sqrt(squares / (count - 1)));
}

core::Result<ProfileRow> pool_samples(std::span<const ProfileRow> rows, const std::string& source) {
  ProfileRow pooled = rows.front();
  std::uint64_t count = 0;
  for (const ProfileRow& row : rows) count += row.samples;
  if (count > std::numeric_limits<std::uint32_t>::max()) {
    return fail(ErrorCode::kLimit,
                fmt::format("{} has {} samples of one rank; the limit is {}", key_text(pooled), count,
                            std::numeric_limits<std::uint32_t>::max()),
                {source, pooled.line, 1});
  }
  pool(rows, kTime, pooled);
  pool(rows, kEnergy, pooled);
  pooled.samples = static_cast<std::uint32_t>(count);
  return pooled;
}

/// The one row that the rows of one rank and one option make. `rows` are sorted by line.
core::Result<ProfileRow> merge_rows(std::span<const ProfileRow> rows, bool has_samples,
                                    const std::string& source) {
  if (rows.size() == 1) return rows.front();
  if (has_samples) return pool_samples(rows, source);
  for (const ProfileRow& row : rows) {
    if (row.values() == rows.front().values()) continue;
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format(
            "{} is measured twice with different values: {} s, {} J here and {} s, {} J in line {}; a "
            "`samples` column would make them samples, rank columns would tell ranks apart",
            key_text(row), row.time, row.energy, rows.front().time, rows.front().energy, rows.front().line),
        {source, row.line, 1});
  }
  return rows.front();
}

/// Time of the slowest rank, energy of the average one.
core::Option merge_ranks(std::span<const ProfileRow> ranks) {
  const ProfileRow& slowest = *std::ranges::max_element(ranks, {}, &ProfileRow::time);
  long double energy = 0;
  long double squares = 0;
  bool known = true;
  for (const ProfileRow& row : ranks) {
    energy += row.energy;
    known = known && row.energy_std;
    const long double own = row.energy_std.value_or(0);
    squares += own * own;
  }
  const auto count = static_cast<long double>(ranks.size());
  core::Option option;
  option.clock = core::Megahertz(slowest.clock_mhz);
  option.time = core::Seconds(slowest.time);
  option.energy = core::Joules(static_cast<double>(energy / count));
  option.samples = std::ranges::min(ranks, {}, &ProfileRow::samples).samples;
  if (slowest.time_std) option.time_std = core::Seconds(*slowest.time_std);
  if (known) option.energy_std = core::Joules(static_cast<double>(std::sqrt(squares) / count));
  return option;
}

/// Length of the run at the start of `rows` whose `key` is the first one's.
template <class Key>
std::size_t run_length(std::span<const ProfileRow> rows, Key key) {
  std::size_t length = 1;
  while (length < rows.size() && key(rows[length]) == key(rows.front())) ++length;
  return length;
}

struct LinedOption {
  core::Option option;
  std::uint64_t line = 0;
};

core::Result<LinedOption> make_option(std::span<const ProfileRow> rows, bool has_samples,
                                      const std::string& source) {
  LinedOption out;
  out.line = std::ranges::min(rows, {}, &ProfileRow::line).line;
  std::vector<ProfileRow> ranks;
  for (auto rest = rows; !rest.empty();) {
    const std::size_t length = run_length(rest, [](const ProfileRow& row) { return row.rank; });
    PERSEUS_ASSIGN_OR_RETURN(auto merged, merge_rows(rest.first(length), has_samples, source));
    ranks.push_back(std::move(merged));
    rest = rest.subspan(length);
  }
  out.option = merge_ranks(ranks);
  out.option.knobs = rows.front().knobs;
  return out;
}

Status add_entry(std::span<const ProfileRow> rows, bool has_samples, const std::string& source,
                 LinedProfile& out) {
  std::vector<LinedOption> options;
  for (auto rest = rows; !rest.empty();) {
    const std::size_t length = run_length(rest, [](const ProfileRow& row) { return row.option_key(); });
    PERSEUS_ASSIGN_OR_RETURN(auto option, make_option(rest.first(length), has_samples, source));
    options.push_back(std::move(option));
    rest = rest.subspan(length);
  }
  std::ranges::sort(options, [](const LinedOption& a, const LinedOption& b) {
    return std::tie(b.option.clock, a.option.time, a.option.knobs) <
           std::tie(a.option.clock, b.option.time, b.option.knobs);
  });
  core::ProfileEntry& entry = out.profile.entries.emplace_back();
  entry.stage = rows.front().stage;
  entry.instruction = rows.front().instruction;
  entry.stage_b = rows.front().stage_b;
  auto& lines = out.lines.emplace_back();
  for (LinedOption& option : options) {
    entry.options.push_back(std::move(option.option));
    lines.push_back(option.line);
  }
  return {};
}

}  // namespace

core::Result<LinedProfile> aggregate(ProfileTable table, const std::string& source) {
  PERSEUS_RETURN_IF_ERROR(check_placement(table, source));
  std::ranges::sort(table.rows, [](const ProfileRow& a, const ProfileRow& b) {
    return std::tuple(a.option_key(), std::tie(a.rank, a.line)) <
           std::tuple(b.option_key(), std::tie(b.rank, b.line));
  });
  LinedProfile lined;
  lined.profile.knob_names = std::move(table.knob_names);
  for (std::span<const ProfileRow> rest = table.rows; !rest.empty();) {
    const std::size_t length = run_length(rest, [](const ProfileRow& row) { return row.entry_key(); });
    PERSEUS_RETURN_IF_ERROR(add_entry(rest.first(length), table.has_samples, source, lined));
    rest = rest.subspan(length);
  }
  return lined;
}

}  // namespace perseus::format
