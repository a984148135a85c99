// SPDX-License-Identifier: Apache-2.0
#include "perseus/wire/mailbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <set>
#include <thread>

#include "tests/support/property.h"

namespace perseus::wire {
namespace {

using core::Megahertz;

std::uint16_t raw(ClockRequest kind) {
  return static_cast<std::uint16_t>(kind);
}
std::uint16_t raw(ClockAnswer kind) {
  return static_cast<std::uint16_t>(kind);
}

/// Both ends of one mailbox in one process.
struct Pair {
  MailboxOwner owner;
  MailboxUser user;
  static Pair make() {
    auto owner = MailboxOwner::create();
    EXPECT_TRUE(owner);
    auto user = MailboxUser::map(::dup(owner->fd()));
    EXPECT_TRUE(user);
    return {*std::move(owner), *std::move(user)};
  }
};

TEST(ClockWord, PacksSequenceClockAndKind) {
  EXPECT_EQ((ClockWord{0x01020304, 0x0506, 0x0708}.packed()), 0x0102030405060708ULL);
  tests::check_property([](std::uint32_t sequence, std::uint16_t mhz, std::uint16_t kind) {
    const ClockWord word{sequence, mhz, kind};
    RC_ASSERT(ClockWord::unpacked(word.packed()) == word);
  });
}

TEST(Mailbox, IsEmptyAtFirst) {
  const Pair box = Pair::make();
  EXPECT_EQ(box.owner.latest(), (ClockWord{0, 0, raw(ClockRequest::kNone)}));
  EXPECT_EQ(box.user.applied(), (ClockWord{0, 0, raw(ClockAnswer::kNone)}));
  EXPECT_EQ(box.owner.posted_ns(), 0U);
  EXPECT_EQ(box.owner.hook_ns(), 0U);
}

TEST(Mailbox, TheLatestRequestWins) {
  Pair box = Pair::make();
  EXPECT_EQ(box.user.post(Megahertz(900)), 1U);
  EXPECT_EQ(box.user.post(Megahertz(1305)), 2U);
  EXPECT_EQ(box.owner.latest(), (ClockWord{2, 1305, raw(ClockRequest::kClock)}));
  EXPECT_EQ(box.user.post_baseline(), 3U);
  EXPECT_EQ(box.owner.latest(), (ClockWord{3, 0, raw(ClockRequest::kBaseline)}));
}

TEST(Mailbox, CarriesTheAnswerAndItsTimes) {
  Pair box = Pair::make();
  const auto before = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  box.user.post(Megahertz(900));
  EXPECT_GE(box.owner.posted_ns(), before);
  box.owner.answer({1, 900, raw(ClockAnswer::kApplied)}, 70, 90);
  EXPECT_EQ(box.user.applied(), (ClockWord{1, 900, raw(ClockAnswer::kApplied)}));
  EXPECT_EQ(box.user.called_ns(), 70U);
  EXPECT_EQ(box.user.applied_ns(), 90U);
  box.user.touch_hook();
  EXPECT_GE(box.owner.hook_ns(), box.owner.posted_ns());
}

TEST(Mailbox, AClockThatDoesNotFitBecomesOneThatNoGpuHas) {
  Pair box = Pair::make();
  box.user.post(Megahertz(65'536 + 900));
  EXPECT_EQ(box.owner.latest().mhz, 65'535);
}

TEST(Mailbox, MovesWithoutLosingItsPage) {
  Pair box = Pair::make();
  box.user.post(Megahertz(900));
  MailboxOwner owner(std::move(box.owner));
  MailboxUser user(std::move(box.user));
  EXPECT_EQ(user.post(Megahertz(915)), 2U);
  EXPECT_EQ(owner.latest().mhz, 915);
  Pair other = Pair::make();
  other.owner = std::move(owner);
  other.user = std::move(user);
  EXPECT_EQ(other.user.post(Megahertz(930)), 3U);
  EXPECT_EQ(other.owner.latest().mhz, 930);
}

TEST(Mailbox, TheRanksMappingOutlivesTheAgent) {
  auto owner = MailboxOwner::create();
  ASSERT_TRUE(owner);
  auto user = MailboxUser::map(::dup(owner->fd()));
  ASSERT_TRUE(user);
  {
    const MailboxOwner gone = *std::move(owner);
  }
  EXPECT_EQ(user->post(Megahertz(900)), 1U);  // leads nowhere, harms nobody
}

TEST(Mailbox, NobodyCanShrinkOrGrowIt) {
  const Pair box = Pair::make();
  EXPECT_EQ(::ftruncate(box.owner.fd(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(box.owner.fd(), 2 * kMailboxBytes), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::fcntl(box.owner.fd(), F_ADD_SEALS, F_SEAL_WRITE), -1);  // nor take the page away from the other
  EXPECT_NE(::fcntl(box.owner.fd(), F_GETFD) & FD_CLOEXEC, 0);
}

std::string refusal(int fd) {
  auto user = MailboxUser::map(fd);
  return user ? "accepted" : user.error().text();
}

TEST(Mailbox, TheRankTakesNothingButASealedMemfd) {
  EXPECT_EQ(refusal(::open("/dev/null", O_RDWR | O_CLOEXEC)), "what came for a mailbox is no memfd");
  EXPECT_EQ(refusal(-1), "cannot look at what came for a mailbox: Bad file descriptor");
  const int small = ::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_EQ(refusal(small), "the mailbox has 0 bytes; it must have 4096");
  EXPECT_EQ(::fcntl(small, F_GETFD), -1);  // closed in any case
  const int open_end = ::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(open_end, kMailboxBytes), 0);
  EXPECT_EQ(refusal(open_end), "the mailbox is not sealed against shrinking and growing");
}

/// Two threads at once: whatever the owner sees was posted, in the order of posting, and an answer that the
/// user sees comes with times at least as new as its own (TSan looks at the rest).
TEST(Mailbox, TwoThreadsSeeWholeWordsInOrder) {
  constexpr std::uint32_t kPosts = 200'000;
  Pair box = Pair::make();
  std::thread owner([&] {
    std::uint32_t last = 0;
    while (last < kPosts) {
      const ClockWord word = box.owner.latest();
      if (word.sequence == last) continue;
      ASSERT_GT(word.sequence, last);
      ASSERT_EQ(word.mhz, 1 + word.sequence % 1000);
      ASSERT_EQ(word.kind, raw(ClockRequest::kClock));
      last = word.sequence;
      box.owner.answer({last, word.mhz, raw(ClockAnswer::kApplied)}, last, last + 1);
    }
  });
  std::uint32_t answered = 0;
  for (std::uint32_t i = 1; i <= kPosts; ++i) {
    ASSERT_EQ(box.user.post(Megahertz(1 + i % 1000)), i);
    const ClockWord answer = box.user.applied();
    ASSERT_GE(answer.sequence, answered);
    ASSERT_LE(answer.sequence, i);
    ASSERT_GE(box.user.called_ns(), answer.sequence);
    answered = answer.sequence;
  }
  owner.join();
  EXPECT_EQ(box.user.applied().sequence, kPosts);
}

}  // namespace
}  // namespace perseus::wire
