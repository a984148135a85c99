// SPDX-License-Identifier: Apache-2.0
//
// The server's log: one JSON object a line.
//
//   log.write(Level::kInfo, "job.registered", {{"job", name}, {"incarnation", "3"}});
//   {"time":"2026-11-24T10:00:00.000Z","level":"info","event":"job.registered","job":"gpt","incarnation":"3"}
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace perseus::server {

enum class Level : std::uint8_t { kInfo, kWarning, kError };

/// Thread-safe. Values that are no UTF-8 are escaped, so that a line is always one valid JSON object.
class Log {
 public:
  using Field = std::pair<std::string_view, std::string_view>;
  /// `sink` gets whole lines without their newline, one at a time; it must not throw.
  explicit Log(std::function<void(std::string_view)> sink) : sink_(std::move(sink)) {}
  void write(Level level, std::string_view event, std::initializer_list<Field> fields = {});

 private:
  std::mutex mutex_;
  std::function<void(std::string_view)> sink_;
};

/// Wall time in ms since 1970 as RFC 3339 in UTC with milliseconds.
[[nodiscard]] std::string utc_text(std::int64_t unix_ms);

}  // namespace perseus::server
