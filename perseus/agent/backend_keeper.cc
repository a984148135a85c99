// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/backend_keeper.h"

#include <utility>

namespace perseus::agent {

BackendKeeper::BackendKeeper(gpu::Backend& backend, lease::Backoff::Limits limits,
                             std::function<void(core::Status)> on_reopened)
    : backend_(backend), backoff_(limits), on_reopened_(std::move(on_reopened)), thread_([this] { run(); }) {}

BackendKeeper::~BackendKeeper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void BackendKeeper::reopen() {
  {
    const std::lock_guard lock(mutex_);
    if (task_ != Task::kNone) return;
    task_ = Task::kReopen;
  }
  changed_.notify_one();
}

void BackendKeeper::close(std::function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    task_ = Task::kClose;
    closed_ = std::move(done);
  }
  changed_.notify_one();
}

BackendKeeper::Task BackendKeeper::next_task() {
  std::unique_lock lock(mutex_);
  while (!stopping_ && task_ != Task::kClose) {
    if (task_ == Task::kNone) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, not_before_) == std::cv_status::timeout) {
      break;
    }
  }
  return stopping_ ? Task::kNone : task_;
}

void BackendKeeper::run() {
  for (Task task = next_task(); task != Task::kNone; task = next_task()) {
    if (task == Task::kReopen) {
      try_reopen();
      continue;
    }
    backend_.close();
    std::function<void()> closed;
    {
      const std::lock_guard lock(mutex_);
      task_ = Task::kNone;
      not_before_ = lease::Instant();
      closed = std::exchange(closed_, {});
    }
    backoff_.reset();
    if (closed) closed();
  }
}

void BackendKeeper::try_reopen() {
  core::Status status = backend_.reopen();
  {
    const std::lock_guard lock(mutex_);
    if (status) {
      // A close() that has come meanwhile stays.
      if (task_ == Task::kReopen) task_ = Task::kNone;
      backoff_.reset();
    }
    // Even after a success: a driver that comes and goes is not to be opened without pause.
    not_before_ = std::chrono::steady_clock::now() + backoff_.next();
  }
  on_reopened_(std::move(status));
}

}  // namespace perseus::agent
