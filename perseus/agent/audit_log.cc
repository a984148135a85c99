// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/audit_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "perseus/format/grants.h"
#include "perseus/format/text.h"

namespace perseus::agent {
namespace {

/// In the order of AuditEvent.
constexpr std::array<std::string_view, 14> kNames = {"start",  "stop",   "connect", "acquire",  "release",
                                                     "expire", "end",    "yield",   "restore",  "quiesce",
                                                     "resume", "reload", "driver",  "telemetry"};

core::Result<format::UniqueFd> open_for_append(const std::string& path) {
  format::UniqueFd file(::open(
      path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600));
  if (file) return file;
  const int number = errno;
  const core::ErrorCode code = number == ENOENT   ? core::ErrorCode::kNotFound
                               : number == EACCES ? core::ErrorCode::kPermission
                                                  : core::ErrorCode::kIo;
  return core::fail(
      code, fmt::format("cannot open the audit log: {}", std::generic_category().message(number)), {path});
}

void append_text(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += fmt::format(",\"{}\":", name);
  format::append_json_string(out, value);
}

}  // namespace

std::string_view audit_event_name(AuditEvent event) {
  return kNames.at(static_cast<std::size_t>(event));
}

std::string audit_line(const AuditEntry& entry, std::chrono::system_clock::time_point at) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(at);
  const auto second = std::chrono::floor<std::chrono::seconds>(ms);
  std::string time = format::utc_text(second);
  time.insert(time.size() - 1, fmt::format(".{:03}", (ms - second).count()));
  std::string line = fmt::format("{{\"time\":\"{}\",\"event\":\"{}\"", time, audit_event_name(entry.event));
  append_text(line, "gpu", entry.gpu);
  if (entry.index) line += fmt::format(",\"index\":{}", *entry.index);
  if (entry.lease != 0) line += fmt::format(",\"lease\":{}", entry.lease);
  if (entry.uid) line += fmt::format(",\"uid\":{}", *entry.uid);
  if (entry.pid) line += fmt::format(",\"pid\":{}", *entry.pid);
  append_text(line, "cgroup", entry.cgroup);
  append_text(line, "client", entry.client);
  append_text(line, "job", entry.job);
  append_text(line, "result", entry.result);
  append_text(line, "detail", entry.detail);
  return line + "}";
}

core::Result<AuditLog> AuditLog::open(std::string path) {
  AuditLog log;
  log.path_ = std::move(path);
  PERSEUS_RETURN_IF_ERROR(log.reopen());
  return log;
}

core::Status AuditLog::reopen() {
  if (path_.empty()) return {};
  PERSEUS_ASSIGN_OR_RETURN(file_, open_for_append(path_));
  return {};
}

bool AuditLog::may_write(const AuditEntry& entry, lease::Instant now) {
  if (entry.result == "ok" || !entry.uid) return true;
  if (refusals_.size() >= kMostUsers && !refusals_.contains(*entry.uid)) refusals_.clear();
  return refusals_.try_emplace(*entry.uid, kRefusalsPerSecond, now).first->second.take(now);
}

void AuditLog::write(const AuditEntry& entry) {
  const int log = file_ ? file_.get() : STDERR_FILENO;
  pollfd ready{.fd = log, .events = POLLOUT, .revents = 0};
  if (!may_write(entry, lease::SystemTime::instance().now()) || ::poll(&ready, 1, 0) != 1 ||
      (ready.revents & POLLOUT) == 0) {
    ++lost_;
    return;
  }
  const std::string line = audit_line(entry, std::chrono::system_clock::now()) + "\n";
  ssize_t written = -1;
  do {
    written = ::write(log, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(line.size())) ++lost_;
}

}  // namespace perseus::agent
