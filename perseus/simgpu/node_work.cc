// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "perseus/simgpu/node_impl.h"
#include "perseus/simgpu/process.h"

namespace perseus::simgpu {
namespace {

constexpr std::uint64_t kMostWaiting =
    1000;  // fewer than slots, so that the ends of the last ones can still be read
static_assert(kMostWaiting < kWorkSlots);

core::Status check_work(const Work& work) {
  const auto share = [](std::string_view name, double value) -> core::Status {
    if (value >= 0 && value <= 1) return {};
    return core::fail(core::ErrorCode::kInvalidInput, fmt::format("{} {} is not from 0 to 1", name, value));
  };
  const bool lasts = work.duration.value() >= 0 && work.duration.value() <= 1e6;  // NaN does not
  if (!lasts) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("a computation of {} s is not from 0 to 1000000 s", work.duration.value()));
  }
  PERSEUS_RETURN_IF_ERROR(share("memory_bound", work.memory_bound));
  PERSEUS_RETURN_IF_ERROR(share("utilization", work.utilization));
  return share("memory_utilization", work.memory_utilization);
}

std::unexpected<core::Error> lost() {
  return core::fail(core::ErrorCode::kDeviceLost, "the simulated GPU is lost");
}

std::unexpected<core::Error> dropped(std::uint64_t number) {
  return core::fail(
      core::ErrorCode::kDeviceLost,
      fmt::format("computation {} was dropped: the GPU was reset or the driver reloaded", number));
}

/// As Node::poll(), on a state that was brought to now.
core::Result<std::optional<Completion>> completion(DeviceAccess& access, std::uint64_t number) {
  const DeviceState& state = access.state();
  if (number >= state.tail) {
    return core::fail(core::ErrorCode::kNotFound, fmt::format("no computation {} was queued", number));
  }
  if (number + kWorkSlots <= state.tail) {
    return core::fail(core::ErrorCode::kNotFound, fmt::format("computation {} is forgotten: {} came after it",
                                                              number, state.tail - number - 1));
  }
  if (number >= state.head) {
    if (has_fault(state, FaultKind::kLost)) return lost();
    return std::optional<Completion>();
  }
  const WorkSlot& work = access.works()[number % kWorkSlots];
  if (work.dropped != 0) return dropped(number);
  return std::optional(
      Completion{.begin_ns = work.begin_ns,
                 .end_ns = work.end_ns,
                 .time = core::Seconds(static_cast<double>(work.end_ns - work.begin_ns) * 1e-9),
                 .energy = core::Joules(work.end_energy_j - work.begin_energy_j)});
}

}  // namespace

core::Result<std::uint64_t> Node::enqueue(std::uint32_t gpu, const Work& work) {
  PERSEUS_RETURN_IF_ERROR(check_work(work));
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  DeviceState& state = access.state();
  if (has_fault(state, FaultKind::kLost)) return lost();
  if (state.tail - state.head >= kMostWaiting) {
    return core::fail(core::ErrorCode::kLimit,
                      fmt::format("{} computations wait on the simulated GPU", kMostWaiting));
  }
  Impl::settle(access);
  WorkSlot& slot = access.works()[state.tail % kWorkSlots];
  slot = WorkSlot{.seconds = work.duration.value(),
                  .memory_bound = work.memory_bound,
                  .utilization = work.utilization,
                  .memory_utilization = work.memory_utilization,
                  .pid = static_cast<std::int32_t>(::getpid()),
                  .dropped = 0,
                  .start = own_start(),
                  .begin_ns = kNever,
                  .end_ns = kNever,
                  .begin_energy_j = 0,
                  .end_energy_j = 0};
  const std::uint64_t number = state.tail++;
  if (number == state.head) begin_work(state, access.works());
  access.commit();
  return number;
}

core::Result<std::optional<Completion>> Node::poll(std::uint32_t gpu, std::uint64_t number) const {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  return completion(access, number);
}

core::Result<Completion> Node::wait(std::uint32_t gpu, std::uint64_t number) const {
  PERSEUS_RETURN_IF_ERROR(impl_->check(gpu));
  for (;;) {
    const std::uint32_t seen = impl_->file.device(gpu).event.load(std::memory_order_acquire);
    std::int64_t next = kNever;
    {
      PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
      PERSEUS_ASSIGN_OR_RETURN(const auto done, completion(access, number));
      if (done) return *done;
      if (impl_->file.node().destroyed.load(std::memory_order_acquire) != 0) {
        return core::fail(core::ErrorCode::kDeviceLost, "the simulated machine was destroyed");
      }
      const Stretch stretch = stretch_of(access.constants(), access.state(), access.works());
      next = next_event(access.constants(), access.state(), stretch);
    }
    impl_->sleep(gpu, seen, next);
  }
}

core::Result<Completion> Node::run(std::uint32_t gpu, const Work& work) {
  PERSEUS_ASSIGN_OR_RETURN(const std::uint64_t number, enqueue(gpu, work));
  return wait(gpu, number);
}

core::Status Node::attach_process(std::uint32_t gpu, std::uint64_t memory_bytes) {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  impl_->drop_dead(access, 0);
  const auto self = static_cast<std::int32_t>(::getpid());
  auto& rows = access.state().processes;
  auto row = std::ranges::find(rows, self, &ProcessRow::pid);
  if (row == rows.end()) row = std::ranges::find(rows, 0, &ProcessRow::pid);
  if (row == rows.end()) {
    return core::fail(core::ErrorCode::kLimit,
                      fmt::format("{} processes use the simulated GPU", kMaxProcesses));
  }
  *row = {.pid = self, .reserved = 0, .start = own_start(), .memory_bytes = memory_bytes};
  access.commit();
  return {};
}

core::Status Node::detach_process(std::uint32_t gpu) {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  for (ProcessRow& row : access.state().processes) {
    if (row.pid == static_cast<std::int32_t>(::getpid())) row = {};
  }
  access.commit();
  return {};
}

core::Result<std::vector<Process>> Node::processes(std::uint32_t gpu) const {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  impl_->drop_dead(access, 0);
  std::map<pid_t, std::uint64_t> found;
  for (const ProcessRow& row : access.state().processes) {
    if (row.pid != 0) found[row.pid] = row.memory_bytes;
  }
  for (std::uint64_t i = access.state().head; i != access.state().tail; ++i) {
    found.try_emplace(access.works()[i % kWorkSlots].pid, 0);
  }
  std::vector<Process> list;
  list.reserve(found.size());
  for (const auto& [pid, bytes] : found) list.push_back({pid, bytes});
  return list;
}

}  // namespace perseus::simgpu
