// SPDX-License-Identifier: Apache-2.0
#include "tests/fake_gpu/fake_device.h"

#include <thread>
#include <utility>

#include "perseus/gpu/clock_table.h"

namespace perseus::tests {
namespace {

constexpr std::array<std::string_view, kCalls> kCallNames = {"supported_clocks",
                                                             "clock_control",
                                                             "lock_clock",
                                                             "reset_clock",
                                                             "sm_clock",
                                                             "power",
                                                             "energy",
                                                             "temperature",
                                                             "clock_reasons",
                                                             "utilization",
                                                             "enforced_power_limit",
                                                             "processes",
                                                             "reopen",
                                                             "close"};

std::vector<core::Megahertz> a100_clocks() {
  std::vector<core::Megahertz> clocks;
  for (std::uint32_t mhz = 210; mhz <= 1410; mhz += 15) clocks.emplace_back(mhz);
  return clocks;
}

}  // namespace

std::string_view call_name(Call call) {
  return kCallNames.at(static_cast<std::size_t>(call));
}

std::ostream& operator<<(std::ostream& out, const Event& event) {
  out << "GPU " << event.gpu << ' ' << call_name(event.call);
  if (event.call == Call::kLockClock) out << ' ' << event.clock.value() << " MHz";
  return out << (event.ok ? "" : " (failed)");
}

FakeDriver::Trouble& FakeDriver::trouble(std::uint32_t gpu, Call call) {
  if (troubles_.size() <= gpu) troubles_.resize(gpu + 1);
  return troubles_[gpu].at(static_cast<std::size_t>(call));
}

core::Status FakeDriver::enter(std::uint32_t gpu, Call call) {
  std::unique_lock lock(mutex_);
  if (const auto delay = trouble(gpu, call).delay; delay.count() > 0) {
    lock.unlock();
    std::this_thread::sleep_for(delay);
    lock.lock();
  }
  ++trouble(gpu, call).waiting;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !trouble(gpu, call).held; });
  Trouble& due = trouble(gpu, call);
  --due.waiting;
  if (!due.error || due.times == 0) return {};
  if (due.times != kForever) --due.times;
  return std::unexpected(*due.error);
}

void FakeDriver::finish(const Event& event) {
  const std::lock_guard lock(mutex_);
  history_.push_back(event);
}

std::vector<Event> FakeDriver::history() const {
  const std::lock_guard lock(mutex_);
  return history_;
}

void FakeDriver::clear_history() {
  const std::lock_guard lock(mutex_);
  history_.clear();
}

void FakeDriver::fail(std::uint32_t gpu, Call call, core::Error error, std::uint32_t times) {
  const std::lock_guard lock(mutex_);
  trouble(gpu, call).error = std::move(error);
  trouble(gpu, call).times = times;
}

void FakeDriver::clear_failure(std::uint32_t gpu, Call call) {
  const std::lock_guard lock(mutex_);
  trouble(gpu, call).error.reset();
}

void FakeDriver::delay(std::uint32_t gpu, Call call, std::chrono::microseconds duration) {
  const std::lock_guard lock(mutex_);
  trouble(gpu, call).delay = duration;
}

void FakeDriver::hold(std::uint32_t gpu, Call call) {
  const std::lock_guard lock(mutex_);
  trouble(gpu, call).held = true;
}

void FakeDriver::release(std::uint32_t gpu, Call call) {
  const std::lock_guard lock(mutex_);
  trouble(gpu, call).held = false;
  changed_.notify_all();
}

void FakeDriver::wait_until_held(std::uint32_t gpu, Call call, std::uint32_t callers) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return trouble(gpu, call).held && trouble(gpu, call).waiting >= callers; });
}

FakeDevice::FakeDevice(std::shared_ptr<FakeDriver> driver, std::uint32_t index)
    : driver_(std::move(driver)),
      identity_{
          .index = index,
          .uuid = "GPU-fa4e0000-0000-0000-0000-0000000000" + std::string(index < 10 ? "0" : "") +
                  std::to_string(index),
          .pci_bus_id = "00000000:" + std::string(index < 10 ? "0" : "") + std::to_string(index) + ":00.0",
          .name = "Fake GPU"} {
  state_.clocks = a100_clocks();
}

template <class T, class Read>
core::Result<T> FakeDevice::read(Call call, Read&& value) {
  auto entered = driver_->enter(identity_.index, call);
  driver_->finish({identity_.index, call, {}, entered.has_value()});
  if (!entered) return std::unexpected(std::move(entered).error());
  const std::lock_guard lock(mutex_);
  return std::forward<Read>(value)(state_);
}

template <class Change>
void FakeDevice::change(Change&& apply) {
  const std::lock_guard lock(mutex_);
  std::forward<Change>(apply)(state_);
}

core::Status FakeDevice::lock_clock(core::Megahertz clock) {
  auto status = driver_->enter(identity_.index, Call::kLockClock);
  if (status) {
    const std::lock_guard lock(mutex_);
    status = gpu::check_clock(state_.clocks, clock, identity_);
    if (status) state_.locked = clock;
  }
  driver_->finish({identity_.index, Call::kLockClock, clock, status.has_value()});
  return status;
}

