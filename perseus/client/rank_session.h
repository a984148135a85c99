// SPDX-License-Identifier: Apache-2.0
//
// What lives in a training rank: tells which computation begins and ends, asks for the clocks of the plan,
// and measures. The C interface (perseus.h) is a thin shell around it.
//
//   RankSession session({}, {.sink = std::make_unique<HoldSink>(...), .link = std::move(link)});
//   session.begin_step();
//   session.begin(core::Kind::kForward, stage, microbatch); ...; session.end(core::Kind::kForward, stage,
//   microbatch); session.end_step();
//
// Three threads meet here, and none waits for another. The hooks' thread looks up, posts clocks and writes
// records into a ring. The link's thread hands in plans. The native thread does all the rest: it reads the
// ring and the telemetry, reports, guards, watches, writes the log, and frees old plans.
//
// Baseline clocks are asked for
//   - outside of steps, once a pause is longer than SessionSettings::pause;
//   - until the step ends, from a computation on that the plan does not have;
//   - until the step ends, when no hook is called for max(10 s, 3 x promised) (fault table, row 4);
//   - while nothing was heard of the server for longer than the plan's time to live;
//   - when the server refuses this rank, until it sends a plan again;
//   - when the guard trips (law 4) or the GPU does not have a clock of the plan, until the next generation.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "perseus/client/bounded_ring.h"
#include "perseus/client/clock_sink.h"
#include "perseus/client/control_link.h"
#include "perseus/client/plan_switch.h"
#include "perseus/client/session_orders.h"
#include "perseus/client/step_record.h"
#include "perseus/client/step_recorder.h"
#include "perseus/client/stream_trigger.h"
#include "perseus/client/telemetry.h"
#include "perseus/core/schedule.h"
#include "perseus/lease/clock.h"

namespace perseus::client {

/// One sentence without a newline; called on the native thread.
using SessionLog = std::function<void(bool warning, std::string_view line)>;

struct SessionSettings {
  RecorderSettings recorder;
  core::Seconds pause{0.5};        ///< between steps; longer is outside. Assumed
  core::Seconds hang_least{10.0};  ///< RELIABILITY.md 3, row 4
  double hang_factor = 3.0;        ///< times the promised iteration time; the same
  core::Seconds look{0.02};        ///< between two rounds of the native thread. Assumed
  std::size_t ring = 16'384;       ///< records (64 bytes) between two rounds
  bool native_thread = true;       ///< false: somebody calls work() (tests)
};

/// What a session is made of.
struct SessionParts {
  std::unique_ptr<ClockSink> sink;         ///< never null
  std::unique_ptr<ControlLink> link;       ///< null: no server
  std::unique_ptr<Telemetry> telemetry;    ///< null: nothing is read
  std::unique_ptr<StreamTrigger> trigger;  ///< null: clocks at the hooks, by host time
  const lease::TimeSource* time = &lease::SystemTime::instance();  ///< outlives the session
  SessionLog log;                                                  ///< empty: nothing is logged
  /// Called on the native thread when more is known of the GPU than before. Empty: nobody cares.
  std::function<void(const TelemetryGpu& gpu, bool clock_control)> on_gpu;
};

/// A picture of the session; counters since its begin.
struct SessionState {
  std::uint64_t step = 0;
  std::uint64_t generation = 0;  ///< that is run; 0: baseline clocks
  std::uint32_t clock_mhz = 0;   ///< that was asked for last; 0: baseline
  bool server_contact = false;   ///< heard of within kContact
  bool clock_connected = false;
  std::uint64_t steps = 0, operations = 0, unknown = 0, missing = 0, reordered = 0, posts = 0;
  std::uint64_t guard_trips = 0, plans_taken = 0, plans_expired = 0, hook_timeouts = 0, refused_plans = 0;
  std::uint64_t lost_records = 0;
  ControlLink::Counters link;
  core::Seconds promised, iteration_time;  ///< 0: none

  /// A server is taken for connected while its last word is no older: a poll waits 55 s for news (assumed).
  static constexpr core::Seconds kContact{90.0};
};

/// begin_step, end_step, begin and end belong to one thread at a time: no lock that slow work holds, no
/// allocation, no system call (the clock is read in user space). state() may be called by any thread. Not
/// fork-aware: abi.cc is.
class RankSession final : private ControlListener {
 public:
  RankSession(SessionSettings settings, SessionParts parts);
  RankSession(const RankSession&) = delete;
  RankSession& operator=(const RankSession&) = delete;
  /// close() with no patience, if it was not called.
  ~RankSession() override;

  /// A training step begins: the next number, or the one given.
  void begin_step() noexcept { begin_step(hooks_.next_step); }
  void begin_step(std::uint64_t step) noexcept;
  /// No effect outside of a step.
  void end_step() noexcept;
  /// A computation begins. Outside of steps, and for a kOther, only counted. Computations of a rank follow
  /// one another: one that begins while another is open ends the other's measurement.
  void begin(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) noexcept;
  /// It has ended. Without its begin: no effect.
  void end(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) noexcept;

  /// With a stream trigger: what follows is queued on another stream of the same context.
  void set_stream(void* stream) noexcept;

