// SPDX-License-Identifier: Apache-2.0
//
// Clocks at the moment at which a CUDA stream gets to a computation, not at which the host queues it: hosts
// run ahead of their GPU by whole steps.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto trigger, StreamTrigger::open(cuda, stream, StreamMode::kBest, {}));
//   trigger->start(deliver);                     // its thread
//   trigger->begin_step(record); trigger->begin_operation(&post); ...queue work...;
//   trigger->end_operation(record); trigger->end_step(record);
//
// Signals: a 32-bit write into host memory that the thread polls (stream_write), or an event that it asks the
// driver about (event_poll). Times of computations: an event before and one after each, read when the step is
// over, so that the thread calls the driver as seldom as it can. What a hook costs is the driver's enqueue:
// two events and a write for each computation.
//
// The stream gets through its work in order, so signals are taken in order. Nothing here waits for a stream.
// Not inside of a captured graph: the driver answers errors there, and the trigger stops (broken()).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "perseus/client/bounded_ring.h"
#include "perseus/client/clock_sink.h"
#include "perseus/client/cuda_driver.h"
#include "perseus/client/step_record.h"
#include "perseus/core/result.h"
#include "perseus/lease/clock.h"

namespace perseus::client {

enum class StreamMode : std::uint8_t { kWrite, kEventPoll, kBest };

struct TriggerSettings {
  std::uint32_t events = 4096;         ///< at first: two for each computation in flight, two for each step
  std::uint32_t most_events = 65'536;  ///< the thread makes more where they run short; assumed
  std::uint32_t queue = 16'384;        ///< signals and computations in flight
  std::chrono::microseconds look{20};  ///< between two looks while something is in flight; assumed
  std::chrono::microseconds idle_look{1'000};  ///< while nothing is; assumed
  bool thread = true;                          ///< false: somebody calls poll() (tests)
  const lease::TimeSource* time = &lease::SystemTime::instance();
};

/// What comes out at the other end, on the trigger's thread.
struct TriggerOutput {
  std::function<void(const ClockPost&)> post;     ///< the stream is there
  std::function<void(const StepRecord&)> record;  ///< with the times at which the GPU worked
};

/// begin_step() to set_stream() belong to the hooks' thread: no wait, no allocation; each calls the driver.
/// The other functions may be called by any thread.
class StreamTrigger {
 public:
  /// kUnsupported: kWrite, and the driver or device does not do it; kDriver: the driver refuses the context,
  /// memory or events, with its words.
  [[nodiscard]] static core::Result<std::unique_ptr<StreamTrigger>> open(
      std::shared_ptr<const CudaDriver> cuda, CudaStream stream, StreamMode mode, TriggerSettings settings);
  StreamTrigger(const StreamTrigger&) = delete;
  StreamTrigger& operator=(const StreamTrigger&) = delete;
  ~StreamTrigger();

  /// Begins to deliver. Once.
  void start(TriggerOutput output);
  /// Delivers nothing more. Idempotent.
  void stop();
  /// One look. For tests without a thread.
  void poll();

  void begin_step(const StepRecord& record);
  /// `post` null: the clock stays.
  void begin_operation(const ClockPost* post);
  /// `record` as of a host trigger; its times are replaced.
  void end_operation(const StepRecord& record);
  /// The open computation is not measured.
  void drop_operation();
  void end_step(const StepRecord& record);
  void set_stream(CudaStream stream) { stream_ = stream; }

  /// kWrite or kEventPoll.
  [[nodiscard]] StreamMode mode() const { return mode_; }
  /// The driver refused something: no more signals.
  [[nodiscard]] bool broken() const { return broken_.load(std::memory_order_relaxed) != kCudaSuccess; }
  [[nodiscard]] std::string trouble() const;
  /// Items that hooks have queued, and of them those that are over.
  [[nodiscard]] std::uint64_t queued() const { return queued_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t done() const { return done_.load(std::memory_order_acquire); }
  /// When the stream was last seen to have got through something.
  [[nodiscard]] std::uint64_t last_done_ns() const { return last_done_ns_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kNoEvent = 0xffff'ffff;
  struct Item {
    enum class Type : std::uint8_t { kStepBegin, kSignal, kOperation, kDropped, kStepEnd };
    Type type = Type::kSignal;
    std::uint32_t signal = 0;  ///< kWrite: reached when the word is at least this; 0: nothing to wait for
    std::uint32_t begin_event = kNoEvent;
    std::uint32_t end_event = kNoEvent;
    StepRecord record;
    ClockPost post;
  };

  StreamTrigger(std::shared_ptr<const CudaDriver> cuda, CudaStream stream, TriggerSettings settings);
  core::Status prepare(StreamMode mode);
  core::Status map_word();
  [[nodiscard]] bool write_works();
  [[nodiscard]] core::Error driver_error(const char* what, CudaResult result) const;

  // Of the hooks' thread.
  [[nodiscard]] std::uint32_t record_event();
  [[nodiscard]] std::uint32_t write_signal();
  void queue(const Item& item);
  void give_up(CudaResult result);

  // Of the trigger's thread.
  void run();
  bool take_one();
  [[nodiscard]] bool reached(const Item& item);
  void resolve_step(const Item& end);
  [[nodiscard]] std::uint64_t time_of(std::uint32_t event);
  void release(std::uint32_t event);
  std::uint32_t make_events(std::uint32_t count);

  std::shared_ptr<const CudaDriver> cuda_;
  TriggerSettings settings_;
  CudaContext context_ = nullptr;
  StreamMode mode_ = StreamMode::kEventPoll;
  void* memory_ = nullptr;                      ///< host memory that the device can write
  std::atomic<std::uint32_t>* word_ = nullptr;  ///< in there
  CudaAddress word_address_ = 0;

  // Of the hooks' thread.
  CudaStream stream_;
  std::uint32_t last_signal_ = 0;
  std::uint32_t begin_event_ = kNoEvent;  ///< of the computation that is open
  bool complete_ = true;                  ///< everything of this step has its events

  // Of the trigger's thread.
  TriggerOutput output_;
  std::unique_ptr<Item> front_;  ///< taken from the queue, not yet reached
  bool waiting_ = false;         ///< front_ holds one
  Item step_;                    ///< the step's begin
  bool in_step_ = false;
  std::uint64_t step_host_ns_ = 0;  ///< when its begin was seen
  std::vector<Item> operations_;    ///< of this step
  std::uint32_t made_ = 0;          ///< events
  bool event_failed_ = false;

  std::vector<std::atomic<CudaEvent>> events_;  ///< by index; made before the index goes to the hooks
  SpscRing<std::uint32_t> free_events_;         ///< thread to hooks
  SpscRing<Item> items_;                        ///< hooks to thread
  std::atomic<std::uint64_t> queued_{0}, done_{0}, last_done_ns_{0};
  std::atomic<CudaResult> broken_{kCudaSuccess};
  std::atomic<bool> hungry_{false};  ///< the hooks found no free event
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace perseus::client
