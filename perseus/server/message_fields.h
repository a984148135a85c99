// SPDX-License-Identifier: Apache-2.0
//
// Members that several messages have in common, and the bounds they are read within.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/core/profile.h"
#include "perseus/core/result.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/server/messages.h"

namespace perseus::server::fields {

using core::ErrorCode;
using core::fail;
using core::Status;
using format::JsonReader;

inline constexpr std::string_view kSource = "body";
inline constexpr std::size_t kMostText = 256;     ///< bytes of a cause or a GPU's UUID (NVML's have 41)
inline constexpr std::size_t kMostClocks = 1024;  ///< a driver offers some hundred
inline constexpr std::int64_t kMostIterations = 1'000'000;
inline constexpr std::int64_t kMostWindows = 1024;  ///< of a generation; the server asks for a few
inline constexpr std::int64_t kLargestCount = 0xFFFF'FFFF;
/// Longest update period of an energy counter: 20 to 100 ms were seen (RELIABILITY section 6).
inline constexpr double kMostCounterPeriod = 60;

/// Reads the next value into `to`, or gives its refusal.
template <class T, class U>
Status take(core::Result<T> value, U& to) {
  if (!value) return std::unexpected(value.error());
  to = U(*std::move(value));
  return {};
}

template <class T>
Status whole(JsonReader& json, T& to, std::int64_t least, std::int64_t most) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(least, most));
  to = static_cast<T>(value);
  return {};
}

/// A number between two bounds, both allowed.
core::Result<double> bounded(JsonReader& json, double least, double most, std::string_view unit);
core::Result<std::string> short_text(JsonReader& json, std::size_t most = kMostText);
core::Result<core::Seconds> positive_time(JsonReader& json);
/// 0 to the longest time.
core::Result<core::Seconds> any_time(JsonReader& json);
core::Result<core::Megahertz> clock(JsonReader& json);
Status stamp_member(JsonReader& json, std::size_t name, Stamp& stamp);

/// Runs `members` over one object that is the whole body.
template <class Member>
Status whole_body(JsonReader& json, std::size_t limit, std::span<const std::string_view> names,
                  std::size_t needed, Member&& member) {
  PERSEUS_RETURN_IF_ERROR(json.check(limit, "request body"));
  PERSEUS_RETURN_IF_ERROR(json.object(names, needed, std::forward<Member>(member)));
  return json.end();
}

/// The kind of those letters if it is one that ranks measure; a kOther has no name in the client's interface.
std::optional<core::Kind> measured_kind(std::string_view letters);
/// The list of KindTimes; `expected` says whether that member may be there.
Status read_kinds(JsonReader& json, bool expected, std::vector<KindTimes>& out);

}  // namespace perseus::server::fields
