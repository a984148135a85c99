// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/step_recorder.h"

#include <utility>

namespace perseus::client {
namespace {

core::Seconds between(std::uint64_t begin_ns, std::uint64_t end_ns) {
  return core::Seconds(static_cast<double>(end_ns - begin_ns) / 1e9);
}

}  // namespace

StepRecorder::StepRecorder(RecorderSettings settings, Report report)
    : settings_(settings), report_(std::move(report)), guard_(settings.guard) {}

void StepRecorder::add(const StepRecord& record) {
  switch (record.type) {
    case StepRecord::Type::kStepBegin:
      return begin_step(record);
    case StepRecord::Type::kStepEnd:
      return end_step(record);
    case StepRecord::Type::kOperation:
      if (!in_step_ || record.table == nullptr) return;
      operations_.push_back({{record.kind, record.stage, record.mhz},
                             record.begin_ns,
                             record.end_ns,
                             record.table->expected_time(record.slot)});
      return;
  }
}

void StepRecorder::begin_step(const StepRecord& record) {
  const std::uint64_t serial = record.table == nullptr ? 0 : record.table->serial();
  if (serial != serial_) change_plan(record);
  if (in_sweep() && record.table != nullptr) {
    const std::uint32_t window = record.table->window_of(record.step);
    if (window != window_) {
      window_ = window;
      window_begin_ = window == PlanTable::kNone ? record.step : record.table->first_step(window);
      begin_period(record.begin_ns);
    }
  }
  in_step_ = true;
  step_ = record.step;
  step_begin_ns_ = record.begin_ns;
  operations_.clear();
  if (period_begin_ns_ == 0) period_begin_ns_ = record.begin_ns;
}

void StepRecorder::change_plan(const StepRecord& record) {
  serial_ = record.table == nullptr ? 0 : record.table->serial();
  plan_ = record.table == nullptr ? nullptr : record.table->share();
  window_ = PlanTable::kNone;
  if (plan_) guard_.begin_plan(plan_->generation, plan_->promised_time);
  begin_period(record.begin_ns);
}

void StepRecorder::begin_period(std::uint64_t from_ns) {
  iterations_ = unknown_ = missing_ = 0;
  iteration_time_ = core::Seconds(0);
  period_begin_ns_ = 0;
  static_cast<void>(samples_.take());
  ledger_.clear(from_ns);
  throttle_.restart();
}

bool StepRecorder::take_operations() {
  core::Seconds measured;
  core::Seconds expected;
  bool throttled = false;
  for (const Operation& operation : operations_) {
    const bool at_a_clock = operation.key.mhz != 0;  // a fixed time may run at the baseline, whatever that is
    if (throttle_.touches(operation.begin_ns, operation.end_ns)) {
      if (at_a_clock) samples_.reject(operation.key);
      throttled = true;
      continue;
    }
    const core::Seconds time = between(operation.begin_ns, operation.end_ns);
    if (at_a_clock) samples_.add(operation.key, time, operation.expected);
    measured += time;
    expected += operation.expected;
  }
  return !throttled && measured > expected * (1.0 + guard_.margin());
}

void StepRecorder::end_step(const StepRecord& record) {
  if (!in_step_ || record.step != step_) return;
  in_step_ = false;
  if (!plan_) return ledger_.clear(record.end_ns);
  unknown_ += record.unknown;
  missing_ += record.missing;
  const bool skipped =
      window_ != PlanTable::kNone && record.step - window_begin_ < plan_->windows[window_].skip;
  const bool after_the_sweep = in_sweep() && window_ == PlanTable::kNone;
  const bool good = record.clean && !skipped && !after_the_sweep;
  const core::Seconds time = between(step_begin_ns_, record.end_ns);
  if (skipped) throttle_.restart();
  bool attributable = false;
  if (good) {
    if (in_sweep()) {
      for (const Operation& o : operations_) ledger_.add_operation(o.key, o.begin_ns, o.end_ns);
    }
    attributable = take_operations();
    ++iterations_;
    iteration_time_ += time;
  }
  ledger_.add_step(step_begin_ns_, record.end_ns, good);
  if (in_sweep()) return end_window(record);
  if (good) end_plan_step(record, time, attributable);
}

void StepRecorder::end_window(const StepRecord& record) {
  if (window_ == PlanTable::kNone) return;
  const ProfileWindow& window = plan_->windows[window_];
  if (record.step + 1 - window_begin_ < window.steps) return;
  // Without a measured iteration there is nothing to tell; the server asks again.
  if (iterations_ > 0) {
    report_(WindowReport{.generation = plan_->generation,
                         .window = window_,
                         .step = record.step,
                         .iterations = iterations_,
                         .iteration_time = iteration_time_ / static_cast<double>(iterations_),
                         .throttled = throttle_.share(),
                         .kinds = samples_.take(),
                         .energy = ledger_.sums(),
                         .counter_period = counter_period_});
  }
  begin_period(record.end_ns);
}

void StepRecorder::end_plan_step(const StepRecord& record, core::Seconds time, bool attributable) {
  if (plan_->baseline) {
    static_cast<void>(samples_.take());  // at no clock of ours
  } else if (auto trip = guard_.add(time, attributable)) {
    report_(*trip);
  }
  if (iterations_ >= settings_.report_iterations &&
      between(period_begin_ns_, record.end_ns) >= settings_.report_time) {
    report_steps(record);
  }
}

void StepRecorder::report_steps(const StepRecord& record) {
  const core::Seconds mean = iteration_time_ / static_cast<double>(iterations_);
  std::optional<core::Joules> energy;
  if (const auto power = ledger_.mean_power()) energy = *power * mean;
  report_(StepReport{.generation = plan_->generation,
                     .step = record.step,
                     .iterations = iterations_,
                     .iteration_time = mean,
                     .energy = energy,
                     .kinds = samples_.take(),
                     .throttled = throttle_.share(),
                     .unknown = unknown_,
                     .missing = missing_});
  begin_period(record.end_ns);
}

}  // namespace perseus::client
