// SPDX-License-Identifier: Apache-2.0
//
// Turns what the hooks wrote down into what the server is told: a report for each window of a sweep, one for
// some iterations under a plan, and the guard's.
//
//   StepRecorder recorder({}, [&](RankReport report) { link.report(std::move(report)); });
//   recorder.add_update(update); recorder.add_reason(sample);   // telemetry first: it is older
//   while (auto record = ring.pop()) recorder.add(*record);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "perseus/client/control_link.h"
#include "perseus/client/energy_ledger.h"
#include "perseus/client/kind_times.h"
#include "perseus/client/promise_guard.h"
#include "perseus/client/rank_plan.h"
#include "perseus/client/step_record.h"
#include "perseus/client/throttle_log.h"

namespace perseus::client {

struct RecorderSettings {
  GuardSettings guard;
  /// A report under a plan holds at least so many iterations and so much time: enough for a mean, and not
  /// more than a message in some seconds from each of 1,000 ranks. Assumed.
  std::uint32_t report_iterations = 10;
  core::Seconds report_time{5.0};
};

/// Not thread-safe: the native thread's.
class StepRecorder {
 public:
  using Report = std::function<void(RankReport)>;
  StepRecorder(RecorderSettings settings, Report report);

  void add(const StepRecord& record);
  void add_update(const EnergyUpdate& update) { ledger_.add_update(update); }
  void add_reason(const ReasonSample& sample) { throttle_.add(sample); }
  /// Of the energy counter, for reports; 0: unknown.
  void set_counter_period(core::Seconds period) { counter_period_ = period; }
  /// Whether the last record was of a sweep.
  [[nodiscard]] bool in_sweep() const { return plan_ != nullptr && !plan_->windows.empty(); }

 private:
  struct Operation {
    KindKey key;
    std::uint64_t begin_ns, end_ns;
    core::Seconds expected;
  };
  void begin_step(const StepRecord& record);
  void end_step(const StepRecord& record);
  void change_plan(const StepRecord& record);
  void begin_period(std::uint64_t from_ns);
  /// One clean step's times. Returns whether its computations were slow by themselves.
  bool take_operations();
  void end_window(const StepRecord& record);
  void end_plan_step(const StepRecord& record, core::Seconds time, bool attributable);
  void report_steps(const StepRecord& record);

  RecorderSettings settings_;
  Report report_;
  PromiseGuard guard_;
  EnergyLedger ledger_;
  ThrottleLog throttle_;
  KindSamples samples_;
  core::Seconds counter_period_;

  std::uint64_t serial_ = 0;  ///< of the table that steps run under
  std::shared_ptr<const RankPlan> plan_;
  std::uint32_t window_ = PlanTable::kNone;
  std::uint64_t window_begin_ = 0;  ///< its first step
  bool in_step_ = false;
  std::uint64_t step_ = 0;
  std::uint64_t step_begin_ns_ = 0;
  std::vector<Operation> operations_;  ///< of this step

  // Since the period's begin.
  std::uint32_t iterations_ = 0;
  core::Seconds iteration_time_;  ///< sum
  std::uint64_t period_begin_ns_ = 0;
  std::uint32_t unknown_ = 0;
  std::uint32_t missing_ = 0;
};

}  // namespace perseus::client
