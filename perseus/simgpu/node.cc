// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/node.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "perseus/simgpu/node_impl.h"
#include "perseus/simgpu/process.h"

namespace perseus::simgpu {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kCheckNs = 20'000'000;  // how often dead processes are looked for. Assumed
constexpr std::int64_t kNapNs = 100'000'000;   // no sleep is longer: the node may have been destroyed

constexpr double kEndOfTimeNs = 9e18;

/// A ring's difference over the last window that has ended.
double window_sum(const DeviceState& state, const std::array<double, kTickSlots>& ring) {
  const std::int64_t first = std::max<std::int64_t>(0, state.tick - kWindowTicks);
  const auto slots = static_cast<std::int64_t>(kTickSlots);
  return ring[static_cast<std::size_t>(state.tick % slots)] - ring[static_cast<std::size_t>(first % slots)];
}

double window_seconds(const DeviceState& state) {
  return static_cast<double>(std::min(state.tick, kWindowTicks) * kTickNs) * 1e-9;
}

std::optional<core::Megahertz> optional_clock(std::uint32_t mhz) {
  return mhz != 0 ? std::optional(core::Megahertz(mhz)) : std::nullopt;
}

std::vector<Fault> fault_list(const DeviceState& state) {
  std::vector<Fault> faults;
  for (std::size_t i = 0; i < kLastingFaults; ++i) {
    const auto kind = static_cast<FaultKind>(i);
    if (has_fault(state, kind)) faults.push_back({kind, state.fault_values[i]});
  }
  return faults;
}

void observe_settings(const DeviceState& state, Observation& seen) {
  seen.locked = optional_clock(state.lock_max_mhz);
  seen.locked_low = optional_clock(state.lock_min_mhz);
  seen.application_clock = optional_clock(state.application_mhz);
  seen.memory_lock = optional_clock(state.memory_lock_mhz);
  seen.power_limit = core::Watts(state.power_limit_w);
  seen.enforced_power_limit = core::Watts(enforced_power_limit_w(state));
  seen.persistence = state.persistence != 0;
  seen.faults = fault_list(state);
}

/// `state` settled at the moment of the observation.
Observation observe_state(const GpuConstants& gpu, const DeviceState& state, Works works) {
  const Stretch stretch = stretch_of(gpu, state, works);
  Observation seen;
  seen.time_ns = state.base_ns;
  const bool clock_is_down = !stretch.busy && state.idle != 0;
  seen.sm_clock = core::Megahertz(gpu.clocks[clock_is_down ? 0 : stretch.row].mhz);
  seen.power = core::Watts(power_at(stretch, state.temperature_c));
  const double window = window_seconds(state);
  seen.average_power = window > 0 ? core::Watts(window_sum(state, state.tick_energy_j) / window) : seen.power;
  seen.energy = core::Joules(state.energy_j);
  seen.counter = core::Joules(std::floor((state.counter_j - state.counter_zero_j) * 1e3) * 1e-3);
  seen.counter_restarts = state.counter_restarts;
  seen.temperature = core::Celsius(state.temperature_c);
  seen.reasons = stretch.reasons;
  seen.utilization = window > 0 ? std::clamp(window_sum(state, state.tick_busy_s) / window, 0.0, 1.0) : 0;
  seen.works_waiting = state.tail - state.head;
  observe_settings(state, seen);
  return seen;
}

void drop_queue(DeviceAccess& access) {
  while (access.state().head != access.state().tail) {
    end_work(access.constants(), access.state(), access.works(), true);
  }
}

}  // namespace

core::Status Node::Impl::check(std::uint32_t gpu) const {
  if (has(gpu)) return {};
  return core::fail(
      core::ErrorCode::kInvalidInput,
      fmt::format("GPU {} does not exist: this simulated machine has {}", gpu, file.node().gpu_count));
}

std::int64_t Node::Impl::now_ns() const {
  const NodeShared& node = file.node();
  if (node.manual_time != 0) return node.manual_ns.load(std::memory_order_acquire);
  const std::int64_t real = real_now_ns() - node.origin_ns;
  if (node.time_scale == 1) return real;
  // A fast node's time ends after 285 years.
  return static_cast<std::int64_t>(std::min(static_cast<double>(real) * node.time_scale, kEndOfTimeNs));
}

std::int64_t Node::Impl::real_ns(std::int64_t simulated_ns) const {
  return static_cast<std::int64_t>(
      std::min(static_cast<double>(simulated_ns) / file.node().time_scale, 1e18));
}

bool Node::Impl::loaded() const {
  const NodeShared& node = file.node();
  return node.destroyed.load(std::memory_order_acquire) == 0 &&
         now_ns() >= node.absent_until_ns.load(std::memory_order_acquire);
}

