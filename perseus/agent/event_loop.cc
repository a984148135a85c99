// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/event_loop.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace perseus::agent {
namespace {

/// Id of the eventfd; watched descriptors count from 1.
constexpr std::uint64_t kWakeId = 0;

std::unexpected<core::Error> refuse(std::string_view what) {
  return core::fail(core::ErrorCode::kIo,
                    fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

/// Milliseconds for epoll_wait, rounded up; -1: no limit.
int timeout_ms(std::optional<lease::Instant> until) {
  if (!until) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*until - lease::SystemTime::instance().now());
  constexpr std::int64_t kMost = 3'600'000;
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, kMost));
}

}  // namespace

core::Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  format::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return refuse("cannot make an epoll instance");
  format::UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return refuse("cannot make an eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeId}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return refuse("cannot watch the eventfd");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

core::Status EventLoop::watch(int fd, std::uint32_t events, Ready ready) {
  const std::uint64_t id = ++last_id_;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return refuse(fmt::format("cannot watch descriptor {}", fd));
  }
  watched_.emplace(id, std::make_shared<Watched>(Watched{fd, std::move(ready)}));
  ids_[fd] = id;
  return {};
}

void EventLoop::change(int fd, std::uint32_t events) {
  const auto found = ids_.find(fd);
  if (found == ids_.end()) return;
  epoll_event event{.events = events, .data = {.u64 = found->second}};
  // Fails only for a descriptor that is not watched, which is excluded.
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::forget(int fd) {
  const auto found = ids_.find(fd);
  if (found == ids_.end()) return;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(found->second);
  ids_.erase(found);
}

void EventLoop::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  // Fails only if the counter is full: then the loop is awake anyway.
  (void)!::write(wake_.get(), &one, sizeof(one));
}

void EventLoop::run_posted() {
  std::uint64_t count = 0;
  (void)!::read(wake_.get(), &count, sizeof(count));
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (const auto& task : tasks) task();
}

void EventLoop::turn(std::optional<lease::Instant> until) {
  std::array<epoll_event, 64> events{};
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms(until));
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events.at(static_cast<std::size_t>(i));
    if (event.data.u64 == kWakeId) {
      run_posted();
      continue;
    }
    const auto found = watched_.find(event.data.u64);
    if (found == watched_.end()) continue;  // forgotten by an earlier one of this turn
    const std::shared_ptr<Watched> keep = found->second;
    keep->ready(event.events);
  }
}

}  // namespace perseus::agent
