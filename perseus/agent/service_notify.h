// SPDX-License-Identifier: Apache-2.0
//
// Tells the service manager how we are: the datagrams that sd_notify(3) documents, without its library.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// Belongs to one thread. Never blocks: a message that the manager does not take at once is dropped.
class ServiceNotify {
 public:
  /// Nobody listens.
  ServiceNotify() = default;
  /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as the manager has set them; absent variables mean
  /// that nobody listens, or that there is no watchdog. kInvalidInput: a value that cannot be; kIo.
  [[nodiscard]] static core::Result<ServiceNotify> from_environment();
  /// The same from given values; empty: absent. For tests.
  [[nodiscard]] static core::Result<ServiceNotify> open(std::string_view socket, std::string_view watchdog_us,
                                                        std::string_view watchdog_pid);

  void ready(std::string_view status) const;
  /// Configuration is read anew; ready() is to follow.
  void reloading() const;
  void stopping(std::string_view status) const;
  void status(std::string_view status) const;
  void alive() const;
  /// How often alive() is to be called: half of the manager's limit, as it recommends. Absent: no watchdog.
  [[nodiscard]] std::optional<lease::Duration> watchdog_period() const { return period_; }

 private:
  void send(const std::string& message) const;
  format::UniqueFd socket_;
  std::optional<lease::Duration> period_;
};

}  // namespace perseus::agent
