// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "perseus/client/clock_link.h"
#include "perseus/client/fork_guard.h"

namespace perseus::client {
namespace {

constexpr std::uint64_t kOneWant = std::uint64_t{1} << 32;

HoldState state_of(wire::ClockAnswer answer) {
  switch (answer) {
    case wire::ClockAnswer::kNone:
      return HoldState::kWaiting;
    case wire::ClockAnswer::kApplied:
      return HoldState::kApplied;
    case wire::ClockAnswer::kRefused:
      return HoldState::kRefused;
    case wire::ClockAnswer::kYielded:
      return HoldState::kYielded;
    case wire::ClockAnswer::kUncontrollable:
      return HoldState::kNoEffect;
    case wire::ClockAnswer::kEnded:
      return HoldState::kEnded;
    case wire::ClockAnswer::kFailed:
      break;
  }
  return HoldState::kFailed;  // and whatever a newer agent may say
}

}  // namespace

ClockHold::ClockHold(std::string job, wire::Acquired granted, wire::MailboxUser mailbox)
    : job_(std::move(job)),
      gpu_(std::move(granted.gpu)),
      clocks_(std::move(granted.clocks)),
      baseline_(granted.baseline),
      generation_(fork_generation()),
      mailbox_(std::make_unique<wire::MailboxUser>(std::move(mailbox))) {}

ClockHold::~ClockHold() = default;

bool ClockHold::in_child() const {
  return fork_generation() != generation_;
}

void ClockHold::want(core::Megahertz clock) {
  // A clock that does not fit becomes one that no GPU has; 0 is the baseline's and no GPU's either.
  constexpr std::uint32_t kMost = std::numeric_limits<std::uint16_t>::max();
  put(clock.value() == 0 ? kMost : std::min(clock.value(), kMost));
}

void ClockHold::want_baseline() {
  put(0);
}

void ClockHold::put(std::uint32_t mhz) {
  if (in_child()) return;
  std::uint64_t before = wanted_.load(std::memory_order_relaxed);
  while (!wanted_.compare_exchange_weak(before, ((before & ~(kOneWant - 1)) + kOneWant) | mhz)) {
  }
  flush();
}

void ClockHold::flush() const {
  // Either this call takes the lock, or whoever has it sees the newer want after letting go: all of this is
  // sequentially consistent.
  while (wanted_.load() != posted_.load()) {
    if (!try_lock()) return;
    const bool ready = mailbox_ != nullptr;
    if (ready) {
      const std::uint64_t wanted = wanted_.load();
      const auto mhz = static_cast<std::uint32_t>(wanted & (kOneWant - 1));
      sequence_.store(mhz == 0 ? mailbox_->post_baseline() : mailbox_->post(core::Megahertz(mhz)));
      posted_.store(wanted);
    }
    unlock();
    if (!ready) return;
  }
}

void ClockHold::lock() const {
  while (!try_lock()) ::sched_yield();
}

void ClockHold::touch_hook() {
  if (in_child() || !try_lock()) return;  // the next hook will do as well
  if (mailbox_) mailbox_->touch_hook();
  unlock();
  flush();
}

void ClockHold::post_again() {
  if (wanted_.load() == 0) return;
  posted_.store(0);
  flush();
}

void ClockHold::take(std::unique_ptr<wire::MailboxUser> mailbox) {
  lock();
  std::swap(mailbox_, mailbox);
  posted_.store(0);
  sequence_.store(0);
  unlock();
  flush();
}

void ClockHold::end(std::string reason) {
  const std::lock_guard guard(reason_mutex_);
  if (ended_.exchange(true)) return;
  ended_reason_ = std::move(reason);
}

HoldState ClockHold::state() const {
  if (in_child()) return HoldState::kLost;
  lock();
  const bool ready = mailbox_ != nullptr;
  const wire::ClockWord answer = ready ? mailbox_->applied() : wire::ClockWord();
  const std::uint32_t posted = sequence_.load();
  unlock();
  flush();
  const HoldState said = state_of(static_cast<wire::ClockAnswer>(answer.kind));
  if (said == HoldState::kYielded || said == HoldState::kNoEffect) return said;
  if (ended_.load() || said == HoldState::kEnded) return HoldState::kEnded;
  if (!ready) return HoldState::kLost;
  return answer.sequence == posted ? said : HoldState::kWaiting;
}

std::string ClockHold::ended_reason() const {
  const std::lock_guard guard(reason_mutex_);
  return ended_reason_;
}

}  // namespace perseus::client
