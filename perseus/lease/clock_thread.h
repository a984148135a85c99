// SPDX-License-Identifier: Apache-2.0
//
// The one thread that talks to one GPU's driver about its clock: takes leases, applies requests, restores,
// and goes on trying where the driver refuses. A driver call that hangs holds up this thread and nobody else.
//
//   ClockThread gpu(*device, directory, SystemTime::instance(), {.on_event = ...});
//   gpu.owe(site_baseline, "journal of an agent that was killed");      // at start: restores, with back-off
//   auto answer = gpu.acquire(terms, mailbox_requests, [](core::Status s) { ... });   // or kBusy at once
//   gpu.end(Outcome::kEnded, "expired", [](core::Status s) { ... });
//
// Nothing here waits for the driver but the thread itself and the destructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/apply_loop.h"
#include "perseus/lease/clock.h"
#include "perseus/lease/lease.h"
#include "perseus/lease/state_directory.h"

namespace perseus::lease {

/// What happened on a GPU's thread without being asked, for the audit log and for whoever re-opens drivers.
struct ClockEvent {
  enum class Kind : std::uint8_t {
    kDriverFailed,  ///< a driver call failed for the first time in a row: `error`. The thread goes on trying
                    ///< to reach the baseline; re-open the backend, then retry_now()
    kBaselineBack,  ///< the baseline that was owed has been reached
  };
  Kind kind = Kind::kDriverFailed;
  std::string gpu;
  std::optional<core::Error> error;
};

struct ClockThreadOptions {
  ApplyPolicy policy;
  /// Called on the GPU's thread; must return soon, must not call this ClockThread, must not throw.
  std::function<void(const ClockEvent&)> on_event;
  /// Called when a lease is acquired, right after the journal's record is on disk and before any driver call.
  /// For tests of crashes only.
  std::function<void()> after_journal;
};

/// Answers a command; called once, on the GPU's thread; must return soon and must not throw. It may call the
/// ClockThread's commands.
using Done = std::function<void(core::Status)>;

/// A picture of the thread at one moment.
struct ClockThreadState {
  bool leased = false;
  format::LeaseOwner owner;                 ///< while leased
  std::optional<core::Megahertz> intended;  ///< what the GPU is held at; absent: baseline
  bool owing = false;                       ///< a baseline is still to be reached: the driver refused
  std::string trouble;                      ///< the driver's last words while owing
  std::optional<Instant> call_since;        ///< since when a driver call (or the disk) has been at work
  ChangeLog::Counters counters;
};

/// All functions are thread-safe. Commands are carried out in order.
class ClockThread {
 public:
  /// Starts the thread. Device, directory and time must outlive it. Throws nothing; std::thread's failure
  /// ends up in the first command (kLimit).
  ClockThread(gpu::Device& device, const StateDirectory& directory, const TimeSource& time,
              ClockThreadOptions options);
  ClockThread(const ClockThread&) = delete;
  ClockThread& operator=(const ClockThread&) = delete;
  /// Ends the lease, tries once to restore what is owed, and joins: waits as long as the driver does.
  ~ClockThread();

  /// Takes the GPU. kBusy at once, naming the owner, if it is leased or being leased (`done` is not called
  /// then). Otherwise `done` gets Lease::acquire's result, or kDriver while an earlier baseline is owed. From
  /// success until end() `requests` is served.
  [[nodiscard]] core::Status acquire(LeaseTerms terms, std::shared_ptr<ClockRequests> requests, Done done);
  /// Ends the lease: restores (or, with Outcome::kYielded, leaves the clock alone), removes the record,
  /// answers the last request with `outcome`. `done` gets the result of the first try; after an error the
  /// thread goes on by itself (owing) and the GPU cannot be leased until it is back. Without a lease:
  /// success.
  void end(Outcome outcome, Done done);
  /// A restore that an earlier run owes (recover.h, plan_recovery): tried until it succeeds, then the record
  /// is removed. `done` gets the result of the first try.
  void owe(std::optional<core::Megahertz> baseline, Done done);
  /// The driver is there again: try now what is owed.
  void retry_now();
  /// The driver was loaded anew and has forgotten all clocks: what was set is set anew by the next request,
  /// and the baseline is applied if the site has one.
  void driver_reloaded();

  [[nodiscard]] ClockThreadState state() const;
  /// The last clock changes, oldest first.
  [[nodiscard]] std::vector<ClockChange> recent_changes() const { return log_.recent(); }
  [[nodiscard]] const gpu::Identity& gpu() const { return device_.identity(); }

 private:
  struct Command;
  struct Held;

  void run();
  void work_off(Command& command);
  void do_acquire(Command& command);
  void do_end(Command& command);
  void do_owe(Command& command);
  void push(Command command);
  void take_commands();
  [[nodiscard]] std::optional<Duration> step();
  void wait(std::optional<Duration> pause) const;
  void give_up_lease();
  core::Status try_owed();
  void publish();
  void note_trouble(const core::Error* error);

  gpu::Device& device_;
  const StateDirectory& directory_;
  const TimeSource& time_;
  ClockThreadOptions options_;
  ChangeLog log_;
  format::UniqueFd wake_;  ///< an eventfd: a command has come

  std::atomic<bool> pending_{false};            ///< commands_ is not empty
  std::atomic<Instant::rep> at_work_since_{0};  ///< 0: not

  mutable std::mutex mutex_;  ///< guards the next three
  std::vector<Command> commands_;
  std::optional<format::LeaseOwner> taken_by_;  ///< from acquire() to the end of the lease
  ClockThreadState published_;

  // Of the thread only.
  std::unique_ptr<Held> held_;
  struct Owed {
    std::optional<Lease> lease;               ///< that ended; absent: an earlier run's
    std::optional<core::Megahertz> baseline;  ///< of an earlier run's
    Instant next_try;
  };
  std::optional<Owed> owed_;
  Backoff owed_backoff_;
  bool in_trouble_ = false;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace perseus::lease
