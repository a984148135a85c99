// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/apply_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <vector>

#include "perseus/lease/test_folder.h"
#include "tests/fake_gpu/fake_device.h"
#include "tests/support/property.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::Call;
using tests::Event;
using namespace std::chrono_literals;

/// An asker in the same thread.
class ScriptedRequests final : public ClockRequests {
 public:
  Request latest() override { return request; }
  std::uint64_t posted_ns() override { return 17; }
  void answer(const Answer& given) override { answers.push_back(given); }

  void ask(RequestKind kind, std::uint32_t mhz = 0) {
    request = {.sequence = request.sequence + 1, .kind = kind, .clock = Megahertz(mhz)};
  }
  [[nodiscard]] Outcome last() const { return answers.back().outcome; }

  Request request;
  std::vector<Answer> answers;
};

class ApplyLoopTest : public testing::Test {
 protected:
  ApplyLoopTest() : directory_(*folder_.open()) {
    auto lease = Lease::acquire(gpu_, directory_, {.owner = {}, .baseline = {}, .clocks = clocks()});
    lease_.emplace(*std::move(lease));
    loop_.emplace(*lease_, requests_, time_, ApplyPolicy{}, log_);
  }
  static std::vector<Megahertz> clocks() {
    std::vector<Megahertz> out;
    for (std::uint32_t mhz = 210; mhz <= 1200; mhz += 15) out.emplace_back(mhz);
    return out;
  }
  Duration step() { return loop_->step(); }

  TestFolder folder_;
  StateDirectory directory_;
  tests::FakeBackend backend_{1};
  tests::FakeDevice& gpu_ = backend_.device(0);
  ManualTime time_;
  ScriptedRequests requests_;
  ChangeLog log_;
  std::optional<Lease> lease_;
  std::optional<ApplyLoop> loop_;
};

Event lock(std::uint32_t mhz, bool ok = true) {
  return {0, Call::kLockClock, Megahertz(mhz), ok};
}
Event reset(bool ok = true) {
  return {0, Call::kResetClock, {}, ok};
}

TEST_F(ApplyLoopTest, DoesNothingUntilItIsAsked) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(step(), 0ns);
  EXPECT_THAT(backend_.history(), IsEmpty());
  EXPECT_THAT(requests_.answers, IsEmpty());
}

TEST_F(ApplyLoopTest, AppliesARequestOnceAndAnswers) {
  requests_.ask(RequestKind::kClock, 900);
  EXPECT_EQ(step(), 0ns);
  EXPECT_EQ(step(), 0ns);
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900)));
  ASSERT_EQ(requests_.answers.size(), 1U);
  EXPECT_EQ(requests_.answers[0].sequence, 1U);
  EXPECT_EQ(requests_.answers[0].outcome, Outcome::kApplied);
  EXPECT_EQ(requests_.answers[0].clock, Megahertz(900));
}

TEST_F(ApplyLoopTest, TheLatestRequestWins) {
  requests_.ask(RequestKind::kClock, 900);
  requests_.ask(RequestKind::kClock, 915);
  requests_.ask(RequestKind::kClock, 930);
  (void)step();
  EXPECT_THAT(backend_.history(), ElementsAre(lock(930)));
  EXPECT_EQ(requests_.answers.size(), 1U);  // those that were replaced are never answered
}

TEST_F(ApplyLoopTest, SkipsWhatIsSetAlready) {
  for (int i = 0; i < 3; ++i) {
    requests_.ask(RequestKind::kClock, 900);
    (void)step();
  }
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900)));
  EXPECT_EQ(requests_.answers.size(), 3U);
  EXPECT_EQ(requests_.answers[2].called, requests_.answers[2].applied);
  for (int i = 0; i < 2; ++i) {
    requests_.ask(RequestKind::kBaseline);
    (void)step();
  }
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset()));
  EXPECT_EQ(log_.counters().applied, 2U);
  EXPECT_EQ(log_.counters().equal, 3U);
}

