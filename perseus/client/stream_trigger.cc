// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/stream_trigger.h"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

namespace perseus::client {
namespace {

using core::ErrorCode;

/// How long the driver has for a write that nothing stands before. Assumed.
constexpr std::chrono::milliseconds kProbe{200};
/// Least size of host memory that a driver maps.
constexpr std::size_t kPage = 4096;
constexpr std::uint32_t kProbeValue = 0x5045'5253;
/// Events that are made at a time where they run short.
constexpr std::uint32_t kMoreEvents = 1024;

/// Makes a context current on this thread, as long as it lives.
class CurrentContext {
 public:
  CurrentContext(const CudaDriver& cuda, CudaContext context)
      : cuda_(cuda), result_(cuda.context_push(context)) {}
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  ~CurrentContext() {
    CudaContext popped = nullptr;
    if (result_ == kCudaSuccess) static_cast<void>(cuda_.context_pop(&popped));
  }
  [[nodiscard]] CudaResult result() const { return result_; }

 private:
  const CudaDriver& cuda_;
  CudaResult result_;
};

}  // namespace

StreamTrigger::StreamTrigger(std::shared_ptr<const CudaDriver> cuda, CudaStream stream,
                             TriggerSettings settings)
    : cuda_(std::move(cuda)),
      settings_(settings),
      stream_(stream),
      front_(std::make_unique<Item>()),
      events_(settings.most_events),
      free_events_(settings.most_events),
      items_(settings.queue) {}

core::Error StreamTrigger::driver_error(const char* what, CudaResult result) const {
  return {ErrorCode::kDriver, fmt::format("the CUDA driver refuses {}: {}", what, cuda_->name_of(result))};
}

core::Result<std::unique_ptr<StreamTrigger>> StreamTrigger::open(std::shared_ptr<const CudaDriver> cuda,
                                                                 CudaStream stream, StreamMode mode,
                                                                 TriggerSettings settings) {
  std::unique_ptr<StreamTrigger> out(new StreamTrigger(std::move(cuda), stream, settings));
  PERSEUS_RETURN_IF_ERROR(out->prepare(mode));
  return out;
}

core::Status StreamTrigger::prepare(StreamMode mode) {
  if (const auto result = cuda_->stream_get_context(stream_, &context_); result != kCudaSuccess) {
    return std::unexpected(driver_error("the stream", result));
  }
  const CurrentContext current(*cuda_, context_);
  if (current.result() != kCudaSuccess) return std::unexpected(driver_error("the context", current.result()));
  mode_ = StreamMode::kEventPoll;
  if (mode != StreamMode::kEventPoll) {
    PERSEUS_RETURN_IF_ERROR(map_word());
    if (write_works()) mode_ = StreamMode::kWrite;
  }
  if (mode == StreamMode::kWrite && mode_ != StreamMode::kWrite) {
    return core::fail(ErrorCode::kUnsupported,
                      "this driver and device have no stream-ordered writes; event_poll works everywhere");
  }
  const std::uint32_t made = make_events(std::min(settings_.events, settings_.most_events));
  if (made == 0) return core::fail(ErrorCode::kDriver, "the CUDA driver makes no events");
  return {};
}

core::Status StreamTrigger::map_word() {
  if (const auto result = cuda_->host_alloc(&memory_, kPage, kCudaHostDeviceMap); result != kCudaSuccess) {
    memory_ = nullptr;
    return std::unexpected(driver_error("mapped host memory", result));
  }
  word_ = new (memory_) std::atomic<std::uint32_t>(0);
  if (const auto result = cuda_->host_get_device_pointer(&word_address_, memory_, 0);
      result != kCudaSuccess) {
    return std::unexpected(driver_error("the address of mapped host memory", result));
  }
  return {};
}

bool StreamTrigger::write_works() {
  if (cuda_->stream_write_value == nullptr) return false;
  if (!cuda_->stream_write_version_2) {
    CudaDevice device = 0;
    int can = 0;
    if (cuda_->context_get_device(&device) != kCudaSuccess) return false;
    if (cuda_->device_get_attribute(&can, kCudaStreamMemOps, device) != kCudaSuccess || can == 0)
      return false;
  }
  // Tried on a stream of its own, since what a driver says and what it does are two things.
  CudaStream probe = nullptr;
  if (cuda_->stream_create(&probe, kCudaStreamNonBlocking) != kCudaSuccess) return false;
  bool works =
      cuda_->stream_write_value(probe, word_address_, kProbeValue, kCudaWriteDefault) == kCudaSuccess;
  const auto end = std::chrono::steady_clock::now() + kProbe;
  while (works && cuda_->stream_query(probe) == kCudaNotReady && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  works = works && word_->load(std::memory_order_acquire) == kProbeValue;
  static_cast<void>(cuda_->stream_destroy(probe));
  word_->store(0, std::memory_order_release);
  return works;
}

StreamTrigger::~StreamTrigger() {
  stop();
  const CurrentContext current(*cuda_, context_);
  if (current.result() != kCudaSuccess) return;  // the context is gone, and all that was in it
  for (std::uint32_t i = 0; i < made_; ++i) static_cast<void>(cuda_->event_destroy(events_[i].load()));
  if (memory_ != nullptr) static_cast<void>(cuda_->host_free(memory_));
}

void StreamTrigger::start(TriggerOutput output) {
  output_ = std::move(output);
  if (settings_.thread) thread_ = std::thread([this] { run(); });
}

void StreamTrigger::stop() {
  stopping_.store(true);
  if (thread_.joinable()) thread_.join();
}

std::string StreamTrigger::trouble() const {
  if (!broken()) return {};
  return fmt::format("stream-ordered clocks have ended, baseline clocks: {}",
                     driver_error("a signal", broken_.load()).text());
}

// --- the hooks' thread

void StreamTrigger::give_up(CudaResult result) {
  broken_.store(result, std::memory_order_relaxed);
}

std::uint32_t StreamTrigger::record_event() {
  if (broken()) return kNoEvent;
  const auto index = free_events_.pop();
  if (!index) {
    hungry_.store(true, std::memory_order_relaxed);
    complete_ = false;
    return kNoEvent;
  }
  const CudaResult result = cuda_->event_record(events_[*index].load(std::memory_order_relaxed), stream_);
  if (result == kCudaSuccess) return *index;
  give_up(result);  // the event is lost; so is the trigger
  complete_ = false;
  return kNoEvent;
}

std::uint32_t StreamTrigger::write_signal() {
  if (broken() || mode_ != StreamMode::kWrite) return 0;
  std::uint32_t value = last_signal_ + 1;
  if (value == 0) value = 1;
  const CudaResult result = cuda_->stream_write_value(stream_, word_address_, value, kCudaWriteDefault);
  if (result != kCudaSuccess) {
    give_up(result);
    return 0;
  }
  return last_signal_ = value;
}

void StreamTrigger::queue(const Item& item) {
  if (items_.push(item)) {
    queued_.store(queued_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  } else {
    complete_ = false;
  }
}

void StreamTrigger::begin_step(const StepRecord& record) {
  complete_ = true;
  begin_event_ = kNoEvent;
  Item item;
  item.type = Item::Type::kStepBegin;
  item.record = record;
  item.begin_event = record_event();
  item.signal = write_signal();
  queue(item);
}

void StreamTrigger::begin_operation(const ClockPost* post) {
  drop_operation();
  begin_event_ = record_event();
  if (post == nullptr) return;
  Item item;
  item.post = *post;
  item.begin_event = begin_event_;
  item.signal = write_signal();
  const bool can_be_seen = mode_ == StreamMode::kWrite ? item.signal != 0 : begin_event_ != kNoEvent;
  if (can_be_seen) queue(item);
}

void StreamTrigger::end_operation(const StepRecord& record) {
  Item item;
  item.type = Item::Type::kOperation;
  item.record = record;
  item.begin_event = std::exchange(begin_event_, kNoEvent);
  item.end_event = record_event();
  queue(item);
}

void StreamTrigger::drop_operation() {
  if (begin_event_ == kNoEvent) return;
  Item item;
  item.type = Item::Type::kDropped;
  item.begin_event = std::exchange(begin_event_, kNoEvent);
  queue(item);
}

void StreamTrigger::end_step(const StepRecord& record) {
  drop_operation();
  Item item;
  item.type = Item::Type::kStepEnd;
  item.record = record;
  item.end_event = record_event();
  item.signal = write_signal();
  item.record.clean = record.clean && complete_;
  queue(item);
}

// --- the trigger's thread

std::uint32_t StreamTrigger::make_events(std::uint32_t count) {
  std::uint32_t made = 0;
  while (made < count && made_ < settings_.most_events) {
    CudaEvent event = nullptr;
    if (cuda_->event_create(&event, kCudaEventDefault) != kCudaSuccess) break;
    events_[made_].store(event, std::memory_order_relaxed);
    free_events_.push(made_++);  // released by the ring
    ++made;
  }
  return made;
}

void StreamTrigger::release(std::uint32_t event) {
  if (event != kNoEvent) free_events_.push(event);
}

bool StreamTrigger::reached(const Item& item) {
  // Looked at when its step is over.
  if (item.type == Item::Type::kOperation || item.type == Item::Type::kDropped) return true;
  if (mode_ == StreamMode::kWrite && item.signal != 0) {
    // Signals are counted round the 32 bits.
    return static_cast<std::int32_t>(word_->load(std::memory_order_acquire) - item.signal) >= 0;
  }
  const std::uint32_t event = item.type == Item::Type::kStepEnd ? item.end_event : item.begin_event;
  if (event == kNoEvent) return true;
  const CudaResult result = cuda_->event_query(events_[event].load(std::memory_order_relaxed));
  if (result == kCudaNotReady) return false;
  if (result != kCudaSuccess) give_up(result);
  return true;
}

std::uint64_t StreamTrigger::time_of(std::uint32_t event) {
  float ms = 0;
  const CudaResult result =
      step_.begin_event == kNoEvent || event == kNoEvent
          ? kCudaNotReady
          : cuda_->event_elapsed_ms(&ms, events_[step_.begin_event].load(std::memory_order_relaxed),
                                    events_[event].load(std::memory_order_relaxed));
  event_failed_ = event_failed_ || result != kCudaSuccess;
  return step_host_ns_ + static_cast<std::uint64_t>(std::max(0.0, static_cast<double>(ms)) * 1e6);
}

void StreamTrigger::resolve_step(const Item& end) {
  event_failed_ = false;
  for (Item& item : operations_) {
    item.record.begin_ns = time_of(item.begin_event);
    item.record.end_ns = std::max(item.record.begin_ns, time_of(item.end_event));
    release(item.begin_event);
    release(item.end_event);
    output_.record(item.record);
  }
  operations_.clear();
  StepRecord record = end.record;
  record.end_ns = time_of(end.end_event);
  record.clean = record.clean && !event_failed_;
  output_.record(record);
  release(step_.begin_event);
  release(end.end_event);
  step_.begin_event = kNoEvent;
}

bool StreamTrigger::take_one() {
  if (!waiting_) {
    const auto item = items_.pop();
    if (!item) return false;
    *front_ = *item;
    waiting_ = true;
  }
  Item& item = *front_;
  if (!broken() && !reached(item)) return false;
  const std::uint64_t now = lease::to_ns(settings_.time->now());
  switch (item.type) {
    case Item::Type::kStepBegin:
      step_ = item;
      step_host_ns_ = now;
      step_.record.begin_ns = now;
      output_.record(step_.record);
      break;
    case Item::Type::kSignal:
      // The event is the computation's, which gives it back.
      if (!broken()) output_.post(item.post);
      break;
    case Item::Type::kOperation:
      operations_.push_back(item);
      break;
    case Item::Type::kDropped:
      release(item.begin_event);  // its signal has been taken before
      break;
    case Item::Type::kStepEnd:
      item.record.clean = item.record.clean && !broken();
      resolve_step(item);
      break;
  }
  waiting_ = false;
  last_done_ns_.store(now, std::memory_order_relaxed);
  done_.store(done_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  return true;
}

void StreamTrigger::poll() {
  while (take_one()) {
  }
  if (hungry_.exchange(false, std::memory_order_relaxed)) static_cast<void>(make_events(kMoreEvents));
}

void StreamTrigger::run() {
  // Timers of 50 us more than asked for would be twice what is asked for.
  static_cast<void>(::prctl(PR_SET_TIMERSLACK, 1'000UL, 0UL, 0UL, 0UL));
  const CurrentContext current(*cuda_, context_);
  if (current.result() != kCudaSuccess) give_up(current.result());
  std::uint32_t idle = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    poll();
    const bool in_flight = done_.load(std::memory_order_relaxed) != queued_.load(std::memory_order_relaxed);
    idle = in_flight ? 0 : idle + 1;
    // A pause between two steps is short: only after many idle looks the thread takes longer naps.
    constexpr std::uint32_t kIdleLooks = 5'000;
    std::this_thread::sleep_for(idle < kIdleLooks ? settings_.look : settings_.idle_look);
  }
}

}  // namespace perseus::client
