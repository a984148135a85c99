// SPDX-License-Identifier: Apache-2.0
//
// What a GPU's thread does while the GPU is leased: looks at the latest request, applies it, answers. Agent
// and guardian run the same loop; where requests come from (the mailbox of perseus/wire) is behind an
// interface, and time too, so that every decision is tested without a thread.
//
//   ApplyLoop loop(lease, requests, time, ApplyPolicy{}, log);
//   for (;;) pause(loop.step());          // 0: look again at once
//
// Policy, spin then sleep. Posting must not wake anybody (a system call in the training thread), so the loop
// looks by itself: it spins for `spin` after a request, then naps; a nap is at most a `nap_share`-th of the
// time since the last request, and between `nap_least` and `nap_most`. So a request that comes t after the
// last one waits for at most max(nap_least, t / nap_share) and the timer's slack, less than 1 % of what it
// follows; while it costs a whole core for `spin` after each request, and later 1/nap_most wake-ups a second.
// Measured figures: docs/lease.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/lease/backoff.h"
#include "perseus/lease/clock.h"
#include "perseus/lease/lease.h"

namespace perseus::lease {

enum class RequestKind : std::uint8_t {
  kNone,      ///< nothing was asked yet
  kClock,     ///< lock `clock`
  kBaseline,  ///< back to the baseline
  kUnknown,   ///< something that this version does not know: refused
};

/// What is asked now. Comes from an untrusted peer: `clock` is checked against the lease's.
struct Request {
  std::uint32_t sequence = 0;  ///< tells requests apart; equal: the same request
  RequestKind kind = RequestKind::kNone;
  core::Megahertz clock;
  friend bool operator==(const Request&, const Request&) = default;
};

/// How a request ended. The values of wire::ClockAnswer have the same names and meanings.
enum class Outcome : std::uint8_t { kApplied, kRefused, kFailed, kYielded, kUncontrollable, kEnded };

struct Answer {
  std::uint32_t sequence = 0;
  Outcome outcome = Outcome::kApplied;
  std::optional<core::Megahertz> clock;  ///< what the GPU is now asked to run at; absent: baseline or unknown
  Instant called;                        ///< when the driver call began
  Instant applied;                       ///< when it returned; both the same where none was needed
};

/// Where requests come from. Both functions are called by one thread, must not block, and must not throw.
class ClockRequests {
 public:
  ClockRequests() = default;
  ClockRequests(const ClockRequests&) = delete;
  ClockRequests& operator=(const ClockRequests&) = delete;
  virtual ~ClockRequests() = default;
  /// The request as it is now; older ones are gone.
  [[nodiscard]] virtual Request latest() = 0;
  /// When the asker says that it asked, in nanoseconds of its CLOCK_MONOTONIC; for records only.
  [[nodiscard]] virtual std::uint64_t posted_ns() = 0;
  virtual void answer(const Answer& answer) = 0;
};

struct ApplyPolicy {
  Duration spin = std::chrono::milliseconds(2);        ///< after each request
  std::int64_t nap_share = 128;                        ///< a nap is at most this part of the idle time
  Duration nap_least = std::chrono::microseconds(20);  ///< shorter ones cost as much as spinning
  Duration nap_most = std::chrono::milliseconds(1);    ///< bounds the delay after a long computation
  Backoff::Limits backoff;                             ///< between tries of a restore that the driver refused
};

/// One clock change as it was carried out.
struct ClockChange {
  std::uint32_t sequence = 0;
  Outcome outcome = Outcome::kApplied;
  std::optional<core::Megahertz> clock;
  std::uint64_t posted_ns = 0;  ///< by the asker's clock
  std::uint64_t called_ns = 0;  ///< CLOCK_MONOTONIC
  std::uint64_t applied_ns = 0;
};

/// Counters and the last changes of one GPU, over all its leases. Thread-safe.
class ChangeLog {
 public:
  /// Keeps that many changes: 24 KiB (assumed: several iterations).
  static constexpr std::size_t kKept = 512;

  struct Counters {
    std::uint64_t applied = 0;  ///< driver calls that succeeded
    std::uint64_t equal = 0;    ///< requests for what was set already: no driver call
    std::uint64_t refused = 0;
    std::uint64_t failed = 0;
  };

  void add(const ClockChange& change, bool called);
  [[nodiscard]] Counters counters() const;
  /// The last changes, oldest first.
  [[nodiscard]] std::vector<ClockChange> recent() const;

 private:
  mutable std::mutex mutex_;
  Counters counters_;
  std::vector<ClockChange> ring_;
  std::size_t next_ = 0;
};

/// Belongs to one thread. All that is passed must outlive it.
class ApplyLoop {
 public:
  ApplyLoop(Lease& lease, ClockRequests& requests, const TimeSource& time, ApplyPolicy policy,
            ChangeLog& log);

  /// Looks once, and serves a new request: at most one request and one driver call (two after a failure: the
  /// baseline at once). Returns how long to pause before the next step; zero: not at all.
  ///
  /// A request that the driver refuses is answered with kFailed, and the GPU is brought to its baseline, with
  /// back-off if need be; meanwhile new requests fail at once, without a driver call. Once the baseline has
  /// been reached the next *new* request is served again.
  [[nodiscard]] Duration step();

  /// Answers whatever was asked last with `outcome` (kEnded, kYielded, kUncontrollable): the last word of
  /// this loop. To be called after the lease is over.
  void close(Outcome outcome);
  /// The driver was loaded anew: what was set is gone, so the request that stands is served once more.
  void driver_reloaded();
  /// The driver is there again: try the owed baseline at the next step.
  void retry_now() { next_try_ = Instant(); }
  /// The driver's last refusal while the baseline is owed because of it; empty otherwise.
  [[nodiscard]] const std::optional<core::Error>& trouble() const { return trouble_; }

 private:
  void serve(const Request& request);
  void finish(const Request& request, Outcome outcome, Instant called, bool was_called);
  void fall_back(core::Error error);
  void retry_baseline();
  [[nodiscard]] Duration pause() const;

  Lease& lease_;
  ClockRequests& requests_;
  const TimeSource& time_;
  ApplyPolicy policy_;
  ChangeLog& log_;
  Backoff backoff_;
  Request seen_;
  Instant last_request_;
  std::optional<core::Error> trouble_;
  Instant next_try_;
};

}  // namespace perseus::lease
