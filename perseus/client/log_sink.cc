// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/log_sink.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>

namespace perseus::client {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

}  // namespace

core::Result<std::unique_ptr<LogSink>> LogSink::open(const std::string& path, const lease::TimeSource& time) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
  format::UniqueFd file(::open(path.c_str(), kFlags, 0644));
  if (!file) {
    return core::fail(core::ErrorCode::kIo,
                      fmt::format("cannot open the clock log {}: {}", path, reason(errno)), {path});
  }
  return std::unique_ptr<LogSink>(new LogSink(std::move(file), path, time));
}

void LogSink::post(const ClockPost& post) {
  wanted_.store(post.mhz, std::memory_order_relaxed);
  if (!lines_.push({lease::to_ns(time_.now()), post})) dropped_.fetch_add(1, std::memory_order_relaxed);
}

void LogSink::work() {
  std::string text;
  while (const auto line = lines_.pop()) {
    const double t_s = static_cast<double>(line->t_ns) / 1e9;
    const ClockPost& p = line->post;
    auto out = std::back_inserter(text);
    fmt::format_to(out, R"({{"t_s":{:.6f},"step":{},"kind":")", t_s, p.step);
    if (p.mhz == 0) {
      fmt::format_to(out, "baseline\",\"clock_mhz\":0}}\n");
    } else {
      fmt::format_to(out, "{}\",\"stage\":{},\"microbatch\":{},\"clock_mhz\":{}}}\n", core::letter(p.kind),
                     p.stage, p.microbatch, p.mhz);
    }
  }
  if (!text.empty()) write_out(text);
}

void LogSink::write_out(const std::string& text) {
  std::size_t done = 0;
  while (!broken_ && done < text.size()) {
    const ssize_t written = ::write(file_.get(), text.data() + done, text.size() - done);
    if (written > 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno != EINTR) {
      broken_ = true;
      trouble_ = fmt::format("the clock log {} is not written any more: {}", path_, reason(errno));
    }
  }
}

SinkState LogSink::state() {
  SinkState out{.connected = !broken_, .controls = false, .refused_clock = false, .news = {}};
  if (!trouble_.empty()) {
    out.news = std::exchange(trouble_, {});
    out.news_is_warning = true;
  } else if (const std::uint64_t dropped = dropped_.load(); dropped != dropped_told_ && dropped_told_ == 0) {
    dropped_told_ = dropped;
    out.news = fmt::format("{} clock changes came too fast for the log {}", dropped, path_);
    out.news_is_warning = true;
  } else if (!open_told_) {
    out.news = fmt::format("dry run: clocks are only written to {}", path_);
  }
  open_told_ = true;
  return out;
}

void LogSink::close(core::Seconds /*patience*/) {
  work();
}

}  // namespace perseus::client
