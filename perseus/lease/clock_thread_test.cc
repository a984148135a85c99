// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/clock_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "perseus/lease/test_folder.h"
#include "tests/fake_gpu/fake_device.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::Call;
using tests::Event;

/// An asker in another thread; waits for answers without a clock.
class ThreadedRequests final : public ClockRequests {
 public:
  Request latest() override {
    const std::lock_guard lock(mutex_);
    return request_;
  }
  std::uint64_t posted_ns() override { return 0; }
  void answer(const Answer& given) override {
    const std::lock_guard lock(mutex_);
    answer_ = given;
    changed_.notify_all();
  }
  std::uint32_t ask(std::uint32_t mhz) {
    const std::lock_guard lock(mutex_);
    request_ = {.sequence = request_.sequence + 1, .kind = RequestKind::kClock, .clock = Megahertz(mhz)};
    return request_.sequence;
  }
  Outcome wait_for(std::uint32_t sequence) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return answer_ && answer_->sequence == sequence; });
    return answer_->outcome;
  }
  Outcome ask_and_wait(std::uint32_t mhz) { return wait_for(ask(mhz)); }
  Outcome last() {
    const std::lock_guard lock(mutex_);
    return answer_->outcome;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Request request_;
  std::optional<Answer> answer_;
};

/// Waits for the result that a Done gets.
class Result {
 public:
  Done done() {
    return [promise = promise_](core::Status status) { promise->set_value(std::move(status)); };
  }
  core::Status get() { return promise_->get_future().get(); }

 private:
  std::shared_ptr<std::promise<core::Status>> promise_ = std::make_shared<std::promise<core::Status>>();
};

class ClockThreadTest : public testing::Test {
 protected:
  ClockThreadTest() : directory_(*folder_.open()) { start(); }

  void start() {
    thread_.emplace(gpu_, directory_, SystemTime::instance(),
                    ClockThreadOptions{.policy = {},
                                       .on_event =
                                           [this](const ClockEvent& event) {
                                             const std::lock_guard lock(mutex_);
                                             events_.push_back(event.kind);
                                             changed_.notify_all();
                                           },
                                       .after_journal = [this] { journalled_ = folder_.names(); }});
  }
  static LeaseTerms terms(const std::string& job = "gpt3") {
    return {.owner = {.pid = 71, .uid = 0, .job = job, .client = "test"},
            .baseline = {},
            .clocks = {Megahertz(900), Megahertz(915)}};
  }
  core::Status acquire(const std::shared_ptr<ClockRequests>& requests, const std::string& job = "gpt3") {
    Result result;
    PERSEUS_RETURN_IF_ERROR(thread_->acquire(terms(job), requests, result.done()));
    return result.get();
  }
  core::Status end(Outcome outcome = Outcome::kEnded) {
    Result result;
    thread_->end(outcome, result.done());
    return result.get();
  }
  void wait_for_events(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return events_.size() >= count; });
  }

  /// Calls are the thread's own doing: nothing answers when one has been made.
  void wait_for_calls(std::size_t count) const {
    while (backend_.history().size() < count) std::this_thread::yield();
  }

  TestFolder folder_;
  StateDirectory directory_;
  tests::FakeBackend backend_{1};
  tests::FakeDevice& gpu_ = backend_.device(0);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ClockEvent::Kind> events_;
  std::vector<std::string> journalled_;
  std::shared_ptr<ThreadedRequests> requests_ = std::make_shared<ThreadedRequests>();
  std::optional<ClockThread> thread_;
};

Event lock(std::uint32_t mhz) {
  return {0, Call::kLockClock, Megahertz(mhz), true};
}
Event reset(bool ok = true) {
  return {0, Call::kResetClock, {}, ok};
}

TEST_F(ClockThreadTest, LeasesServesAndRestores) {
  ASSERT_TRUE(acquire(requests_));
  EXPECT_THAT(journalled_, ElementsAre(gpu_.identity().uuid + ".lease"));
  EXPECT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  EXPECT_EQ(gpu_.locked(), Megahertz(900));
  const ClockThreadState held = thread_->state();
  EXPECT_TRUE(held.leased);
  EXPECT_EQ(held.owner.job, "gpt3");
  EXPECT_EQ(held.counters.applied, 1U);
  ASSERT_TRUE(end());
  EXPECT_EQ(requests_->last(), Outcome::kEnded);
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  EXPECT_THAT(folder_.names(), IsEmpty());
  EXPECT_FALSE(thread_->state().leased);
  ASSERT_TRUE(end());  // nothing is leased: done
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset()));
}

TEST_F(ClockThreadTest, ASecondAskerIsToldWhoHoldsIt) {  // fault table, row 31
  ASSERT_TRUE(acquire(requests_));
  const auto refused = acquire(std::make_shared<ThreadedRequests>(), "bloom");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(refused.error().text(), "GPU 0 (" + gpu_.identity().uuid + ") is leased to gpt3 (pid 71, uid 0)");
  ASSERT_TRUE(end());
  EXPECT_TRUE(acquire(requests_, "bloom"));
}

TEST_F(ClockThreadTest, AnAskerThatComesWhileTheFirstIsBeingServedIsRefusedToo) {
  Result first;
  ASSERT_TRUE(thread_->acquire(terms(), requests_, first.done()));
  EXPECT_EQ(thread_->acquire(terms("bloom"), requests_, {}).error().code(), ErrorCode::kBusy);
  EXPECT_TRUE(first.get());
}

