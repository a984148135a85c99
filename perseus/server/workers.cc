// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/workers.h"

#include <exception>
#include <iterator>
#include <utility>

namespace perseus::server {

Worker::Worker(Post post) : post_(std::move(post)), thread_([this] { loop(); }) {}

Worker::~Worker() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Worker::run(std::function<void()> work, std::function<void()> done) {
  {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back({std::move(work), std::move(done)});
  }
  wake_.notify_one();
}

void Worker::loop() {
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
      if (stop_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    try {
      task.work();
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): its result says that it did not run
    }
    post_(std::move(task.done));
  }
}

StoreThread::StoreThread(std::unique_ptr<Store> store, Post post)
    : store_(std::move(store)), post_(std::move(post)), thread_([this] { loop(); }) {}

StoreThread::~StoreThread() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void StoreThread::write(std::vector<Change> changes, std::function<void(core::Status)> done) {
  {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back({std::move(changes), std::move(done)});
  }
  wake_.notify_one();
}

void StoreThread::loop() {
  while (true) {
    std::deque<Task> tasks;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      tasks = std::exchange(tasks_, {});
    }
    write_all(std::move(tasks));
  }
}

void StoreThread::write_all(std::deque<Task> tasks) {
  std::vector<Change> together;
  for (const Task& task : tasks) together.insert(together.end(), task.changes.begin(), task.changes.end());
  const core::Status stored = store_->write(together);
  for (Task& task : tasks) {
    // Together they may be refused where most of them alone would not be (a full disk).
    core::Status own = stored || tasks.size() == 1 ? stored : store_->write(task.changes);
    post_([done = std::move(task.done), own = std::move(own)] { done(own); });
  }
}

}  // namespace perseus::server
