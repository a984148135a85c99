// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/sweep_log.h"

#include <fmt/format.h>

#include <array>

#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/server/deployment.h"
#include "perseus/server/json_text.h"

namespace perseus::server {

using core::ErrorCode;
using core::fail;
using core::Status;
using format::JsonReader;

namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20U;
constexpr std::size_t kMostEntries = 65'536;
constexpr std::string_view kHeader = "A";  ///< sorts before the batches

Status read_clocks(JsonReader& json, std::vector<std::vector<core::Megahertz>>& out) {
  return json.array(kMostEntries, [&](std::size_t) {
    auto& rank = out.emplace_back();
    return json.array(kMostEntries, [&](std::size_t) -> Status {
      PERSEUS_ASSIGN_OR_RETURN(const std::int64_t mhz, json.integer(1, core::kMaxClockMhz));
      rank.emplace_back(static_cast<std::uint32_t>(mhz));
      return {};
    });
  });
}

core::Result<SweepHeader> parse_header(std::string_view text) {
  static constexpr std::array<std::string_view, 4> kNames = {"schedule_sha256", "why", "power_only",
                                                             "clocks"};
  JsonReader json(text, "stored sweep");
  SweepHeader out;
  PERSEUS_RETURN_IF_ERROR(json.check(kMostBytes, "sweep"));
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 3) return read_clocks(json, out.clocks);
    if (name == 2) {
      PERSEUS_ASSIGN_OR_RETURN(out.power_only, json.boolean());
      return {};
    }
    PERSEUS_ASSIGN_OR_RETURN((name == 0 ? out.schedule_sha256 : out.why), json.string());
    return {};
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return out;
}

core::Result<std::vector<SweepWindow>> parse_batch(std::string_view text,
                                                   const std::vector<SweepRank>& ranks) {
  JsonReader json(text, "stored windows");
  std::vector<SweepWindow> out;
  PERSEUS_RETURN_IF_ERROR(json.check(kMostBytes, "windows"));
  PERSEUS_RETURN_IF_ERROR(read_windows(json, out));
  PERSEUS_RETURN_IF_ERROR(json.end());
  for (const SweepWindow& window : out) {
    bool fits = window.ranks.size() == ranks.size();
    for (std::size_t r = 0; fits && r < ranks.size(); ++r)
      fits = window.ranks[r].size() == ranks[r].works.size();
    if (!fits) return fail(ErrorCode::kInvalidInput, "stored windows are of other computations");
  }
  return out;
}

}  // namespace

SweepRecord header_record(const std::string& job, const SweepHeader& header) {
  JsonText out;
  out.begin_object().key("schedule_sha256").text(header.schedule_sha256).key("why").text(header.why);
  out.key("power_only").boolean(header.power_only).key("clocks").begin_array();
  for (const auto& rank : header.clocks) {
    out.begin_array();
    for (const core::Megahertz clock : rank) out.number(clock.value());
    out.end_array();
  }
  return {job, std::string(kHeader), out.end_array().end_object().take()};
}

SweepRecord batch_record(const std::string& job, std::uint64_t generation,
                         std::span<const SweepWindow> windows) {
  JsonText out;
  append_windows(out, windows);
  return {job, fmt::format("G{:016}", generation), out.take()};
}

SweepRecord report_record(const std::string& job, const RankId& rank, const WindowReport& report,
                          std::string body) {
  return {job, fmt::format("G{:016}.{:04}.{}", report.generation, report.window, to_text(rank)),
          std::move(body)};
}

core::Result<StoredSweep> restore_sweep(std::span<const SweepRecord> records,
                                        const Registration& registration, const std::string& fence) {
  if (records.empty() || records.front().part != kHeader)
    return fail(ErrorCode::kInvalidInput, "a stored sweep has no beginning");
  PERSEUS_ASSIGN_OR_RETURN(const SweepHeader header, parse_header(records.front().body));
  std::vector<SweepRank> ranks = sweep_ranks(registration.schedule);
  if (header.schedule_sha256 != fence || header.clocks.size() != ranks.size())
    return fail(ErrorCode::kInvalidInput, "a stored sweep is of other computations");
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (header.clocks[r].empty()) return fail(ErrorCode::kInvalidInput, "a stored sweep has no clocks");
    ranks[r].clocks = header.clocks[r];
  }
  StoredSweep out{
      .sweep = Sweep(ranks, registration.profiling, header.power_only), .generation = 0, .why = header.why};
  for (const SweepRecord& record : records.subspan(1)) {
    if (!record.part.contains('.')) {
      PERSEUS_ASSIGN_OR_RETURN(auto batch, parse_batch(record.body, ranks));
      const auto generation = format::parse_integer<std::uint64_t>(std::string_view(record.part).substr(1));
      if (!generation) return fail(ErrorCode::kInvalidInput, "a stored batch of windows has no number");
      if (out.sweep.running()) out.sweep.close();
      out.sweep.begin(std::move(batch));
      out.generation = *generation;
      continue;
    }
    PERSEUS_ASSIGN_OR_RETURN(WindowReport report, parse_window_report(record.body));
    PERSEUS_ASSIGN_OR_RETURN(
        const RankId rank,
        parse_rank(std::string_view(record.part).substr(sizeof("G0000000000000000.0000.") - 1)));
    if (report.generation == out.generation) out.sweep.add(rank, std::move(report));
  }
  return out;
}

}  // namespace perseus::server
