// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <array>

#include "perseus/simgpu/node_impl.h"

namespace perseus::simgpu {
namespace {

constexpr std::array<std::string_view, 8> kAnswers = {
    "ok", "invalid_argument", "not_supported", "no_permission", "lost", "stale", "absent", "timeout"};
constexpr std::array<std::string_view, 8> kSettings = {"lock_clock",         "reset_clock",
                                                       "lock_memory_clock",  "reset_memory_clock",
                                                       "application_clocks", "reset_application_clocks",
                                                       "power_limit",        "persistence"};

std::uint32_t lowest_mhz(const GpuConstants& gpu) {
  return gpu.clocks[0].mhz;
}
std::uint32_t top_mhz(const GpuConstants& gpu) {
  return gpu.clocks[gpu.clock_count - 1].mhz;
}

bool changes_clocks(SettingCall call) {
  return call != SettingCall::kPowerLimit && call != SettingCall::kPersistence;
}

/// What stands against a setting call, faults included.
Answer refusal(const DeviceState& state, SettingCall call) {
  if (has_fault(state, FaultKind::kLost)) return Answer::kLost;
  if (changes_clocks(call) && (has_fault(state, FaultKind::kMig) || has_fault(state, FaultKind::kVgpu))) {
    return Answer::kNotSupported;
  }
  if (has_fault(state, FaultKind::kPermission)) {
    const bool only_users = state.fault_values[static_cast<std::size_t>(FaultKind::kPermission)] != 0;
    if (!only_users || ::geteuid() != 0) return Answer::kNoPermission;
  }
  return Answer::kOk;
}

void record(DeviceAccess& access, const HistoryEntry& entry, Answer answer) {
  DeviceState& state = access.state();
  access.shared().history[state.history_count % kHistorySlots] = {
      .real_ns = real_now_ns(),
      .simulated_ns = state.base_ns,
      .pid = static_cast<std::int32_t>(::getpid()),
      .call = static_cast<std::uint32_t>(entry.call),
      .result = static_cast<std::uint32_t>(answer),
      .low_mhz = entry.low.value(),
      .high_mhz = entry.high.value(),
      .reserved = 0,
      .value = entry.value};
  ++state.history_count;
}

}  // namespace

std::string_view answer_name(Answer answer) {
  return kAnswers.at(static_cast<std::size_t>(answer));
}

std::string_view setting_name(SettingCall call) {
  return kSettings.at(static_cast<std::size_t>(call));
}

Answer Node::Impl::gate(std::uint32_t gpu, bool setting) const {
  if (!has(gpu)) return Answer::kInvalidArgument;
  const std::int64_t entered = now_ns();
  for (;;) {
    if (file.node().destroyed.load(std::memory_order_acquire) != 0) return Answer::kAbsent;
    const std::uint32_t seen = file.device(gpu).event.load(std::memory_order_acquire);
    std::int64_t until = entered;
    {
      auto accessed = access(gpu);
      if (!accessed) return Answer::kTimeout;
      const DeviceState& state = accessed->state();
      const auto value = [&](FaultKind kind) { return state.fault_values[static_cast<std::size_t>(kind)]; };
      const bool hangs = has_fault(state, FaultKind::kHang) && (setting || value(FaultKind::kHang) != 0);
      if (has_fault(state, FaultKind::kSlow)) {
        until += static_cast<std::int64_t>(value(FaultKind::kSlow) * 1e9);
      }
      if (hangs) until = kNever;
      if (until <= now_ns()) return has_fault(state, FaultKind::kLost) ? Answer::kLost : Answer::kOk;
    }
    sleep(gpu, seen, until);
  }
}

Answer Node::Impl::set(std::uint32_t gpu, HistoryEntry entry, const Apply& apply) const {
  const Answer gated = gate(gpu, true);
  if (gated != Answer::kOk && gated != Answer::kLost) return gated;
  auto access = this->access(gpu);
  if (!access) return Answer::kTimeout;
  settle(*access);
  Answer answer = loaded() ? refusal(access->state(), entry.call) : Answer::kAbsent;
  if (answer == Answer::kOk) answer = apply(*access);
  if (answer == Answer::kOk && changes_clocks(entry.call))
    apply_settings(access->constants(), access->state());
  record(*access, entry, answer);
  access->commit();
  return answer;
}

Answer Node::enter_call(std::uint32_t gpu, std::uint64_t generation) const {
  if (this->generation() != generation) return Answer::kStale;
  const Answer answer = impl_->gate(gpu, false);
  if (answer == Answer::kOk && this->generation() != generation) return Answer::kStale;
  return answer == Answer::kOk && !impl_->loaded() ? Answer::kAbsent : answer;
}

Answer Node::lock_clock(std::uint32_t gpu, std::uint32_t low_mhz, std::uint32_t high_mhz) {
  const HistoryEntry entry{
      .call = SettingCall::kLockClock, .low = core::Megahertz(low_mhz), .high = core::Megahertz(high_mhz)};
  return impl_->set(gpu, entry, [=](DeviceAccess& access) {
    const GpuConstants& constants = access.constants();
    if (low_mhz > high_mhz || high_mhz < lowest_mhz(constants) || high_mhz > top_mhz(constants)) {
      return Answer::kInvalidArgument;
    }
    access.state().lock_min_mhz = low_mhz;
    access.state().lock_max_mhz = high_mhz;
    return Answer::kOk;
  });
}

Answer Node::reset_clock(std::uint32_t gpu) {
  return impl_->set(gpu, {.call = SettingCall::kResetClock}, [](DeviceAccess& access) {
    access.state().lock_min_mhz = access.state().lock_max_mhz = 0;
    return Answer::kOk;
  });
}

Answer Node::lock_memory_clock(std::uint32_t gpu, std::uint32_t low_mhz, std::uint32_t high_mhz) {
  const HistoryEntry entry{.call = SettingCall::kLockMemoryClock,
                           .low = core::Megahertz(low_mhz),
                           .high = core::Megahertz(high_mhz)};
  return impl_->set(gpu, entry, [=](DeviceAccess& access) {
    if (low_mhz > high_mhz || high_mhz != access.constants().memory_mhz) return Answer::kInvalidArgument;
    access.state().memory_lock_mhz = high_mhz;
    return Answer::kOk;
  });
}

Answer Node::reset_memory_clock(std::uint32_t gpu) {
  return impl_->set(gpu, {.call = SettingCall::kResetMemoryClock}, [](DeviceAccess& access) {
    access.state().memory_lock_mhz = 0;
    return Answer::kOk;
  });
}

Answer Node::set_application_clocks(std::uint32_t gpu, std::uint32_t memory_mhz, std::uint32_t mhz) {
  const HistoryEntry entry{.call = SettingCall::kApplicationClocks,
                           .low = core::Megahertz(memory_mhz),
                           .high = core::Megahertz(mhz)};
  return impl_->set(gpu, entry, [=](DeviceAccess& access) {
    const GpuConstants& constants = access.constants();
    const bool supported = constants.clocks[row_at_most(constants, mhz)].mhz == mhz;
    if (memory_mhz != constants.memory_mhz || !supported) return Answer::kInvalidArgument;
    access.state().application_mhz = mhz;
    return Answer::kOk;
  });
}

Answer Node::reset_application_clocks(std::uint32_t gpu) {
  return impl_->set(gpu, {.call = SettingCall::kResetApplicationClocks}, [](DeviceAccess& access) {
    access.state().application_mhz = 0;
    return Answer::kOk;
  });
}

Answer Node::set_power_limit(std::uint32_t gpu, core::Watts limit) {
  return impl_->set(
      gpu, {.call = SettingCall::kPowerLimit, .value = limit.value()}, [=](DeviceAccess& access) {
        const GpuConstants& constants = access.constants();
        // Not a number is in no range.
        const bool allowed =
            limit.value() >= constants.least_power_limit_w && limit.value() <= constants.power_limit_w;
        if (!allowed) return Answer::kInvalidArgument;
        access.state().power_limit_w = limit.value();
        return Answer::kOk;
      });
}

Answer Node::set_persistence(std::uint32_t gpu, bool on) {
  return impl_->set(gpu, {.call = SettingCall::kPersistence, .value = on ? 1.0 : 0.0},
                    [=](DeviceAccess& access) {
                      access.state().persistence = on ? 1 : 0;
                      return Answer::kOk;
                    });
}

core::Result<std::vector<HistoryEntry>> Node::history(std::uint32_t gpu) const {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  // The oldest slot may be half overwritten by a process that was killed before it could count its entry.
  const std::uint64_t count = access.state().history_count;
  const std::uint64_t first = count >= kHistorySlots ? count - kHistorySlots + 1 : 0;
  std::vector<HistoryEntry> entries;
  for (std::uint64_t i = first; i < count; ++i) {
    const HistorySlot& slot = access.shared().history[i % kHistorySlots];
    entries.push_back({.real_ns = slot.real_ns,
                       .time_ns = slot.simulated_ns,
                       .pid = slot.pid,
                       .call = static_cast<SettingCall>(slot.call % kSettings.size()),
                       .low = core::Megahertz(slot.low_mhz),
                       .high = core::Megahertz(slot.high_mhz),
                       .value = slot.value,
                       .answer = static_cast<Answer>(slot.result % kAnswers.size())});
  }
  return entries;
}

core::Result<std::uint64_t> Node::history_count(std::uint32_t gpu) const {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  return access.state().history_count;
}

}  // namespace perseus::simgpu
