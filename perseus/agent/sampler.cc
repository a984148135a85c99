// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/sampler.h"

#include <utility>

namespace perseus::agent {
namespace {

/// Takes the value of a reading into `out`. False if going on makes no sense: the whole GPU is away.
template <class T>
bool take(core::Result<T> value, std::optional<T>& out, Reading& reading) {
  if (value) {
    out = *std::move(value);
    return true;
  }
  const core::ErrorCode code = value.error().code();
  if (code != core::ErrorCode::kDeviceLost && code != core::ErrorCode::kDriver) return true;
  reading.error = std::move(value).error();
  return false;
}

bool take_power(gpu::Device& device, Reading& reading) {
  std::optional<gpu::PowerReading> power;
  if (!take(device.power(), power, reading)) return false;
  if (power) reading.power = power->momentary ? power->momentary : power->averaged;
  return true;
}

}  // namespace

Reading take_reading(gpu::Device& device, const lease::TimeSource& time) {
  Reading reading;
  reading.at = time.now();
  // The clock and what explains it first, close together.
  (void)(take(device.sm_clock(), reading.sm_clock, reading) &&
         take(device.clock_reasons(), reading.reasons, reading) &&
         take(device.utilization(), reading.utilization, reading) && take_power(device, reading) &&
         take(device.energy(), reading.energy, reading) &&
         take(device.temperature(), reading.temperature, reading));
  reading.driver_time = core::Seconds(std::chrono::duration<double>(time.now() - reading.at).count());
  return reading;
}

std::optional<ClockReading> judged_reading(const Reading& reading, const HeldClocks& held,
                                           std::uint64_t changes_before, lease::Duration settle) {
  if (held.changes() != changes_before) return std::nullopt;
  if (!reading.sm_clock || !reading.reasons || !reading.utilization) return std::nullopt;
  return ClockReading{reading.at, *reading.sm_clock, *reading.reasons, *reading.utilization,
                      held.range(reading.at, settle)};
}

Sampler::Sampler(gpu::Device& device, std::shared_ptr<const HeldClocks> held, const lease::TimeSource& time,
                 SamplerOptions options)
    : device_(device),
      held_(std::move(held)),
      time_(time),
      options_(std::move(options)),
      period_(options_.period),
      settle_(options_.settle),
      paused_(options_.paused),
      thread_([this] { run(); }) {}

Sampler::~Sampler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Sampler::ask_processes(Processes done) {
  {
    const std::lock_guard lock(mutex_);
    questions_.push_back(std::move(done));
  }
  changed_.notify_one();
}

void Sampler::pause() {
  const std::lock_guard lock(mutex_);
  paused_ = true;
}

void Sampler::resume() {
  {
    const std::lock_guard lock(mutex_);
    paused_ = false;
  }
  changed_.notify_one();
}

void Sampler::set_times(lease::Duration period, lease::Duration settle) {
  const std::lock_guard lock(mutex_);
  period_ = period;
  settle_ = settle;
}

void Sampler::run() {
  lease::Instant next = time_.now();
  while (true) {
    std::vector<Processes> questions;
    bool paused = false;
    {
      std::unique_lock lock(mutex_);
      // A paused sampler waits for questions, or to be resumed, only.
      const auto busy = [this] { return stopping_ || !questions_.empty(); };
      if (paused_) {
        changed_.wait(lock, [&] { return busy() || !paused_; });
      } else {
        changed_.wait_until(lock, next, busy);
      }
      if (stopping_) break;
      questions.swap(questions_);
      paused = paused_;
    }
    answer(questions, paused);
    if (paused || time_.now() < next) continue;
    read();
    const std::lock_guard lock(mutex_);
    next = time_.now() + period_;
  }
  answer(std::exchange(questions_, {}), true);
}

void Sampler::answer(const std::vector<Processes>& questions, bool paused) {
  for (const Processes& done : questions) {
    if (paused) {
      done(core::fail(core::ErrorCode::kDriver, "the agent has let go of its GPUs"));
    } else {
      done(device_.processes());
    }
  }
}

void Sampler::read() {
  lease::Duration settle{};
  {
    const std::lock_guard lock(mutex_);
    settle = settle_;
  }
  const std::uint64_t changes = held_->changes();
  const Reading reading = take_reading(device_, time_);
  if (options_.on_reading) {
    options_.on_reading(reading, judged_reading(reading, *held_, changes, settle));
  }
}

}  // namespace perseus::agent
