// SPDX-License-Identifier: Apache-2.0
//
// When a change of what is wanted becomes a change of what is deployed (RELIABILITY rows 23 and 25):
// speed-ups at once, slow-downs not too often, noise not at all. Pure; time is an argument.
//
//   TargetPolicy policy(settings);
//   if (auto next = policy.decide(deployed, wanted, now)) { ...; policy.changed(now); }
#pragma once

#include <optional>
#include <vector>

#include "perseus/core/units.h"
#include "perseus/server/settings.h"

namespace perseus::server {

/// The iteration time that each pipeline of a job is to plan for, and T' at which all synchronise.
struct Targets {
  std::vector<core::Seconds> pipeline;  ///< one for each pipeline
  core::Seconds sync;                   ///< at least the largest of them
  friend bool operator==(const Targets&, const Targets&) = default;
};

/// What to deploy next.
struct TargetChange {
  Targets targets;
  bool speed_up = false;  ///< some pipeline is to be faster than it is now
};

class TargetPolicy {
 public:
  explicit TargetPolicy(const JobSettings& settings) : settings_(settings) {}

  /// The next targets, or nothing while `deployed` is good enough or a slow-down has to wait. Never answers
  /// `deployed`. A pipeline is slowed only if its wanted time is more than the hysteresis above the deployed
  /// one and `min_hold` has passed since the last change; it is sped up by more than the hysteresis at once,
  /// by less once `change_interval` has passed.
  [[nodiscard]] std::optional<TargetChange> decide(const Targets& deployed, const Targets& wanted,
                                                   Moment now) const;
  /// A change that decide() gave was deployed.
  void changed(Moment now) { last_change_ = now; }
  /// When decide() may answer differently for the same arguments; nothing if no earlier decision holds it
  /// back.
  [[nodiscard]] std::optional<Moment> next_look(const Targets& deployed, const Targets& wanted,
                                                Moment now) const;

 private:
  JobSettings settings_;
  std::optional<Moment> last_change_;
};

}  // namespace perseus::server
