// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/telemetry_pages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::Seconds;
using WallTime = std::chrono::system_clock::time_point;

constexpr std::string_view kMetricsFile = "metrics.prom";
constexpr std::string_view kIntendedFile = "intended.json";
/// Prometheus' text format.
constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr unsigned kUnavailable = 503;

/// One file, open, and how old what stands in it is.
struct Published {
  format::UniqueFd fd;
  Seconds age;
};

std::unexpected<core::Error> system_error(int number, std::string path) {
  const std::string words = std::generic_category().message(number);
  if (number == ENOENT || number == ENOTDIR) {
    return core::fail(
        ErrorCode::kNotFound,
        words + ": no agent publishes here; does perseus-agent run? `perseus doctor` tells more",
        {std::move(path)});
  }
  const bool denied = number == EACCES || number == EPERM;
  return core::fail(denied ? ErrorCode::kPermission : ErrorCode::kIo, words, {std::move(path)});
}

core::Result<Published> open_published(const std::string& path, WallTime now) {
  // Neither a link to some other file nor a pipe that never ends.
  format::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return system_error(errno, path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return system_error(errno, path);
  if (!S_ISREG(status.st_mode)) return core::fail(ErrorCode::kInvalidInput, "is no regular file", {path});
  const auto written =
      std::chrono::seconds(status.st_mtim.tv_sec) + std::chrono::nanoseconds(status.st_mtim.tv_nsec);
  const std::chrono::duration<double> age = now.time_since_epoch() - written;
  return Published{std::move(fd), Seconds(age.count())};
}

core::Result<std::string> read_whole(int fd, const std::string& path) {
  std::string text;
  std::size_t length = 0;
  constexpr std::size_t kChunk = std::size_t{64} << 10U;
  for (;;) {
    text.resize(length + kChunk);
    const ssize_t got = ::read(fd, text.data() + length, kChunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, path);
    length += static_cast<std::size_t>(got);
    if (length > kMaxPublishedBytes) {
      return core::fail(ErrorCode::kLimit, fmt::format("has more than {} bytes", kMaxPublishedBytes), {path});
    }
    if (got == 0) break;
  }
  text.resize(length);
  return text;
}

/// The file's text, unless it is stale.
core::Result<std::string> read_fresh(const std::string& path, Seconds max_age, WallTime now) {
  PERSEUS_ASSIGN_OR_RETURN(const Published file, open_published(path, now));
  if (file.age > max_age) {
    return core::fail(
        ErrorCode::kTimeout,
        fmt::format("was written {:.1f} s ago; more than {:g} s is stale: the agent has stopped "
                    "or hangs",
                    file.age.value(), max_age.value()),
        {path});
  }
  // A clock that was set back would else make a dead agent's file look fresh for as long.
  if (file.age < -max_age) {
    return core::fail(
        ErrorCode::kTimeout,
        fmt::format(
            "is dated {:.1f} s in the future: the clock was set back, and the agent has not written since",
            -file.age.value()),
        {path});
  }
  PERSEUS_ASSIGN_OR_RETURN(std::string text, read_whole(file.fd.get(), path));
  // The agent replaces its files whole: what is cut off was not written by it.
  if (!text.ends_with('\n')) return core::fail(ErrorCode::kInvalidInput, "does not end with a line", {path});
  return text;
}

HttpResponse unavailable(const core::Error& error) {
  return error_response(kUnavailable, core::info(error.code()).name, error.text());
}

}  // namespace

TelemetryPages::TelemetryPages(TelemetryFiles files, std::function<Moment()> now, WallClock wall)
    : files_(std::move(files)), now_(std::move(now)), wall_(std::move(wall)) {}

std::size_t TelemetryPages::body_limit(const Target& /*target*/) const {
  return 0;
}
std::size_t TelemetryPages::body_limit_most() const {
  return 0;
}

HttpResponse TelemetryPages::metrics() const {
  const auto path = [this](std::string_view name) { return fmt::format("{}/{}", files_.folder, name); };
  auto text = read_fresh(path(kMetricsFile), files_.max_age, wall_());
  if (!text) return unavailable(text.error());
  *text +=
      "# HELP perseus_telemetry_file_age_seconds Time since the agent wrote the file\n"
      "# TYPE perseus_telemetry_file_age_seconds gauge\n";
  for (const std::string_view name : {kMetricsFile, kIntendedFile}) {
    const auto file = open_published(path(name), wall_());
    if (!file) continue;
    *text +=
        fmt::format("perseus_telemetry_file_age_seconds{{file=\"{}\"}} {:.3f}\n", name, file->age.value());
  }
  return {.status = 200,
          .content_type = kMetricsType,
          .body = std::make_shared<const std::string>(*std::move(text)),
          .retry_after_s = std::nullopt};
}

HttpResponse TelemetryPages::intended() const {
  auto text = read_fresh(fmt::format("{}/{}", files_.folder, kIntendedFile), files_.max_age, wall_());
  return text ? json_response(*std::move(text)) : unavailable(text.error());
}

void TelemetryPages::handle(const Principal& /*principal*/, HttpRequest request, Reply reply) {
  const auto& path = request.target.path;
  const bool is_metrics = path.size() == 1 && path.front() == "metrics";
  const bool is_intended = path.size() == 1 && path.front() == "intended";
  if (!is_metrics && !is_intended) {
    return reply(error_response(404, "not_found", "there is /metrics and /intended, and nothing else"));
  }
  if (request.method != "GET") return reply(method_not_allowed("GET"));
  reply(is_metrics ? metrics() : intended());
}

}  // namespace perseus::server
