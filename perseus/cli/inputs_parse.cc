// SPDX-License-Identifier: Apache-2.0
//
// Flags with a grammar of their own, and the merging of a job file with flags.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "perseus/cli/inputs.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <class T>
void override_with(std::optional<T>& base, const std::optional<T>& over) {
  if (over) base = over;
}

constexpr std::pair<std::string_view, core::Position> kPositions[] = {
    {"before-forward", core::Position::kBeforeForward},
    {"after-forward", core::Position::kAfterForward},
    {"before-backward", core::Position::kBeforeBackward},
    {"after-backward", core::Position::kAfterBackward},
    {"start", core::Position::kStart},
    {"end", core::Position::kEnd},
};

}  // namespace

bool any_given(const InputFlags& flags) {
  const core::JobSpec& s = flags.spec;
  return flags.job_file || flags.blocking_power || flags.p2p_lag || !flags.inserts.empty() || s.profile ||
         s.schedule || s.schedule_file || s.microbatches || s.virtual_stages || s.group_size || s.pipeline ||
         s.tensor || s.data || s.fit;
}

core::Status parse_blocking_power(const std::string& text, core::JobSpec& spec) {
  const core::Origin origin{"--blocking-power"};
  if (const auto all = number<double>(text)) {
    spec.blocking_power = core::Watts(*all);
    spec.blocking_power_of_rank.clear();
    return {};
  }
  for (const std::string_view part : split(text, ',')) {
    const auto fields = split(part, ':');
    const auto rank = number<std::uint32_t>(fields[0]);
    const auto watts = fields.size() == 2 ? number<double>(fields[1]) : std::nullopt;
    if (!rank || !watts) {
      return fail(ErrorCode::kUsage, fmt::format("'{}' is neither watts nor RANK:WATTS", part), origin);
    }
    if (!spec.blocking_power_of_rank.emplace(*rank, core::Watts(*watts)).second) {
      return fail(ErrorCode::kUsage, fmt::format("rank {} is given twice", *rank), origin);
    }
  }
  return {};
}

core::Status parse_p2p_lag(const std::string& text, core::JobSpec& spec) {
  const core::Origin origin{"--p2p-lag"};
  for (const std::string_view part : split(text, ',')) {
    if (const auto all = number<double>(part)) {
      spec.p2p_lag = core::Seconds(*all);
      continue;
    }
    const auto fields = split(part, ':');
    const auto ranks = split(fields[0], '>');
    const auto from = number<std::uint32_t>(ranks[0]);
    const auto to = ranks.size() == 2 ? number<std::uint32_t>(ranks[1]) : std::nullopt;
    const auto lag = fields.size() == 2 ? number<double>(fields[1]) : std::nullopt;
    if (!from || !to || !lag) {
      return fail(ErrorCode::kUsage, fmt::format("'{}' is neither seconds nor RANK>RANK:SECONDS", part),
                  origin);
    }
    if (!spec.edge_lag.emplace(std::pair(*from, *to), core::Seconds(*lag)).second) {
      return fail(ErrorCode::kUsage, fmt::format("'{}' names its ranks a second time", part), origin);
    }
  }
  return {};
}

core::Result<core::Insert> parse_insert(const std::string& text) {
  const auto at = text.find('@');
  const auto colon = text.find(':', at == std::string::npos ? 0 : at);
  if (at != std::string::npos && colon != std::string::npos && at != 0) {
    const auto stage = number<std::uint32_t>(std::string_view(text).substr(at + 1, colon - at - 1));
    std::string wanted = text.substr(colon + 1);
    std::ranges::replace(wanted, '_', '-');  // a job file spells them so
    for (const auto& [name, position] : kPositions) {
      if (stage && wanted == name) {
        return core::Insert{text.substr(0, at), *stage, position};
      }
    }
  }
  return fail(
      ErrorCode::kUsage,
      fmt::format("'{}' is not INSTRUCTION@STAGE:POSITION, with position before-forward, after-forward, "
                  "before-backward, after-backward, start or end",
                  text),
      {"--insert"});
}

core::JobSpec merge(core::JobSpec file, const core::JobSpec& flags) {
  override_with(file.profile, flags.profile);
  if (flags.schedule || flags.schedule_file) {
    file.schedule = flags.schedule;
    file.schedule_file = flags.schedule_file;
  }
  override_with(file.microbatches, flags.microbatches);
  override_with(file.virtual_stages, flags.virtual_stages);
  override_with(file.group_size, flags.group_size);
  override_with(file.pipeline, flags.pipeline);
  override_with(file.tensor, flags.tensor);
  override_with(file.data, flags.data);
  if (flags.blocking_power || !flags.blocking_power_of_rank.empty()) {
    file.blocking_power = flags.blocking_power;
    file.blocking_power_of_rank = flags.blocking_power_of_rank;
  }
  if (flags.p2p_lag || !flags.edge_lag.empty()) {
    file.p2p_lag = flags.p2p_lag;
    file.edge_lag = flags.edge_lag;
  }
  if (!flags.inserts.empty()) file.inserts = flags.inserts;
  override_with(file.fit, flags.fit);
  return file;
}

}  // namespace perseus::cli
