// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/writer_watch.h"

namespace perseus::agent {

bool WriterWatch::counts(const ClockReading& reading) const {
  return reading.utilization >= options_.load && !reading.reasons.has(gpu::ClockReason::kIdle) &&
         !reading.reasons.throttled();
}

bool WriterWatch::inside(const ClockReading& reading, const HeldRange& held) const {
  const std::uint32_t clock = reading.sm_clock.value();
  const std::uint32_t tolerance = options_.tolerance.value();
  return clock + tolerance >= held.least.value() && clock <= held.most.value() + tolerance;
}

void WriterWatch::reset() {
  settled_.reset();
  reached_ = false;
  outside_ = 0;
}

std::optional<WriterVerdict> WriterWatch::judge(const ClockReading& reading) {
  if (!reading.held) return std::nullopt;
  if (!counts(reading)) return std::nullopt;
  if (reading.held->settled && reading.held->settled != settled_) {
    // Another clock stands: whether this one was ever reached is open. Evidence that the device does not
    // follow goes on; that somebody had moved the former clock does not matter any more.
    settled_ = reading.held->settled;
    if (reached_) outside_ = 0;
    reached_ = false;
  }
  if (inside(reading, *reading.held)) {
    reached_ = true;
    outside_ = 0;
    return std::nullopt;
  }
  if (outside_ > 0 && reading.at - last_outside_ < options_.spacing) return std::nullopt;
  last_outside_ = reading.at;
  if (++outside_ < kEvidence) return std::nullopt;
  const auto verdict = reached_ ? WriterVerdict::kOtherWriter : WriterVerdict::kDoesNotFollow;
  reset();
  return verdict;
}

}  // namespace perseus::agent