TEST_F(ApplyLoopTest, RefusesWhatTheLeaseDoesNotAllow) {  // fault table, row 19
  for (const auto& [kind, mhz] :
       {std::pair(RequestKind::kClock, 0U), std::pair(RequestKind::kClock, 907U),
        std::pair(RequestKind::kClock, 1410U),  // the device's, not the lease's
        std::pair(RequestKind::kClock, 65'535U), std::pair(RequestKind::kUnknown, 900U)}) {
    requests_.ask(kind, mhz);
    (void)step();
    EXPECT_EQ(requests_.last(), Outcome::kRefused) << mhz;
  }
  EXPECT_THAT(backend_.history(), IsEmpty());
  EXPECT_EQ(log_.counters().refused, 5U);
}

TEST_F(ApplyLoopTest, AHostileAskerMovesNothingButItsOwnClock) {
  tests::check_property(
      [&](const std::vector<std::uint32_t>& words) {
        backend_.clear_history();
        for (const std::uint32_t word : words) {
          requests_.request = {.sequence = word >> 28,
                               .kind = static_cast<RequestKind>((word >> 16) % 4),
                               .clock = Megahertz(word & 0xFFFFU)};
          RC_ASSERT(step() >= 0ns);
        }
        for (const Event& event : backend_.history()) {
          if (event.call == Call::kResetClock) continue;
          RC_ASSERT(event.clock >= Megahertz(210) && event.clock <= Megahertz(1200));
        }
      },
      200);
}

TEST_F(ApplyLoopTest, SpinsThenNapsEverLonger) {
  requests_.ask(RequestKind::kClock, 900);
  EXPECT_EQ(step(), 0ns);
  time_.advance(1'999us);
  EXPECT_EQ(step(), 0ns);  // 2 ms of spinning
  time_.advance(1us);
  EXPECT_EQ(step(), 20us);  // the least nap: 2 ms / 128 is less
  time_.advance(8ms);
  EXPECT_EQ(step(), 78'125ns);  // 10 ms / 128
  time_.advance(90ms);
  EXPECT_EQ(step(), 781'250ns);  // 100 ms / 128
  time_.advance(60s);
  EXPECT_EQ(step(), 1ms);  // the most
  requests_.ask(RequestKind::kClock, 915);
  EXPECT_EQ(step(), 0ns);
  EXPECT_EQ(step(), 0ns);  // and it spins anew
}

/// Whatever the interval between two requests, one that comes after it waits for less than 1 % of it, or the
/// least nap.
TEST_F(ApplyLoopTest, ARequestWaitsForLessThanOnePercentOfTheTimeBeforeIt) {
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  const Instant asked = time_.now();
  while (time_.now() - asked < 2s) {
    const Duration nap = step();
    EXPECT_LE(nap, std::max<Duration>(20us, (time_.now() - asked) / 100));
    time_.advance(std::max<Duration>(nap, 1us));
  }
}

TEST_F(ApplyLoopTest, ARefusedClockBringsTheBaselineAndTheNextRequestIsServed) {
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  gpu_.fail(Call::kLockClock, core::Error(ErrorCode::kDriver, "GPU is lost"), 1);
  requests_.ask(RequestKind::kClock, 915);
  (void)step();
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), lock(915, false), reset()));
  EXPECT_EQ(requests_.last(), Outcome::kFailed);
  EXPECT_EQ(requests_.answers.back().clock, std::nullopt);
  EXPECT_FALSE(loop_->trouble());
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  (void)step();  // the request that failed is not tried again by itself
  EXPECT_EQ(requests_.answers.size(), 2U);
  requests_.ask(RequestKind::kClock, 930);
  (void)step();
  EXPECT_EQ(requests_.last(), Outcome::kApplied);
  EXPECT_EQ(gpu_.locked(), Megahertz(930));
}

TEST_F(ApplyLoopTest, WhileTheBaselineIsOwedTheDriverIsNotHammered) {
  gpu_.fail(Call::kLockClock, core::Error(ErrorCode::kDriver, "no driver"));
  gpu_.fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "no driver"));
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  ASSERT_TRUE(loop_->trouble());
  EXPECT_EQ(loop_->trouble()->text(), "no driver");
  for (int i = 0; i < 1000; ++i) {
    requests_.ask(RequestKind::kClock, 900U + 15U * static_cast<std::uint32_t>(i % 2));
    (void)step();
    EXPECT_EQ(requests_.last(), Outcome::kFailed);
  }
  EXPECT_EQ(backend_.history().size(), 2U);  // one lock, one reset
  std::size_t tries = 0;
  for (int ms = 0; ms < 60'000; ++ms) {
    time_.advance(1ms);
    (void)step();
  }
  tries = backend_.history().size() - 2;
  EXPECT_GE(tries, 60U);   // at least once a second, as I1's 3 s need
  EXPECT_LE(tries, 130U);  // and never much more often
  gpu_.clear_failure(Call::kResetClock);
  loop_->retry_now();
  (void)step();
  EXPECT_FALSE(loop_->trouble());
}

