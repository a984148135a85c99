// SPDX-License-Identifier: Apache-2.0
//
// The mailbox: how a rank tells the agent, without a system call, which clock it wants now.
//
// One page of shared memory for each lease. The rank stores one 64-bit word (sequence, MHz, flags) in its own
// cache line; the agent's thread of that GPU sees the word, applies it and stores its answer in the other
// line. The latest word wins: there is no queue, so nothing stale is ever executed. Posting wakes nobody.
//
//   agent:  auto box = MailboxOwner::create();          rank:  auto box = MailboxUser::map(fd);
//           send box->fd() over the socket                     box->post(Megahertz{900});
//           ClockWord w = box->latest(); ...                   ClockWord done = box->applied();
//
// The page is a memfd made by the agent and sealed against shrinking and growing, so a rank that truncates it
// cannot kill the agent. The rank can write any byte of the page at any time: the agent takes only single
// atomic words from it, checks each value, and never reads back what it has written itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::wire {

/// What a word asks for or tells. One value of each enum, not a set.
enum class ClockRequest : std::uint16_t {
  kNone = 0,      ///< nothing was posted yet (the page is zeroed)
  kClock = 1,     ///< lock this clock
  kBaseline = 2,  ///< back to the baseline; `mhz` is 0
};
enum class ClockAnswer : std::uint16_t {
  kNone = 0,     ///< nothing was applied yet
  kApplied = 1,  ///< the driver said yes
  kRefused = 2,  ///< not one of the lease's clocks, or an unknown request; nothing was changed
  kFailed = 3,   ///< the driver said no, or is away; the GPU is at, or on its way back to, the baseline
  kYielded = 4,  ///< somebody else sets this GPU's clock: the agent lets go of it
  kUncontrollable = 5,  ///< the driver says yes but the clock does not follow
  kEnded = 6,           ///< the lease is over (expired, quiesced, GPU lost): the GPU is at its baseline
};

/// Sequence, clock and kind in one word. Sequences count posts from 1 and wrap around; they tell posts apart,
/// no more.
struct ClockWord {
  std::uint32_t sequence = 0;
  std::uint16_t mhz = 0;  ///< 1 to 65,535; 0 where there is no clock
  std::uint16_t kind =
      0;  ///< a ClockRequest or a ClockAnswer; other values come from a hostile or newer peer

  [[nodiscard]] constexpr std::uint64_t packed() const {
    return (std::uint64_t{sequence} << 32) | (std::uint64_t{mhz} << 16) | kind;
  }
  [[nodiscard]] static constexpr ClockWord unpacked(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint16_t>(word >> 16),
            static_cast<std::uint16_t>(word)};
  }
  friend constexpr bool operator==(ClockWord, ClockWord) = default;
};

/// The page. Layout is part of protocol 1: it may only grow at its end. All times are CLOCK_MONOTONIC
/// nanoseconds of the writer (time namespaces may shift a container's: they are for measurements, nothing is
/// decided by them).
struct MailboxPage {
  /// Written by the rank.
  struct alignas(64) UserLine {
    std::atomic<std::uint64_t> request;    ///< ClockWord with a ClockRequest
    std::atomic<std::uint64_t> posted_ns;  ///< when; stored before `request`
    std::atomic<std::uint64_t> hook_ns;    ///< the last hook of the training loop (fault table, row 4)
  };
  /// Written by the agent.
  struct alignas(64) OwnerLine {
    std::atomic<std::uint64_t> applied;     ///< ClockWord with a ClockAnswer and the request's sequence
    std::atomic<std::uint64_t> applied_ns;  ///< when the driver call returned; stored before `applied`
    std::atomic<std::uint64_t> called_ns;   ///< when the driver call began; stored before `applied`
  };
  UserLine user;
  OwnerLine owner;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(MailboxPage) == 128 && offsetof(MailboxPage, owner) == 64);

/// Bytes of the memfd: one page on every machine that we build for.
inline constexpr std::size_t kMailboxBytes = 4096;

/// The agent's end. Movable; unmaps and closes when it goes (the rank's mapping lives on and leads nowhere).
/// latest() and answer() belong to one thread at a time.
class MailboxOwner {
 public:
  /// kIo: the system refused.
  [[nodiscard]] static core::Result<MailboxOwner> create();
  MailboxOwner(const MailboxOwner&) = delete;
  MailboxOwner& operator=(const MailboxOwner&) = delete;
  MailboxOwner(MailboxOwner&& other) noexcept
      : page_(std::exchange(other.page_, nullptr)), fd_(std::exchange(other.fd_, -1)) {}
  MailboxOwner& operator=(MailboxOwner&& other) noexcept;
  ~MailboxOwner();

  /// To be sent to the rank; stays ours. Close-on-exec.
  [[nodiscard]] int fd() const { return fd_; }
  /// The rank's word as it is now; anything may stand in it.
  [[nodiscard]] ClockWord latest() const {
    return ClockWord::unpacked(page_->user.request.load(std::memory_order_acquire));
  }
  /// When the rank says that it posted; may be that of a post that is being made.
  [[nodiscard]] std::uint64_t posted_ns() const {
    return page_->user.posted_ns.load(std::memory_order_relaxed);
  }
  /// The rank's last hook as it says.
  [[nodiscard]] std::uint64_t hook_ns() const { return page_->user.hook_ns.load(std::memory_order_relaxed); }
  /// Publishes the answer to a request.
  void answer(ClockWord word, std::uint64_t called_ns, std::uint64_t applied_ns);

 private:
  MailboxOwner(MailboxPage* page, int fd) : page_(page), fd_(fd) {}
  MailboxPage* page_ = nullptr;
  int fd_ = -1;
};

/// The rank's end. Movable; unmaps when it goes. post() belongs to one thread at a time; applied() to any.
class MailboxUser {
 public:
  /// Maps the agent's memfd and closes `fd` in any case. kInvalidInput: it is not a memfd of kMailboxBytes
  /// sealed against shrinking and growing.
  [[nodiscard]] static core::Result<MailboxUser> map(int fd);
  MailboxUser(const MailboxUser&) = delete;
  MailboxUser& operator=(const MailboxUser&) = delete;
  MailboxUser(MailboxUser&& other) noexcept
      : page_(std::exchange(other.page_, nullptr)), sequence_(other.sequence_) {}
  MailboxUser& operator=(MailboxUser&& other) noexcept;
  ~MailboxUser();

  /// Asks for a clock; returns the sequence of this post. No system call but clock_gettime (vDSO), no wait.
  std::uint32_t post(core::Megahertz clock);
  /// Asks for the baseline.
  std::uint32_t post_baseline();
  /// Tells the agent that the training loop lives.
  void touch_hook();
  /// The agent's last answer.
  [[nodiscard]] ClockWord applied() const {
    return ClockWord::unpacked(page_->owner.applied.load(std::memory_order_acquire));
  }
  /// When the driver call of the last answer began and ended, as the agent says.
  [[nodiscard]] std::uint64_t called_ns() const {
    return page_->owner.called_ns.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t applied_ns() const {
    return page_->owner.applied_ns.load(std::memory_order_relaxed);
  }

 private:
  explicit MailboxUser(MailboxPage* page) : page_(page) {}
  std::uint32_t publish(std::uint16_t mhz, ClockRequest kind);
  MailboxPage* page_ = nullptr;
  std::uint32_t sequence_ = 0;
};

}  // namespace perseus::wire
