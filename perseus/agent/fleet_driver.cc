// SPDX-License-Identifier: Apache-2.0
//
// The part of the fleet that listens to the driver: readings, failures, re-opening; and what it tells of the
// GPUs.
#include <fmt/format.h>

#include <utility>

#include "perseus/agent/durations.h"
#include "perseus/agent/fleet.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

}  // namespace

void Fleet::on_clock_event(GpuIndex gpu, const lease::ClockEvent& event) {
  AuditEntry audit = entry(AuditEvent::kRestore, gpu);
  if (event.kind == lease::ClockEvent::Kind::kBaselineBack) {
    const bool owed = table_.gpu(gpu).owing;
    if (owed) {
      table_.restored(gpu, true);
      ++units_[gpu]->leases.restored;
    }
    audit.detail = "the baseline that was owed has been reached";
    context_.audit.write(audit);
    close_when_free();
    return;
  }
  audit.event = AuditEvent::kDriver;
  if (event.error) {
    audit.result = core::info(event.error->code()).name;
    audit.detail = event.error->message();
    on_driver_error(gpu, *event.error);
  }
  context_.audit.write(audit);
}

void Fleet::on_driver_error(GpuIndex gpu, const core::Error& error) {
  if (table_.quiesced() || closed_) return;
  if (error.code() == ErrorCode::kDriver) keeper_->reopen();
  if (error.code() != ErrorCode::kDeviceLost || table_.gpu(gpu).obstacle == Obstacle::kLost) return;
  if (const auto ending = table_.set_obstacle(gpu, Obstacle::kLost, error.message())) {
    carry_out(*ending, AuditEvent::kEnd);
  }
  if (!lost_retry_at_) lost_retry_at_ = context_.time.now() + lost_backoff_.next();
}

void Fleet::on_reading(GpuIndex gpu, const Reading& reading, const std::optional<ClockReading>& judged) {
  GpuUnit& unit = *units_[gpu];
  if (closed_ || closing_) return;  // taken before, told after
  unit.telemetry.add(reading);
  if (reading.error) return on_driver_error(gpu, *reading.error);
  if (table_.gpu(gpu).obstacle == Obstacle::kLost) (void)table_.set_obstacle(gpu, Obstacle::kNone, "");
  if (reading.energy) {
    const std::uint32_t epoch = reading.energy->epoch;
    if (unit.energy_epoch && *unit.energy_epoch != epoch) {
      // The counter began anew, so the driver did, and has forgotten what was locked.
      unit.thread->driver_reloaded();
      AuditEntry audit = entry(AuditEvent::kDriver, gpu);
      audit.detail = "the driver was loaded anew: clocks are at its default";
      context_.audit.write(audit);
    }
    unit.energy_epoch = epoch;
  }
  if (!judged || table_.gpu(gpu).phase != LeasePhase::kHeld) return;
  if (const auto verdict = unit.watch.judge(*judged)) on_verdict(gpu, *verdict, *judged);
}

void Fleet::on_verdict(GpuIndex gpu, WriterVerdict verdict, const ClockReading& reading) {
  const HeldRange held = reading.held.value_or(HeldRange{});
  const std::string range = held.least == held.most
                                ? fmt::format("{} MHz", held.least.value())
                                : fmt::format("{} to {} MHz", held.least.value(), held.most.value());
  const bool other = verdict == WriterVerdict::kOtherWriter;
  const std::string reason =
      other
          ? fmt::format(
                "another program sets this clock: it ran at {} MHz under load where {} had been set and "
                "reached; perseus agent resume takes it back",
                reading.sm_clock.value(), range)
          : fmt::format(
                "the driver accepts {} but the clock stays at {} MHz under load; perseus agent resume tries "
                "again",
                range, reading.sm_clock.value());
  if (const auto ending =
          table_.set_obstacle(gpu, other ? Obstacle::kYielded : Obstacle::kUncontrollable, reason)) {
    carry_out(*ending, AuditEvent::kYield);
  }
}

void Fleet::on_reopened(const core::Status& status, std::string driver_version) {
  AuditEntry audit{.event = AuditEvent::kDriver, .detail = "opened again"};
  if (!status) {
    audit.result = core::info(status.error().code()).name;
    audit.detail = status.error().message();
  }
  context_.audit.write(audit);
  if (resume_reply_) std::exchange(resume_reply_, {})(status);
  if (!status) return;
  driver_version_ = std::move(driver_version);
  closed_ = false;
  reopening_ = false;
  if (table_.quiesced()) return close_when_free();  // quiesced anew meanwhile: nobody touches the driver
  for (GpuIndex i = 0; i < units_.size(); ++i) {
    units_[i]->thread->retry_now();
    units_[i]->sampler->resume();
    ask_abilities(i);
  }
}

std::vector<wire::AgentGpu> Fleet::welcome() const {
  std::vector<wire::AgentGpu> gpus;
  for (GpuIndex i = 0; i < units_.size(); ++i) {
    const gpu::Identity& identity = units_[i]->device->identity();
    const LeaseTable::Gpu& held = table_.gpu(i);
    const bool controllable = held.obstacle == Obstacle::kNone;
    gpus.push_back({identity.index, identity.uuid, identity.name, allowed_clocks(i, std::nullopt),
                    controllable, controllable ? "" : held.obstacle_reason});
  }
  return gpus;
}

std::string Fleet::state_of(GpuIndex gpu, const lease::ClockThreadState& state, std::string& reason) const {
  const LeaseTable::Gpu& held = table_.gpu(gpu);
  reason = held.obstacle_reason;
  if (table_.quiesced()) {
    reason = "an administrator has quiesced the agent";
    return "quiesced";
  }
  if (held.obstacle == Obstacle::kLost) return "lost";
  if (held.obstacle == Obstacle::kYielded) return "yielded";
  if (held.obstacle != Obstacle::kNone) return "uncontrollable";
  const auto now = context_.time.now();
  if (state.call_since && now - *state.call_since >= to_duration(config_.degraded_after)) {
    const std::chrono::duration<double> since = now - *state.call_since;
    reason = fmt::format("a driver call has not returned for {:.1f} s", since.count());
    return "degraded";
  }
  if (state.owing || held.owing) {
    reason =
        fmt::format("not at its baseline: {}", state.trouble.empty() ? "the driver refused" : state.trouble);
    return "degraded";
  }
  return held.phase == LeasePhase::kFree ? "free" : "leased";
}

wire::GpuStatus Fleet::status(GpuIndex gpu) const {
  const GpuUnit& unit = *units_[gpu];
  const gpu::Identity& identity = unit.device->identity();
  const lease::ClockThreadState state = unit.thread->state();
  wire::GpuStatus out{.index = identity.index, .uuid = identity.uuid, .name = identity.name};
  out.state = state_of(gpu, state, out.reason);
  out.intended = state.intended;
  const Reading& last = unit.telemetry.last();
  out.sm_clock = last.sm_clock;
  out.power = last.power;
  out.energy = unit.telemetry.energy();
  out.temperature = last.temperature;
  const LeaseTable::Gpu& held = table_.gpu(gpu);
  if (held.phase != LeasePhase::kFree) out.owner = format::owner_text(held.ask.owner);
  out.clock_changes = state.counters.applied;
  out.refused = state.counters.refused;
  out.failed = state.counters.failed;
  return out;
}

std::vector<wire::GpuStatus> Fleet::status() const {
  std::vector<wire::GpuStatus> all;
  all.reserve(units_.size());
  for (GpuIndex i = 0; i < units_.size(); ++i) all.push_back(status(i));
  return all;
}

}  // namespace perseus::agent