TEST_F(ApplyLoopTest, APauseEndsInTimeForTheNextTry) {
  gpu_.fail(Call::kLockClock, core::Error(ErrorCode::kDriver, "no"));
  gpu_.fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "no"));
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  const std::size_t before = backend_.history().size();
  Duration slept{};
  while (backend_.history().size() == before) {
    const Duration pause = step();
    time_.advance(std::max<Duration>(pause, 1us));
    slept += pause;
    ASSERT_LT(slept, 100ms);  // the first wait of the back-off is 50 ms at most
  }
}

TEST_F(ApplyLoopTest, AReloadedDriverGetsTheStandingRequestAgain) {
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  gpu_.lock_from_outside(std::nullopt);  // a fresh driver is at its default
  loop_->driver_reloaded();
  (void)step();
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), lock(900)));
  EXPECT_EQ(gpu_.locked(), Megahertz(900));
  (void)step();
  EXPECT_EQ(backend_.history().size(), 2U);
}

TEST_F(ApplyLoopTest, TheLastWordNamesTheLastRequest) {
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  requests_.ask(RequestKind::kClock, 915);  // not looked at any more
  ASSERT_TRUE(lease_->restore());
  loop_->close(Outcome::kEnded);
  EXPECT_EQ(requests_.answers.back().sequence, 2U);
  EXPECT_EQ(requests_.last(), Outcome::kEnded);
}

TEST_F(ApplyLoopTest, RecordsEachChangeForVerification) {
  requests_.ask(RequestKind::kClock, 900);
  (void)step();
  const auto changes = log_.recent();
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].sequence, 1U);
  EXPECT_EQ(changes[0].clock, Megahertz(900));
  EXPECT_EQ(changes[0].posted_ns, 17U);
  EXPECT_EQ(changes[0].called_ns, 1'000'000'000U);
  EXPECT_EQ(changes[0].applied_ns, 1'000'000'000U);
}

TEST(ChangeLog, KeepsTheLastOnesInOrder) {
  ChangeLog log;
  for (std::uint32_t i = 1; i <= ChangeLog::kKept + 5; ++i) {
    log.add({.sequence = i, .outcome = Outcome::kApplied, .clock = {}}, true);
  }
  const auto recent = log.recent();
  ASSERT_EQ(recent.size(), ChangeLog::kKept);
  EXPECT_EQ(recent.front().sequence, 6U);
  EXPECT_EQ(recent.back().sequence, ChangeLog::kKept + 5);
  EXPECT_EQ(log.counters().applied, ChangeLog::kKept + 5);
}

}  // namespace
}  // namespace perseus::lease
