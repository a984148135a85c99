// SPDX-License-Identifier: Apache-2.0
//
// A plan in the server's own printed form, for tests and the fuzzer of its reader.
#pragma once

#include <string>

#include "perseus/client/rank_plan.h"
#include "perseus/format/json_text.h"

namespace perseus::client {

inline void append_operation(format::JsonText& out, const PlannedOperation& operation) {
  const core::Computation& c = operation.computation;
  out.begin_array();
  out.text(c.kind == core::Kind::kOther ? std::string_view(operation.instruction) : core::letter(c.kind));
  out.number(c.stage).number(c.microbatch);
  if (operation.clock) {
    out.number(operation.clock->value());
  } else {
    out.null();
  }
  out.number(operation.expected_time.value());
  if (c.kind == core::Kind::kForwardBackward) out.number(c.stage_b).number(c.microbatch_b);
  out.end_array();
}

inline void append_window(format::JsonText& out, const ProfileWindow& window) {
  out.begin_object().key("steps").number(window.steps).key("skip").number(window.skip);
  out.key("clocks").begin_array();
  for (const KindClock& k : window.clocks) {
    out.begin_object().key("kind").text(core::letter(k.kind)).key("stage").number(k.stage);
    out.key("clock_mhz").number(k.clock.value()).end_object();
  }
  out.end_array().end_object();
}

/// As perseus/server/service.cc prints it, without plan_sha256 and knobs, which a rank drops. `brief`: to a
/// rank that has operations and windows already.
inline std::string rank_plan_text(const RankPlan& plan, bool brief = false) {
  format::JsonText out;
  out.begin_object().key("job").text(plan.job).key("incarnation").number(plan.incarnation);
  out.key("schedule_sha256").text(plan.schedule_sha256).key("revision").number(plan.revision);
  out.key("generation").number(plan.generation).key("reason").text(plan.reason);
  out.key("from_step").number(plan.from_step).key("ttl_s").number(plan.ttl.value());
  out.key("baseline").boolean(plan.baseline);
  if (brief || plan.baseline) return out.end_object().take();
  if (!plan.windows.empty()) {
    out.key("windows").begin_array();
    for (const ProfileWindow& window : plan.windows) append_window(out, window);
    return out.end_array().end_object().take();
  }
  if (plan.promised_time) out.key("promised_time_s").number(plan.promised_time->value());
  out.key("operations").begin_array();
  for (const PlannedOperation& operation : plan.operations) append_operation(out, operation);
  return out.end_array().end_object().take();
}

}  // namespace perseus::client
