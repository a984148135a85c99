// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/target_policy.h"

#include <algorithm>

namespace perseus::server {

std::optional<TargetChange> TargetPolicy::decide(const Targets& deployed, const Targets& wanted,
                                                 Moment now) const {
  const auto waited = [&](core::Seconds least) { return !last_change_ || now >= *last_change_ + least; };
  const bool may_slow = waited(settings_.min_hold);
  bool slow_down = false;
  bool faster = false;
  bool much_faster = false;
  for (std::size_t p = 0; p < wanted.pipeline.size(); ++p) {
    const double ratio = wanted.pipeline[p] / deployed.pipeline[p];
    slow_down = slow_down || ratio > 1 + settings_.hysteresis;
    faster = faster || ratio < 1;
    much_faster = much_faster || ratio < 1 - settings_.hysteresis;
  }
  const bool speed_up = much_faster || (faster && waited(settings_.change_interval));
  if (!speed_up && !(slow_down && may_slow)) return std::nullopt;
  TargetChange change{wanted, faster};
  if (!may_slow) {
    for (std::size_t p = 0; p < wanted.pipeline.size(); ++p) {
      change.targets.pipeline[p] = std::min(wanted.pipeline[p], deployed.pipeline[p]);
    }
  }
  return change;
}

std::optional<Moment> TargetPolicy::next_look(const Targets& deployed, const Targets& wanted,
                                              Moment now) const {
  if (!last_change_ || decide(deployed, wanted, now)) return std::nullopt;
  std::optional<Moment> next;
  for (const core::Seconds wait : {settings_.change_interval, settings_.min_hold}) {
    const Moment at = *last_change_ + wait;
    if (at > now && decide(deployed, wanted, at) && (!next || at < *next)) next = at;
  }
  return next;
}

}  // namespace perseus::server
