// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/apply_loop.h"

#include <algorithm>

namespace perseus::lease {

void ChangeLog::add(const ClockChange& change, bool called) {
  const std::lock_guard lock(mutex_);
  switch (change.outcome) {
    case Outcome::kApplied:
      ++(called ? counters_.applied : counters_.equal);
      break;
    case Outcome::kRefused:
      ++counters_.refused;
      break;
    default:
      ++counters_.failed;
      break;
  }
  if (ring_.size() < kKept) {
    ring_.push_back(change);
  } else {
    ring_[next_] = change;
    next_ = (next_ + 1) % kKept;
  }
}

ChangeLog::Counters ChangeLog::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::vector<ClockChange> ChangeLog::recent() const {
  const std::lock_guard lock(mutex_);
  std::vector<ClockChange> out = ring_;
  std::ranges::rotate(out, out.begin() + static_cast<std::ptrdiff_t>(next_));
  return out;
}

ApplyLoop::ApplyLoop(Lease& lease, ClockRequests& requests, const TimeSource& time, ApplyPolicy policy,
                     ChangeLog& log)
    : lease_(lease),
      requests_(requests),
      time_(time),
      policy_(policy),
      log_(log),
      backoff_(policy.backoff),
      last_request_(time.now()) {}

Duration ApplyLoop::step() {
  if (trouble_ && time_.now() >= next_try_) retry_baseline();
  const Request request = requests_.latest();
  if (request == seen_ || request.kind == RequestKind::kNone) return pause();
  seen_ = request;
  serve(request);
  last_request_ = time_.now();
  return Duration::zero();
}

void ApplyLoop::serve(const Request& request) {
  const Instant called = time_.now();
  if (request.kind == RequestKind::kUnknown ||
      (request.kind == RequestKind::kClock &&
       !std::ranges::binary_search(lease_.terms().clocks, request.clock))) {
    return finish(request, Outcome::kRefused, called, false);
  }
  if (trouble_) return finish(request, Outcome::kFailed, called, false);
  const bool to_clock = request.kind == RequestKind::kClock;
  const bool equal = to_clock ? lease_.intended() == request.clock : !lease_.off_baseline();
  if (equal) return finish(request, Outcome::kApplied, called, false);
  const core::Status status = to_clock ? lease_.set(request.clock) : lease_.to_baseline();
  finish(request, status ? Outcome::kApplied : Outcome::kFailed, called, true);
  if (!status) fall_back(status.error());
}

void ApplyLoop::finish(const Request& request, Outcome outcome, Instant called, bool was_called) {
  const Instant applied = was_called ? time_.now() : called;
  const auto clock = lease_.intended();
  // First the record: whoever has seen the answer may look for it.
  log_.add({.sequence = request.sequence,
            .outcome = outcome,
            .clock = clock,
            .posted_ns = requests_.posted_ns(),
            .called_ns = to_ns(called),
            .applied_ns = to_ns(applied)},
           was_called);
  requests_.answer({.sequence = request.sequence,
                    .outcome = outcome,
                    .clock = clock,
                    .called = called,
                    .applied = applied});
}

void ApplyLoop::fall_back(core::Error error) {
  trouble_ = std::move(error);
  retry_baseline();
}

void ApplyLoop::retry_baseline() {
  core::Status status = lease_.to_baseline();
  if (status) {
    trouble_.reset();
    backoff_.reset();
    return;
  }
  trouble_ = std::move(status).error();
  next_try_ = time_.now() + backoff_.next();
}

void ApplyLoop::close(Outcome outcome) {
  const Instant now = time_.now();
  requests_.answer({.sequence = requests_.latest().sequence,
                    .outcome = outcome,
                    .clock = {},
                    .called = now,
                    .applied = now});
}

void ApplyLoop::driver_reloaded() {
  lease_.forget();
  seen_ = Request();
  next_try_ = Instant();
}

Duration ApplyLoop::pause() const {
  const Instant now = time_.now();
  const Duration idle = now - last_request_;
  if (idle < policy_.spin) return Duration::zero();
  Duration nap = std::clamp(idle / policy_.nap_share, policy_.nap_least, policy_.nap_most);
  if (trouble_) nap = std::clamp(next_try_ - now, Duration::zero(), nap);
  return nap;
}

}  // namespace perseus::lease