core::Result<DeviceAccess> Node::Impl::access(std::uint32_t gpu) const {
  PERSEUS_RETURN_IF_ERROR(check(gpu));
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, DeviceAccess::begin(file.device(gpu)));
  const std::int64_t before = access.state().base_ns;
  access.set_now(now_ns());
  advance(access.constants(), access.state(), access.works(), access.now_ns());
  if (access.state().base_ns != before) access.commit_quietly();
  drop_dead(access, kCheckNs);
  return access;
}

void Node::Impl::settle(DeviceAccess& access) {
  const Stretch stretch = stretch_of(access.constants(), access.state(), access.works());
  move_base(access.constants(), access.state(), stretch, access.now_ns());
}

void Node::Impl::drop_dead(DeviceAccess& access, std::int64_t age_ns) const {
  DeviceState& state = access.state();
  const std::int64_t now = real_now_ns();
  if (now - state.checked_real_ns < age_ns) return;
  state.checked_real_ns = now;
  const auto self = static_cast<std::int32_t>(::getpid());
  const auto lives = [&](std::int32_t pid, std::uint64_t start) {
    return (pid == self && start == own_start()) || process_start(pid) == start;
  };
  for (ProcessRow& row : state.processes) {
    if (row.pid != 0 && !lives(row.pid, row.start)) row = {};
  }
  bool dropped = false;
  while (state.head != state.tail) {
    const WorkSlot& work = access.works()[state.head % kWorkSlots];
    if (lives(work.pid, work.start)) break;
    settle(access);
    end_work(access.constants(), state, access.works(), true);
    dropped = true;
  }
  dropped ? access.commit() : access.commit_quietly();
}

void Node::Impl::sleep(std::uint32_t gpu, std::uint32_t seen, std::int64_t until_ns) const {
  std::int64_t nap = kNapNs;
  if (file.node().manual_time == 0 && until_ns != kNever) {
    nap = std::min(nap, real_ns(std::max<std::int64_t>(0, until_ns - now_ns())) + 1);
  }
  wait_for_event(file.device(gpu), seen, nap);
}

Node::Node(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Node::Node(Node&&) noexcept = default;
Node& Node::operator=(Node&&) noexcept = default;
Node::~Node() = default;

core::Result<Node> Node::create(const std::string& path, const NodeSpec& spec) {
  PERSEUS_ASSIGN_OR_RETURN(SharedFile file, SharedFile::create(path, spec));
  return Node(std::make_unique<Impl>(std::move(file)));
}

core::Result<Node> Node::open(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(SharedFile file, SharedFile::open(path));
  return Node(std::make_unique<Impl>(std::move(file)));
}

core::Result<Node> Node::open_environment() {
  const char* path =
      std::getenv(kEnvironment);  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  if (path == nullptr || *path == '\0') {
    return core::fail(
        core::ErrorCode::kNotFound,
        fmt::format("no simulated machine: {} is not set (`perseus sim create` prints it)", kEnvironment));
  }
  return open(path);
}

core::Status Node::destroy(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const SharedFile file, SharedFile::open(path));
  file.node().destroyed.store(1, std::memory_order_release);
  for (std::uint32_t i = 0; i < file.node().gpu_count; ++i) announce_event(file.device(i));
  if (::unlink(path.c_str()) == 0) return {};
  return core::fail(core::ErrorCode::kIo, "the state file could not be removed", {path});
}

const std::string& Node::path() const {
  return impl_->file.path();
}
std::uint32_t Node::gpu_count() const {
  return impl_->file.node().gpu_count;
}
std::uint64_t Node::seed() const {
  return impl_->file.node().seed;
}
double Node::time_scale() const {
  return impl_->file.node().time_scale;
}
bool Node::manual_time() const {
  return impl_->file.node().manual_time != 0;
}
std::string Node::driver_version() const {
  return impl_->file.node().driver_version.data();
}
std::int64_t Node::now_ns() const {
  return impl_->now_ns();
}
std::uint64_t Node::generation() const {
  return impl_->file.node().generation.load(std::memory_order_acquire);
}
bool Node::driver_loaded() const {
  return impl_->loaded();
}

core::Result<Identity> Node::identity(std::uint32_t gpu) const {
  PERSEUS_RETURN_IF_ERROR(impl_->check(gpu));
  const GpuConstants& constants = impl_->file.device(gpu).constants;
  return Identity{gpu, constants.uuid.data(), constants.pci_bus_id.data(), constants.name.data()};
}

