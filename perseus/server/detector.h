// SPDX-License-Identifier: Apache-2.0
//
// Who is slow, and whether the profile still holds, from what ranks report of their own computations. Pure.
//
//   Detector detector;
//   detector.add(rank, measurement);
//   if (const auto verdict = detector.judge(rank, t_min)) ...;   // a straggler: how slow, and why
//   if (const auto drift = detector.drift()) ...;                // a stage is not what its profile says
//
// Compared is compute-only time over the time that the plan expects at the clocks that were set. So our own
// lowered clock makes nobody a straggler (RELIABILITY row 24), and neither does waiting for one: all ranks of
// a job take equally long over an iteration, and the one that is slow waits least. Normal is what the same
// stage takes in the other pipelines: if it is slow in all of them, the profile is wrong, which is drift.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "perseus/core/units.h"
#include "perseus/server/messages.h"

namespace perseus::server {

/// The defaults are assumed unless a source stands beside them.
struct DetectorSettings {
  /// A verdict needs so many steps, and looks back no further (RELIABILITY section 5: decide over 10 to 50).
  std::uint32_t least_steps = 10;
  std::uint32_t most_steps = 50;
  /// A rank becomes a straggler above 1 + this and is one until it falls below 1 + the other.
  double enter = 0.05;
  double leave = 0.02;
  /// Share of throttled samples that is named as the cause.
  double throttled = 0.05;
  /// Above this share a rank has few samples that are not throttled, and none that says how slow it is: then
  /// its iteration time tells.
  double mostly_throttled = 0.5;
  /// A stage that takes by more than this share longer or shorter than its profile says, in all pipelines and
  /// in each of so many reports in a row, has drifted.
  double drift = 0.03;
  std::size_t drift_reports = 3;
};

/// A rank is slow.
struct Verdict {
  double slowdown = 1;                          ///< of its computations, against the other pipelines
  std::optional<core::Seconds> iteration_time;  ///< of its pipeline, where only that is known
  std::string cause;
};

/// A stage is not what its profile says.
struct Drift {
  std::uint32_t rank = 0;  ///< pipeline rank
  double ratio = 1;        ///< measured over expected
};

class Detector {
 public:
  explicit Detector(const DetectorSettings& settings = {}) : settings_(settings) {}

  /// Notes what a rank measured under a plan.
  void add(const RankId& rank, const Measurement& measurement);
  /// The verdict on a rank; nothing: it is not slow. Remembers verdicts, for hysteresis. `promised` is the
  /// iteration time that its plan promises.
  [[nodiscard]] std::optional<Verdict> judge(const RankId& rank, core::Seconds promised);
  [[nodiscard]] std::optional<Drift> drift() const;
  /// Measured over expected of the same stage in the other pipelines, over their latest steps; nothing if
  /// none of them has reported enough.
  [[nodiscard]] std::optional<double> usual(const RankId& rank) const;
  [[nodiscard]] const DetectorSettings& settings() const { return settings_; }
  /// Forgets everything: another profile or other ranks.
  void reset() { ranks_.clear(); }

 private:
  struct Entry {
    std::uint32_t steps = 0;
    double measured_s = 0;  ///< of computations that the plan knows, all together
    double expected_s = 0;  ///< of the same
    double throttled = 0;
    double iteration_s = 0;
  };
  struct Rank {
    std::deque<Entry> entries;  ///< newest last
    bool slow = false;
  };
  /// Sums over the newest entries that hold at least so many steps; nothing if there are fewer.
  [[nodiscard]] std::optional<Entry> recent(const Rank& rank, std::uint32_t steps) const;

  DetectorSettings settings_;
  std::map<RankId, Rank> ranks_;
};

}  // namespace perseus::server
