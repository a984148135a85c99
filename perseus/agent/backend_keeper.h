// SPDX-License-Identifier: Apache-2.0
//
// Opens the driver's library anew, with back-off, and closes it, on a thread of its own: both wait for calls
// in progress.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "perseus/core/result.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/backoff.h"

namespace perseus::agent {

/// Functions are thread-safe and never wait for the driver, but for the destructor.
class BackendKeeper {
 public:
  /// `on_reopened` is called on the keeper's thread after each try. The backend must outlive this, and while
  /// it lives nobody else may call reopen() or close().
  BackendKeeper(gpu::Backend& backend, lease::Backoff::Limits limits,
                std::function<void(core::Status)> on_reopened);
  BackendKeeper(const BackendKeeper&) = delete;
  BackendKeeper& operator=(const BackendKeeper&) = delete;
  ~BackendKeeper();

  /// Opens the library anew, again and again until that succeeds. Asked several times it is one task.
  void reopen();
  /// Closes the library; `done` is called on the keeper's thread. Takes the place of a reopen() in progress.
  void close(std::function<void()> done);

 private:
  enum class Task : std::uint8_t { kNone, kReopen, kClose };
  void run();
  [[nodiscard]] Task next_task();
  void try_reopen();

  gpu::Backend& backend_;
  lease::Backoff backoff_;
  std::function<void(core::Status)> on_reopened_;

  std::mutex mutex_;  ///< guards the next four
  std::condition_variable changed_;
  Task task_ = Task::kNone;
  std::function<void()> closed_;
  lease::Instant not_before_;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace perseus::agent