  [[nodiscard]] SessionState state() const;
  /// Baseline clocks; goodbye to server and agent within `patience` altogether. Idempotent.
  void close(core::Seconds patience);

  /// One round of the native thread. For tests that have none; then by one thread at a time.
  void work();

 private:
  /// Of the hooks' thread alone.
  struct alignas(kCacheLine) Hooks {
    PlanTable* table = nullptr;  ///< of this step
    std::uint32_t window = PlanTable::kNone;
    std::uint32_t tag = 0;  ///< of this step, in PlanTable::seen
    bool in_step = false;
    bool baseline = true;  ///< until the step ends
    bool clean = true;     ///< the step may be measured
    bool open = false;     ///< a computation is
    core::Kind open_kind = core::Kind::kForward;
    std::uint32_t open_stage = 0, open_microbatch = 0;
    std::uint32_t open_mhz = 0;
    std::uint32_t queued_mhz = 0;  ///< on the stream
    PlanTable::Hit open_hit;
    std::uint32_t next_slot = 0;  ///< that the order says
    std::uint32_t seen = 0, unknown = 0, missing = 0;
    std::uint64_t open_ns = 0;
    std::uint64_t step = 0, next_step = 0;
    std::uint64_t begin_ns = 0;
    std::uint64_t touched_ns = 0;  ///< ClockSink::touch()
  };
  /// Written by the hooks' thread, read by others.
  struct alignas(kCacheLine) Published {
    std::atomic<std::uint64_t> hook_ns{0};    ///< last hook
    std::atomic<std::uint64_t> step_word{0};  ///< 2 x step, + 1 inside of it
    std::atomic<std::uint64_t> generation{0};
    std::atomic<std::uint64_t> operations{0};
    std::atomic<std::uint64_t> posts{0};
    std::atomic<std::uint64_t> steps{0};
    std::atomic<std::uint64_t> unknown{0}, missing{0}, reordered{0}, lost{0};
    std::atomic<std::uint64_t> iteration_ns{0};
    /// The first unknown computation of the step, for the log: kind + 1, stage, microbatch.
    std::atomic<std::uint64_t> unknown_what{0};
    std::atomic<std::uint64_t> plan_generation{0};  ///< taken, whether it may be run or not
    std::atomic<std::uint64_t> ttl_ns{0};           ///< its time to live; 0: no plan
    std::atomic<std::uint64_t> promised_ns{0};      ///< 0: none
  };

  // ControlListener, on the link's thread.
  void on_plan(std::shared_ptr<const RankPlan> plan) override;
  void on_contact() override;
  void on_refused(const core::Error& why) override;

  // Of the hooks' thread.
  [[nodiscard]] std::uint64_t hook_now();
  void publish_plan(const PlanTable* table);
  void unknown_computation(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch);
  void note_order(std::uint32_t slot);
  [[nodiscard]] PlanTable::Hit look_up(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch);
  /// The clock as it will be where the next computation is queued; 0: the baseline.
  [[nodiscard]] std::uint32_t clock_ahead() const;
  void record(const StepRecord& record);

  // Of the native thread.
  void run();
  void start_trigger();
  void watch(std::uint64_t now);
  [[nodiscard]] bool stream_busy() const {
    return parts_.trigger && parts_.trigger->done() != parts_.trigger->queued();
  }
  void to_baseline(std::uint64_t step) const;
  void look_at_sink();
  void look_at_telemetry();
  void read_records();
  void log_events();
  void report(RankReport report);
  void log(bool warning, std::string_view line) const;
  void tell(bool warning, std::string line);

  const SessionSettings settings_;
  SessionParts parts_;
  const lease::TimeSource& time_;

  Hooks hooks_;
  Published published_;
  SessionOrders orders_;
  PlanSwitch plans_;
  SpscRing<StepRecord> ring_;

  // Of the native thread.
  StepRecorder recorder_;
  /// Plans that nobody runs, and what the trigger has to be done with before they may go.
  struct Retired {
    std::uint64_t after = 0;
    std::vector<std::unique_ptr<PlanTable>> tables;
  };
  std::vector<Retired> retired_;
  bool trigger_told_ = false;
  std::uint64_t hung_step_ = 0;  ///< + 1; the step for which the watchdog has spoken
  bool expired_ = false;         ///< the plan's time to live is over
  // Counters at the last look, and the generation for which the log has heard of it.
  std::uint64_t unknown_seen_ = 0, reordered_seen_ = 0, missing_seen_ = 0;
  std::uint64_t unknown_logged_ = 0, reorder_logged_ = 0, missing_logged_ = 0;
  bool gpu_told_ = false;
  TelemetryGpu gpu_;
  bool gpu_controlled_ = false;

  std::atomic<bool> clock_connected_{false};
  std::atomic<std::uint64_t> guard_trips_{0}, expired_count_{0}, hook_timeouts_{0}, refused_plans_{0};

  std::mutex lines_mutex_;
  std::vector<std::pair<bool, std::string>> lines_;  ///< of other threads, for the native one to log

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool closed_ = false;
  std::thread native_;
};

}  // namespace perseus::client