TEST_F(ClockThreadTest, WhatCannotBeJournalledIsNotLeased) {
  std::filesystem::create_directory(folder_.file(gpu_.identity().uuid + ".lease.new"));
  EXPECT_EQ(acquire(requests_).error().code(), ErrorCode::kIo);
  EXPECT_FALSE(thread_->state().leased);
  std::filesystem::remove(folder_.file(gpu_.identity().uuid + ".lease.new"));
  EXPECT_TRUE(acquire(requests_));
}

TEST_F(ClockThreadTest, ItsEndRestores) {
  ASSERT_TRUE(acquire(requests_));
  ASSERT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  thread_.reset();
  EXPECT_EQ(requests_->last(), Outcome::kEnded);
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  EXPECT_THAT(folder_.names(), IsEmpty());
}

TEST_F(ClockThreadTest, AHangingCallHoldsUpNobodyElse) {  // fault table, row 10
  ASSERT_TRUE(acquire(requests_));
  gpu_.hold(Call::kLockClock);
  const std::uint32_t sequence = requests_->ask(900);
  gpu_.wait_until_held(Call::kLockClock);
  EXPECT_TRUE(thread_->state().call_since.has_value());
  Result ended;
  thread_->end(Outcome::kEnded, ended.done());  // returns at once
  EXPECT_TRUE(thread_->state().leased);
  gpu_.release(Call::kLockClock);
  EXPECT_TRUE(ended.get());
  EXPECT_NE(sequence, 0U);
  EXPECT_EQ(gpu_.locked(), std::nullopt);
}

TEST_F(ClockThreadTest, WhatTheDriverRefusesToRestoreIsTriedUntilItIsDone) {
  ASSERT_TRUE(acquire(requests_));
  ASSERT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  gpu_.fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver away"), 3);
  EXPECT_EQ(end().error().text(), "driver away");
  EXPECT_EQ(requests_->last(), Outcome::kFailed);
  wait_for_events(2);
  EXPECT_THAT(events_, ElementsAre(ClockEvent::Kind::kDriverFailed, ClockEvent::Kind::kBaselineBack));
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  ASSERT_TRUE(end());  // after the thread's own work is done
  EXPECT_THAT(folder_.names(), IsEmpty());
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset(false), reset(false), reset(false), reset()));
}

TEST_F(ClockThreadTest, AGpuThatIsStillOwedIsNotLeased) {
  gpu_.fail(Call::kResetClock, core::Error(ErrorCode::kDeviceLost, "XID 79"));
  Result owed;
  thread_->owe(std::nullopt, owed.done());
  EXPECT_EQ(owed.get().error().code(), ErrorCode::kDeviceLost);
  const ClockThreadState state = thread_->state();
  EXPECT_TRUE(state.owing);
  EXPECT_EQ(state.trouble, "XID 79");
  const auto refused = acquire(requests_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(), "GPU 0 (" + gpu_.identity().uuid +
                                        ") is still to be brought to its baseline, which its driver refuses");
  gpu_.clear_failure(Call::kResetClock);
  thread_->retry_now();
  wait_for_events(2);
  ASSERT_TRUE(end());
  EXPECT_TRUE(acquire(requests_));
}

TEST_F(ClockThreadTest, RestoresWhatAnEarlierRunOwes) {  // fault table, row 8
  ASSERT_TRUE(directory_.write({.gpu = gpu_.identity().uuid,
                                .owner = {},
                                .baseline = Megahertz(1305),
                                .boot_id = {},
                                .acquired_unix_s = 0}));
  gpu_.lock_from_outside(Megahertz(900));
  Result owed;
  thread_->owe(Megahertz(1305), owed.done());
  ASSERT_TRUE(owed.get());
  EXPECT_EQ(gpu_.locked(), Megahertz(1305));
  EXPECT_THAT(folder_.names(), IsEmpty());
  EXPECT_THAT(events_, IsEmpty());  // nothing went wrong
}

TEST_F(ClockThreadTest, YieldsWithoutACall) {
  ASSERT_TRUE(acquire(requests_));
  ASSERT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  ASSERT_TRUE(end(Outcome::kYielded));
  EXPECT_EQ(requests_->last(), Outcome::kYielded);
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900)));
  EXPECT_THAT(folder_.names(), IsEmpty());
}

TEST_F(ClockThreadTest, AReloadedDriverGetsTheClockAgain) {  // fault table, row 11
  ASSERT_TRUE(acquire(requests_));
  ASSERT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  thread_->driver_reloaded();
  wait_for_calls(2);
  ASSERT_TRUE(end());
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), lock(900), reset()));
}

TEST_F(ClockThreadTest, ANewLeaseServesWhatStandsInTheMailbox) {
  ASSERT_TRUE(acquire(requests_));
  ASSERT_EQ(requests_->ask_and_wait(900), Outcome::kApplied);
  ASSERT_TRUE(end());
  ASSERT_TRUE(acquire(requests_));
  wait_for_calls(3);
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset(), lock(900)));
}

/// Askers and commands from several threads at once; TSan looks at it, and at the end nothing is locked.
TEST_F(ClockThreadTest, ManyAtOnceLeaveNothingBehind) {
  std::atomic<int> leased{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      auto requests = std::make_shared<ThreadedRequests>();
      for (int i = 0; i < 50; ++i) {
        Result got;
        if (!thread_->acquire(terms(std::to_string(t)), requests, got.done())) {
          static_cast<void>(thread_->state());
          continue;
        }
        if (!got.get()) continue;
        ++leased;
        requests->ask(i % 2 == 0 ? 900 : 915);
        Result over;
        thread_->end(Outcome::kEnded, over.done());
        EXPECT_TRUE(over.get());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(leased, 0);
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  EXPECT_THAT(folder_.names(), IsEmpty());
}

}  // namespace
}  // namespace perseus::lease