core::Status FakeDevice::reset_clock() {
  auto status = driver_->enter(identity_.index, Call::kResetClock);
  if (status) lock_from_outside(std::nullopt);
  driver_->finish({identity_.index, Call::kResetClock, {}, status.has_value()});
  return status;
}

core::Result<std::vector<core::Megahertz>> FakeDevice::supported_clocks() {
  return read<std::vector<core::Megahertz>>(Call::kSupportedClocks, [](const State& s) { return s.clocks; });
}
core::Result<gpu::ClockControl> FakeDevice::clock_control() {
  return read<gpu::ClockControl>(Call::kClockControl, [](const State& s) { return s.control; });
}
core::Result<core::Megahertz> FakeDevice::sm_clock() {
  return read<core::Megahertz>(Call::kSmClock, [](const State& s) {
    return s.forced ? *s.forced : s.locked ? *s.locked : s.clocks.back();
  });
}
core::Result<gpu::PowerReading> FakeDevice::power() {
  return read<gpu::PowerReading>(Call::kPower, [](const State& s) { return s.power; });
}
core::Result<gpu::EnergyReading> FakeDevice::energy() {
  return read<gpu::EnergyReading>(Call::kEnergy, [](const State& s) { return s.energy; });
}
core::Result<core::Celsius> FakeDevice::temperature() {
  return read<core::Celsius>(Call::kTemperature, [](const State& s) { return s.temperature; });
}
core::Result<gpu::ClockReasons> FakeDevice::clock_reasons() {
  return read<gpu::ClockReasons>(Call::kClockReasons, [](const State& s) { return s.reasons; });
}
core::Result<double> FakeDevice::utilization() {
  return read<double>(Call::kUtilization, [](const State& s) { return s.utilization; });
}
core::Result<core::Watts> FakeDevice::enforced_power_limit() {
  return read<core::Watts>(Call::kEnforcedPowerLimit, [](const State& s) { return s.limit; });
}
core::Result<std::vector<pid_t>> FakeDevice::processes() {
  return read<std::vector<pid_t>>(Call::kProcesses, [](const State& s) { return s.processes; });
}

std::optional<core::Megahertz> FakeDevice::locked() const {
  const std::lock_guard lock(mutex_);
  return state_.locked;
}
void FakeDevice::lock_from_outside(std::optional<core::Megahertz> clock) {
  change([&](State& s) { s.locked = clock; });
}
void FakeDevice::fail(Call call, core::Error error, std::uint32_t times) {
  driver_->fail(identity_.index, call, std::move(error), times);
}
void FakeDevice::clear_failure(Call call) {
  driver_->clear_failure(identity_.index, call);
}
void FakeDevice::delay(Call call, std::chrono::microseconds duration) {
  driver_->delay(identity_.index, call, duration);
}
void FakeDevice::hold(Call call) {
  driver_->hold(identity_.index, call);
}
void FakeDevice::release(Call call) {
  driver_->release(identity_.index, call);
}
void FakeDevice::wait_until_held(Call call, std::uint32_t callers) {
  driver_->wait_until_held(identity_.index, call, callers);
}
void FakeDevice::set_sm_clock(std::optional<core::Megahertz> clock) {
  change([&](State& s) { s.forced = clock; });
}
void FakeDevice::set_supported_clocks(std::vector<core::Megahertz> clocks) {
  change([&](State& s) { s.clocks = gpu::tidy_clocks(std::move(clocks)); });
}
void FakeDevice::set_clock_control(gpu::ClockControl control) {
  change([&](State& s) { s.control = std::move(control); });
}
void FakeDevice::set_power(gpu::PowerReading power) {
  change([&](State& s) { s.power = power; });
}
void FakeDevice::set_energy(gpu::EnergyReading energy) {
  change([&](State& s) { s.energy = energy; });
}
void FakeDevice::set_temperature(core::Celsius temperature) {
  change([&](State& s) { s.temperature = temperature; });
}
void FakeDevice::set_clock_reasons(gpu::ClockReasons reasons) {
  change([&](State& s) { s.reasons = reasons; });
}
void FakeDevice::set_utilization(double utilization) {
  change([&](State& s) { s.utilization = utilization; });
}
void FakeDevice::set_power_limit(core::Watts limit) {
  change([&](State& s) { s.limit = limit; });
}
void FakeDevice::set_processes(std::vector<pid_t> processes) {
  change([&](State& s) { s.processes = std::move(processes); });
}

FakeBackend::FakeBackend(std::uint32_t gpus) {
  for (std::uint32_t i = 0; i < gpus; ++i) {
    fakes_.push_back(std::make_unique<FakeDevice>(driver_, i));
    devices_.push_back(fakes_.back().get());
  }
}

void FakeBackend::fail_reopen(core::Error error, std::uint32_t times) {
  driver_->fail(0, Call::kReopen, std::move(error), times);
}

core::Status FakeBackend::reopen() {
  auto status = driver_->enter(0, Call::kReopen);
  driver_->finish({0, Call::kReopen, {}, status.has_value()});
  return status;
}

void FakeBackend::close() {
  const auto status = driver_->enter(0, Call::kClose);
  driver_->finish({0, Call::kClose, {}, status.has_value()});
}

}  // namespace perseus::tests
