// SPDX-License-Identifier: Apache-2.0
//
// A lease's mailbox as the clock thread sees it: words are unpacked, paced and answered here.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "perseus/agent/held_clocks.h"
#include "perseus/lease/apply_loop.h"
#include "perseus/wire/mailbox.h"

namespace perseus::agent {

/// Pacing: a new request is shown no sooner than `min_interval` after the answer to the one before it. Since
/// the mailbox holds the latest request only, those that come faster replace each other unseen: a client that
/// floods gets its last clock, late by at most the interval, and the driver is spared the rest.
class MailboxRequests final : public lease::ClockRequests {
 public:
  /// `held` is told of each clock that the driver has accepted, and of the baseline at the end.
  MailboxRequests(wire::MailboxOwner mailbox, const lease::TimeSource& time, lease::Duration min_interval,
                  std::shared_ptr<HeldClocks> held);

  [[nodiscard]] lease::Request latest() override;
  [[nodiscard]] std::uint64_t posted_ns() override { return mailbox_.posted_ns(); }
  void answer(const lease::Answer& answer) override;

  /// To be sent to the client. Any thread.
  [[nodiscard]] int fd() const { return mailbox_.fd(); }

 private:
  wire::MailboxOwner mailbox_;
  const lease::TimeSource& time_;
  lease::Duration min_interval_;
  std::shared_ptr<HeldClocks> held_;
  std::uint64_t shown_word_ = 0;
  lease::Request shown_;
  lease::Instant not_before_;
};

/// The word's meaning; what no version of us has written is RequestKind::kUnknown.
[[nodiscard]] lease::Request request_of(wire::ClockWord word);
/// Same names, same meanings.
[[nodiscard]] wire::ClockAnswer wire_answer(lease::Outcome outcome);

}  // namespace perseus::agent
