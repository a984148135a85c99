// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/server_log.h"

#include <fmt/format.h>

#include <map>
#include <optional>

#include "perseus/format/files.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr std::size_t kMaxLog = std::size_t{64} << 20U;
constexpr std::size_t kMaxMembers = 64;
constexpr double kDayMs = 86'400'000;

/// A line's members that are strings; the log has no others.
std::map<std::string, std::string> members_of(std::string_view line) {
  std::map<std::string, std::string> members;
  format::JsonReader json(line, "server.log");
  static_cast<void>(json.map(kMaxMembers, [&](const std::string& name) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(members[name], json.string());
    return {};
  }));
  return members;
}

/// Milliseconds since midnight of "2026-11-24T10:00:00.000Z".
std::optional<double> day_ms(const std::string& time) {
  constexpr std::size_t kLength = 24;
  if (time.size() != kLength) return std::nullopt;
  const auto hours = format::parse_number(time.substr(11, 2));
  const auto minutes = format::parse_number(time.substr(14, 2));
  const auto seconds = format::parse_number(time.substr(17, 6));
  if (!hours || !minutes || !seconds) return std::nullopt;
  return ((*hours * 60 + *minutes) * 60 + *seconds) * 1000;
}

}  // namespace

core::Result<Replan> last_replan_in(std::string_view text) {
  std::optional<Replan> notice;
  double noticed_ms = 0;
  std::optional<Replan> last;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    auto line = members_of(text.substr(begin, end - begin));
    begin = end + 1;
    const auto at = day_ms(line["time"]);
    if (!at) continue;
    const std::string& event = line["event"];
    if (event == "straggler.noticed" || event == "straggler.detected") {
      notice = Replan{.milliseconds = 0, .cause = line["cause"], .announced = event == "straggler.noticed"};
      noticed_ms = *at;
    }
    if (event == "plan.deployed" && line["reason"] == "straggler" && notice) {
      last = *notice;
      last->milliseconds = *at - noticed_ms + (*at < noticed_ms ? kDayMs : 0);  // over midnight
    }
  }
  if (!last) return core::fail(ErrorCode::kNotFound, "the server's log tells of no plan for a straggler");
  return *last;
}

core::Result<Replan> last_replan(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, format::read_file(path, kMaxLog));
  return last_replan_in(text);
}

}  // namespace perseus::demo
