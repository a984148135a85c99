// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/mailbox_requests.h"

#include <utility>

namespace perseus::agent {

lease::Request request_of(wire::ClockWord word) {
  lease::Request request{.sequence = word.sequence};
  if (word.kind == static_cast<std::uint16_t>(wire::ClockRequest::kNone)) {
    // Nothing was posted only if the whole word is zero; the rest is a peer that plays.
    request.kind = word == wire::ClockWord{} ? lease::RequestKind::kNone : lease::RequestKind::kUnknown;
  } else if (word.kind == static_cast<std::uint16_t>(wire::ClockRequest::kClock) && word.mhz != 0) {
    request.kind = lease::RequestKind::kClock;
    request.clock = core::Megahertz(word.mhz);
  } else if (word.kind == static_cast<std::uint16_t>(wire::ClockRequest::kBaseline)) {
    request.kind = lease::RequestKind::kBaseline;
  } else {
    request.kind = lease::RequestKind::kUnknown;
  }
  return request;
}

wire::ClockAnswer wire_answer(lease::Outcome outcome) {
  switch (outcome) {
    case lease::Outcome::kApplied:
      return wire::ClockAnswer::kApplied;
    case lease::Outcome::kRefused:
      return wire::ClockAnswer::kRefused;
    case lease::Outcome::kFailed:
      return wire::ClockAnswer::kFailed;
    case lease::Outcome::kYielded:
      return wire::ClockAnswer::kYielded;
    case lease::Outcome::kUncontrollable:
      return wire::ClockAnswer::kUncontrollable;
    case lease::Outcome::kEnded:
      break;
  }
  return wire::ClockAnswer::kEnded;
}

MailboxRequests::MailboxRequests(wire::MailboxOwner mailbox, const lease::TimeSource& time,
                                 lease::Duration min_interval, std::shared_ptr<HeldClocks> held)
    : mailbox_(std::move(mailbox)), time_(time), min_interval_(min_interval), held_(std::move(held)) {}

lease::Request MailboxRequests::latest() {
  const wire::ClockWord word = mailbox_.latest();
  if (word.packed() == shown_word_) return shown_;
  if (time_.now() < not_before_) return shown_;
  shown_word_ = word.packed();
  shown_ = request_of(word);
  return shown_;
}

void MailboxRequests::answer(const lease::Answer& answer) {
  const auto mhz = static_cast<std::uint16_t>(answer.clock ? answer.clock->value() : 0);
  not_before_ = answer.applied + min_interval_;
  held_->add_call(answer.applied - answer.called);
  if (answer.outcome == lease::Outcome::kApplied) {
    held_->put(answer.clock, answer.applied);
  } else if (answer.outcome != lease::Outcome::kRefused) {
    held_->put(std::nullopt, answer.applied);
  }
  const auto kind = static_cast<std::uint16_t>(wire_answer(answer.outcome));
  mailbox_.answer({answer.sequence, mhz, kind}, lease::to_ns(answer.called), lease::to_ns(answer.applied));
}

}  // namespace perseus::agent
