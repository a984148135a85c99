// SPDX-License-Identifier: Apache-2.0
//
// What a log is told of a server that comes and goes: one line when it is lost, one when it is back, and not
// more than that in `quiet`, however often it flaps.
#pragma once

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace perseus::client {

/// Not thread-safe. A server has several channels; it is back when none of them fails.
class OutageLog {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Line = std::function<void(bool warning, std::string_view line)>;
  enum class Channel : std::uint8_t { kMessages, kPlans };

  OutageLog(std::string server, std::chrono::milliseconds quiet, Line line)
      : server_(std::move(server)), quiet_(quiet), line_(std::move(line)) {}

  /// An attempt on `channel` has failed.
  void failed(Channel channel, std::string_view why, Time now) {
    const bool first = !any();
    failing_.at(static_cast<std::size_t>(channel)) = true;
    ++attempts_;
    if (!first) return;
    since_ = now;
    told_ = !last_line_ || now - *last_line_ >= quiet_;
    if (!told_) return;
    last_line_ = now;
    say(true, fmt::format("{} gives no usable answer ({}); trying again", server_, why));
  }
  /// An attempt has succeeded.
  void worked(Channel channel, Time now) {
    if (!any()) return;
    failing_.at(static_cast<std::size_t>(channel)) = false;
    if (any()) return;
    if (told_) {
      const std::chrono::duration<double> away = now - since_;
      say(false, fmt::format("{} answers again after {:.1f} s and {} failed {}", server_, away.count(),
                             attempts_, attempts_ == 1 ? "attempt" : "attempts"));
    }
    attempts_ = 0;
  }
  void say(bool warning, std::string_view line) const {
    if (line_) line_(warning, line);
  }

 private:
  [[nodiscard]] bool any() const { return failing_[0] || failing_[1]; }

  std::string server_;
  std::chrono::milliseconds quiet_;
  Line line_;
  std::array<bool, 2> failing_{};
  std::uint64_t attempts_ = 0;
  bool told_ = false;
  Time since_;
  std::optional<Time> last_line_;
};

}  // namespace perseus::client
