// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/service_notify.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::agent {
namespace {

/// Read at start, before there is another thread.
std::string_view variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? std::string_view() : std::string_view(value);
}

core::Result<format::UniqueFd> connect_to(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((path.front() != '/' && path.front() != '@') || path.size() >= sizeof(address.sun_path)) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("NOTIFY_SOCKET is {}, which is no socket's name", format::quoted(path)));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path.front() == '@') address.sun_path[0] = '\0';  // an abstract name
  format::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): how the socket interface is made
  if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return core::fail(core::ErrorCode::kIo,
                      fmt::format("cannot reach the service manager at {}: {}", format::quoted(path),
                                  std::generic_category().message(errno)));
  }
  return socket;
}

}  // namespace

core::Result<ServiceNotify> ServiceNotify::from_environment() {
  return open(variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
}

core::Result<ServiceNotify> ServiceNotify::open(std::string_view socket, std::string_view watchdog_us,
                                                std::string_view watchdog_pid) {
  ServiceNotify notify;
  if (socket.empty()) return notify;
  PERSEUS_ASSIGN_OR_RETURN(notify.socket_, connect_to(socket));
  const bool ours = watchdog_pid.empty() || format::parse_integer<pid_t>(watchdog_pid) == ::getpid();
  if (watchdog_us.empty() || !ours) return notify;
  const auto limit = format::parse_integer<std::int64_t>(watchdog_us);
  constexpr std::int64_t kYear = std::int64_t{365} * 86'400 * 1'000'000;
  if (!limit || *limit < 1 || *limit > kYear) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("WATCHDOG_USEC is {}, which is no time", format::quoted(watchdog_us)));
  }
  notify.period_ = std::chrono::microseconds(*limit) / 2;
  return notify;
}

void ServiceNotify::send(const std::string& message) const {
  if (!socket_) return;
  // Nothing can be done about a failure, and nothing depends on it but the manager's own patience.
  (void)::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void ServiceNotify::ready(std::string_view status) const {
  send(fmt::format("READY=1\nSTATUS={}", status));
}

void ServiceNotify::reloading() const {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", us.count()));
}

void ServiceNotify::stopping(std::string_view status) const {
  send(fmt::format("STOPPING=1\nSTATUS={}", status));
}

void ServiceNotify::status(std::string_view status) const {
  send(fmt::format("STATUS={}", status));
}

void ServiceNotify::alive() const {
  send("WATCHDOG=1");
}

}  // namespace perseus::agent
