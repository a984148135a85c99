// SPDX-License-Identifier: Apache-2.0
//
// Tells from readings of a GPU whether its clock obeys us (fault table, rows 27 and 28; invariant I4).
//
//   WriterWatch watch({.tolerance = Megahertz{30}, .spacing = 500ms});
//   if (auto verdict = watch.judge(reading)) ...     // once it is sure
//
// A reading counts only under load, without a throttle reason, and against clocks that had time to settle:
// the range of all that was set within the settle time before it. Three readings outside, each `spacing`
// after the one before, and none inside between them, make a verdict. If the clock had been inside since it
// was set, somebody else has moved it; if it never was, the device does not follow.
#pragma once

#include <cstdint>
#include <optional>

#include "perseus/core/units.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// Clocks that were in force over the settle time before a reading.
struct HeldRange {
  core::Megahertz least;
  core::Megahertz most;
  /// Names the one change that is in force, if it is older than the settle time; absent: several were.
  std::optional<std::uint64_t> settled;
};

struct ClockReading {
  lease::Instant at;
  core::Megahertz sm_clock;
  gpu::ClockReasons reasons;
  double utilization = 0;         ///< 0 to 1
  std::optional<HeldRange> held;  ///< absent: the GPU was at its baseline at some time of the window
};

enum class WriterVerdict : std::uint8_t {
  kOtherWriter,    ///< reached, then left
  kDoesNotFollow,  ///< never reached since it was set
};

struct WriterWatchOptions {
  /// Momentary clocks differ from locked ones by a step or so; two steps of 15 MHz (assumed).
  core::Megahertz tolerance{30};
  /// Between two readings that count, since a driver averages utilisation over up to a second.
  lease::Duration spacing = std::chrono::milliseconds(500);
  /// Share of time under which a GPU counts as idle (assumed).
  double load = 0.5;
};

/// Pure. Belongs to one thread.
class WriterWatch {
 public:
  /// RELIABILITY.md 1, I4.
  static constexpr int kEvidence = 3;

  explicit WriterWatch(WriterWatchOptions options) : options_(options) {}
  /// A verdict once there is evidence enough; then it starts anew.
  [[nodiscard]] std::optional<WriterVerdict> judge(const ClockReading& reading);
  /// A lease ends or begins: nothing of before counts.
  void reset();

 private:
  [[nodiscard]] bool counts(const ClockReading& reading) const;
  [[nodiscard]] bool inside(const ClockReading& reading, const HeldRange& held) const;

  WriterWatchOptions options_;
  std::optional<std::uint64_t> settled_;  ///< the change that was judged last
  bool reached_ = false;
  int outside_ = 0;
  lease::Instant last_outside_;
};

}  // namespace perseus::agent
