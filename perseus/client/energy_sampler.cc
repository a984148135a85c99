// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/energy_sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "perseus/gpu/counter_period.h"
#include "perseus/gpu/time_source.h"
#include "perseus/lease/clock.h"

namespace perseus::client {
namespace {

/// Between two attempts at a device that fails. Assumed.
constexpr core::Seconds kRetry{3.0};
/// Readings that nobody collects are dropped beyond this: the native thread looks every 20 ms.
constexpr std::size_t kMostNews = 16'384;
/// How long ~EnergySampler waits.
constexpr std::chrono::milliseconds kPatience{500};

std::uint64_t now_ns() {
  return lease::to_ns(lease::SystemTime::instance().now());
}

core::Result<gpu::Device*> find(const gpu::Backend& backend, const std::string& name) {
  for (gpu::Device* device : backend.devices()) {
    const gpu::Identity& identity = device->identity();
    if (identity.uuid == name || std::to_string(identity.index) == name) return device;
  }
  return core::fail(core::ErrorCode::kNotFound,
                    fmt::format("GPU {} is none of the {} that the {} driver shows", name,
                                backend.devices().size(), backend.name()));
}

}  // namespace

struct EnergySampler::State {
  explicit State(SamplerSettings s) : settings(std::move(s)) {}
  const SamplerSettings settings;
  std::atomic<bool> precise{false};

  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  bool done = false;
  TelemetryNews news;
  std::optional<TelemetryGpu> gpu;
  std::string last_trouble;

  /// False: it is time to stop.
  bool sleep(core::Seconds duration) {
    std::unique_lock lock(mutex);
    return !changed.wait_for(lock, std::chrono::duration<double>(duration.value()), [&] { return stopping; });
  }
  void tell(const std::string& trouble) {
    const std::lock_guard lock(mutex);
    if (trouble == last_trouble) return;
    last_trouble = trouble;
    news.trouble = trouble;
  }
  bool stopped() {
    const std::lock_guard lock(mutex);
    return stopping;
  }
};

namespace {

/// A steady clock whose sleeps end with the sampler; then it leaps ahead, so that time limits end too.
template <class State>
class StoppableTime final : public gpu::TimeSource {
 public:
  explicit StoppableTime(State& state) : state_(state) {}
  core::Seconds now() override {
    return gpu::steady_time().now() + core::Seconds(state_.stopped() ? 1e9 : 0.0);
  }
  void sleep(core::Seconds duration) override { static_cast<void>(state_.sleep(duration)); }

 private:
  State& state_;
};

/// The period of the counter; 0 where it has none.
template <class State>
core::Seconds measured_period(State& state, gpu::Device& device) {
  const auto reading = device.energy();
  if (!reading || reading->source != gpu::EnergySource::kCounter) return core::Seconds(0);
  StoppableTime<State> time(state);
  const auto period = gpu::measure_period(device, gpu::Reading::kEnergy, time, {});
  return period ? period->median : core::Seconds(0);
}

template <class State>
core::Status open_device(State& state, std::unique_ptr<gpu::Backend>& backend, gpu::Device*& device) {
  PERSEUS_ASSIGN_OR_RETURN(backend, gpu::open_backend(state.settings.backend));
  PERSEUS_ASSIGN_OR_RETURN(device, find(*backend, state.settings.gpu));
  PERSEUS_ASSIGN_OR_RETURN(auto clocks, device->supported_clocks());
  const std::lock_guard lock(state.mutex);
  state.gpu = TelemetryGpu{device->identity().uuid, std::move(clocks), core::Seconds(0)};
  state.changed.notify_all();
  return {};
}

/// Reads until the device fails or the sampler stops.
template <class State>
core::Status read_on(State& state, gpu::Device& device, core::Seconds period) {
  const SamplerSettings& settings = state.settings;
  const bool counter = period > core::Seconds(0);
  UpdateCatcher catcher;
  std::uint64_t reason_due_ns = 0;
  for (;;) {
    const double looks =
        state.precise.load(std::memory_order_relaxed) ? settings.precise_looks : settings.coarse_looks;
    const core::Seconds look =
        counter ? std::max(settings.shortest_look, period / looks) : settings.reason_look;
    if (!state.sleep(std::min(look, settings.reason_look))) return {};
    std::optional<EnergyUpdate> update;
    if (counter) {
      const std::uint64_t begin = now_ns();
      PERSEUS_ASSIGN_OR_RETURN(const auto reading, device.energy());
      update = catcher.note(begin, now_ns(), reading);
    }
    std::optional<ReasonSample> reason;
    if (const std::uint64_t now = now_ns(); now >= reason_due_ns) {
      reason_due_ns = now + static_cast<std::uint64_t>(settings.reason_look.value() * 1e9);
      if (const auto reasons = device.clock_reasons()) reason = ReasonSample{now, reasons->throttled()};
    }
    const std::lock_guard lock(state.mutex);
    if (update && state.news.updates.size() < kMostNews) state.news.updates.push_back(*update);
    if (reason && state.news.reasons.size() < kMostNews) state.news.reasons.push_back(*reason);
  }
}

}  // namespace

EnergySampler::EnergySampler(SamplerSettings settings)
    : state_(std::make_shared<State>(std::move(settings))) {
  std::thread([state = state_] { run(state); }).detach();
}

void EnergySampler::run(const std::shared_ptr<State>& state) {
  std::unique_ptr<gpu::Backend> backend;
  gpu::Device* device = nullptr;
  do {
    core::Status status = device == nullptr ? open_device(*state, backend, device) : backend->reopen();
    if (status) {
      const core::Seconds period = measured_period(*state, *device);
      {
        const std::lock_guard lock(state->mutex);
        if (state->gpu) state->gpu->counter_period = period;
      }
      if (state->stopped()) break;
      status = read_on(*state, *device, period);
    }
    if (!status) state->tell(fmt::format("the GPU cannot be read: {}", status.error().text()));
  } while (state->sleep(kRetry));
  backend.reset();
  const std::lock_guard lock(state->mutex);
  state->done = true;
  state->changed.notify_all();
}

EnergySampler::~EnergySampler() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, kPatience, [this] { return state_->done; });
}

void EnergySampler::collect(TelemetryNews& news) {
  const std::lock_guard lock(state_->mutex);
  TelemetryNews& mine = state_->news;
  news.updates.insert(news.updates.end(), mine.updates.begin(), mine.updates.end());
  news.reasons.insert(news.reasons.end(), mine.reasons.begin(), mine.reasons.end());
  if (!mine.trouble.empty()) news.trouble = std::move(mine.trouble);
  mine = {};
}

std::optional<TelemetryGpu> EnergySampler::gpu() const {
  const std::lock_guard lock(state_->mutex);
  return state_->gpu;
}

void EnergySampler::set_precise(bool precise) {
  state_->precise.store(precise, std::memory_order_relaxed);
}

bool EnergySampler::wait_until_open(core::Seconds patience) {
  std::unique_lock lock(state_->mutex);
  const auto open = [this] { return state_->gpu.has_value(); };
  return state_->changed.wait_for(lock, std::chrono::duration<double>(patience.value()), open);
}

}  // namespace perseus::client