core::Result<GpuSpec> Node::spec(std::uint32_t gpu) const {
  PERSEUS_RETURN_IF_ERROR(impl_->check(gpu));
  const GpuConstants& from = impl_->file.device(gpu).constants;
  GpuSpec spec;
  spec.name = from.name.data();
  for (std::uint32_t i = 0; i < from.clock_count; ++i) {
    const ClockRow& row = from.clocks[i];
    spec.clocks.push_back({core::Megahertz(row.mhz), core::Watts(row.dynamic_w), core::Watts(row.static_w)});
  }
  spec.memory_clock = core::Megahertz(from.memory_mhz);
  spec.idle_power = core::Watts(from.idle_w);
  spec.memory_power = core::Watts(from.memory_w);
  spec.power_limit = core::Watts(from.power_limit_w);
  spec.least_power_limit = core::Watts(from.least_power_limit_w);
  spec.thermal = {core::Celsius(from.ambient_c),
                  from.resistance_k_per_w,
                  core::Seconds(from.time_constant_s),
                  core::Celsius(from.reference_c),
                  from.leakage_w_per_k,
                  core::Celsius(from.throttle_c),
                  from.hysteresis_k};
  spec.latency = {core::Seconds(from.latency_median_s), from.latency_sigma_targets,
                  from.latency_sigma_switches, core::Seconds(from.latency_least_s),
                  core::Seconds(from.latency_most_s)};
  spec.counter_period = core::Seconds(static_cast<double>(from.counter_period_ns) * 1e-9);
  spec.idle_after = core::Seconds(static_cast<double>(from.idle_after_ns) * 1e-9);
  spec.power_usage_is_average = from.power_usage_is_average != 0;
  spec.memory_bytes = from.memory_bytes;
  spec.architecture = from.architecture;
  spec.capability_major = from.capability_major;
  spec.capability_minor = from.capability_minor;
  spec.pci_device_id = from.pci_device_id;
  return spec;
}

void Node::advance_time(core::Seconds by) {
  NodeShared& node = impl_->file.node();
  if (node.manual_time == 0 || !(by.value() > 0)) return;
  node.manual_ns.fetch_add(std::llround(by.value() * 1e9), std::memory_order_acq_rel);
  for (std::uint32_t i = 0; i < node.gpu_count; ++i) announce_event(impl_->file.device(i));
}

core::Result<Observation> Node::observe(std::uint32_t gpu) const {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  // In the private copy only: looking changes nothing.
  Impl::settle(access);
  return observe_state(access.constants(), access.state(), access.works());
}

core::Status Node::inject(std::uint32_t gpu, const Fault& fault) {
  // The same rules as for text, so that nothing gets in that could not be written down.
  PERSEUS_ASSIGN_OR_RETURN(const Fault checked, parse_fault(fault_text(fault)));
  PERSEUS_RETURN_IF_ERROR(impl_->check(gpu));
  NodeShared& node = impl_->file.node();
  if (checked.kind == FaultKind::kReload) {
    const auto absent = static_cast<std::int64_t>(checked.value * static_cast<double>(kSecond));
    node.absent_until_ns.store(impl_->now_ns() + absent, std::memory_order_release);
    node.generation.fetch_add(1, std::memory_order_acq_rel);
    for (std::uint32_t i = 0; i < node.gpu_count; ++i) {
      PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(i));
      Impl::settle(access);
      drop_queue(access);
      access.state().processes.fill({});
      reset_driver_state(access.constants(), access.state());
      access.commit();
    }
    return {};
  }
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  Impl::settle(access);
  DeviceState& state = access.state();
  if (checked.kind == FaultKind::kCounterRestart) {
    state.counter_zero_j = state.counter_j = state.energy_j;
    ++state.counter_restarts;
  } else {
    const auto index = static_cast<std::size_t>(checked.kind);
    state.fault_bits |= 1U << index;
    state.fault_values[index] = checked.value;
    if (checked.kind == FaultKind::kThrottle && checked.value == 0) {
      state.fault_values[index] = access.constants().clocks[access.constants().clock_count - 1].mhz / 2.0;
    }
    // What was on its way does not arrive any more.
    if (checked.kind == FaultKind::kStuck) state.pending_ns = kNever;
  }
  access.commit();
  return {};
}

core::Status Node::clear_fault(std::uint32_t gpu, FaultKind kind) {
  PERSEUS_ASSIGN_OR_RETURN(DeviceAccess access, impl_->access(gpu));
  DeviceState& state = access.state();
  if (static_cast<std::size_t>(kind) >= kLastingFaults || !has_fault(state, kind)) return {};
  Impl::settle(access);
  state.fault_bits &= ~(1U << static_cast<unsigned>(kind));
  state.fault_values[static_cast<std::size_t>(kind)] = 0;
  if (kind == FaultKind::kLost) {
    drop_queue(access);
    state.processes.fill({});
    reset_driver_state(access.constants(), state);
  }
  // The clock follows the settings again.
  if (kind == FaultKind::kStuck) apply_settings(access.constants(), state);
  access.commit();
  return {};
}

core::Status Node::clear_faults(std::uint32_t gpu) {
  for (std::size_t i = 0; i < kLastingFaults; ++i) {
    PERSEUS_RETURN_IF_ERROR(clear_fault(gpu, static_cast<FaultKind>(i)));
  }
  return {};
}

}  // namespace perseus::simgpu
