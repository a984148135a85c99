// SPDX-License-Identifier: Apache-2.0
//
// Threads beside the server's own: one that writes, some that plan.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/server/store.h"

namespace perseus::server {

/// Hands a function to the server's own thread; callable from any thread.
using Post = std::function<void(std::function<void()>)>;

/// One thread that does one thing after another. What is queued when it is destroyed is dropped; what runs is
/// waited for. An exception of a work (out of memory) ends that work, and its `done` runs.
class Worker {
 public:
  explicit Worker(Post post);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();
  void run(std::function<void()> work, std::function<void()> done);

 private:
  struct Task {
    std::function<void()> work, done;
  };
  void loop();

  Post post_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  bool stop_ = false;
  std::thread thread_;
};

/// One thread that owns the store. Writes that wait while one is under way are made durable together, by one
/// flush of the disk. All that was queued is written before it is destroyed.
class StoreThread {
 public:
  StoreThread(std::unique_ptr<Store> store, Post post);
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;
  ~StoreThread();
  void write(std::vector<Change> changes, std::function<void(core::Status)> done);

 private:
  struct Task {
    std::vector<Change> changes;
    std::function<void(core::Status)> done;
  };
  void loop();
  void write_all(std::deque<Task> tasks);

  std::unique_ptr<Store> store_;
  Post post_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace perseus::server
