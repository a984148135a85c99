// SPDX-License-Identifier: Apache-2.0
//
// One thread that waits for everything at once: file descriptors, a deadline, and what other threads hand it.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto loop, EventLoop::create());
//   loop->watch(fd, EPOLLIN, [&](std::uint32_t events) { ... });
//   loop->post([] { ... });                     // from any thread
//   while (!done) loop->turn(next_deadline());
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// Belongs to one thread, but for post().
class EventLoop {
 public:
  using Ready = std::function<void(std::uint32_t events)>;

  /// kIo: the system refused.
  [[nodiscard]] static core::Result<std::unique_ptr<EventLoop>> create();

  /// Calls `ready` when one of `events` (EPOLL...) holds for `fd`, which must stay open until forget(). kIo.
  [[nodiscard]] core::Status watch(int fd, std::uint32_t events, Ready ready);
  /// Other events for a watched descriptor.
  void change(int fd, std::uint32_t events);
  /// To be called before `fd` is closed. A call of its `ready` that is due is not made any more.
  void forget(int fd);

  /// Has `task` called on the loop's thread, in the order of posting. Any thread.
  void post(std::function<void()> task);

  /// Waits until something is ready, posted, or `until` is over, and does what is due. Without a deadline it
  /// waits as long as it takes.
  void turn(std::optional<lease::Instant> until);

 private:
  EventLoop(format::UniqueFd epoll, format::UniqueFd wake)
      : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void run_posted();

  struct Watched {
    int fd = -1;
    Ready ready;
  };
  format::UniqueFd epoll_;
  format::UniqueFd wake_;  ///< eventfd
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Watched>> watched_;  ///< by an id that is never used twice
  std::map<int, std::uint64_t> ids_;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace perseus::agent
