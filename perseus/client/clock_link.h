// SPDX-License-Identifier: Apache-2.0
//
// How a program holds GPU clocks: a connection to whoever may set them, kept alive by a thread of its own.
// The other end is the node's agent (agent_link.h) or, in direct mode, a guardian process (guard_link.h);
// they speak the same protocol (wire/agent_messages.h).
//
//   PERSEUS_ASSIGN_OR_RETURN(auto link, ClockLink::open(std::make_unique<AgentEndpoint>(path), {.client =
//   "x"},
//                                                       deadline_in(1s)));
//   PERSEUS_ASSIGN_OR_RETURN(ClockHold* clock, link->acquire("0", "gpt3", deadline_in(1s)));
//   clock->want(Megahertz{900});                        // any number of times: no wait, no system call
//   link->release(*clock, deadline_in(1s));             // back at the baseline
//
// Fails open. Nothing here raises a signal or throws, every wait has a deadline, memory is bounded. When the
// other end goes (agent restarted, guardian killed) the thread dials again with back-off, takes the leases
// again and posts what was wanted last; until then wants are kept and nothing happens. The same when the
// other end takes a lease back, unless it says that another writer sets that GPU's clock or that the GPU does
// not obey.
//
// fork(): in the child the connection is closed by pthread_atfork, every function of the link does nothing,
// and its destructor leaks what it has (its thread is not there to be joined). So a child does not keep a
// lease alive; and were it made without that handler (clone), the other end would still watch the pidfd of
// the process that said hello. exec() closes the connection.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/unique_fd.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/mailbox.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::client {

/// Where the other end is. Called by one thread at a time.
class Endpoint {
 public:
  Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;
  virtual ~Endpoint() = default;
  /// A fresh connection, close-on-exec and non-blocking. Its errors are those of the implementation.
  [[nodiscard]] virtual core::Result<format::UniqueFd> dial(wire::Deadline deadline) = 0;
  /// For messages: "the agent at /run/perseus/agent.sock".
  [[nodiscard]] virtual std::string name() const = 0;
};

/// What became of the last want.
enum class HoldState : std::uint8_t {
  kWaiting,   ///< nothing was wanted yet, or the answer is still to come
  kApplied,   ///< the GPU is held at what is wanted
  kRefused,   ///< not one of clocks()
  kFailed,    ///< the driver refuses; the GPU is at, or on its way to, its baseline
  kYielded,   ///< somebody else sets this GPU's clock: ended_reason(). It is not asked for again
  kNoEffect,  ///< the driver says yes, but the clock does not follow: ended_reason(). As before
  kEnded,     ///< the lease is over: released, or refused when it was asked for again: ended_reason()
  kLost,      ///< there is no lease at this moment (no connection; it ran out while this process was stopped;
          ///< the agent lets go of its GPUs): the GPU is at its baseline, and the lease is asked for again
};

/// One GPU's clock, held. Made by ClockLink, which owns it and must outlive its users. All functions may be
/// called by any thread; of wants at the same time one is the latest, and that one counts.
class ClockHold {
 public:
  ClockHold(const ClockHold&) = delete;
  ClockHold& operator=(const ClockHold&) = delete;
  ~ClockHold();

  /// Asks for a clock. Never waits; a few stores and one read of the time. Wrong clocks are answered with
  /// kRefused.
  void want(core::Megahertz clock);
  void want_baseline();
  /// Tells the other end that the training loop lives (fault table, row 4).
  void touch_hook();

  [[nodiscard]] HoldState state() const;
  /// One sentence once the lease is over.
  [[nodiscard]] std::string ended_reason() const;
  /// Of the grant as it was first given.
  [[nodiscard]] const std::string& gpu() const { return gpu_; }
  [[nodiscard]] const std::vector<core::Megahertz>& clocks() const { return clocks_; }
  [[nodiscard]] std::optional<core::Megahertz> baseline() const { return baseline_; }
  /// How often the lease was taken anew after the connection was lost.
  [[nodiscard]] std::uint32_t reacquired() const { return reacquired_.load(); }

 private:
  friend class ClockLink;
  ClockHold(std::string job, wire::Acquired granted, wire::MailboxUser mailbox);
  void put(std::uint32_t mhz);
  [[nodiscard]] bool try_lock() const { return !locked_.exchange(true); }
  void lock() const;
  void unlock() const { locked_.store(false); }
  void flush() const;
  void post_again();
  void take(std::unique_ptr<wire::MailboxUser> mailbox);
  void end(std::string reason);
  [[nodiscard]] bool in_child() const;

  std::string job_;
  std::string gpu_;
  std::vector<core::Megahertz> clocks_;
  std::optional<core::Megahertz> baseline_;
  std::uint32_t generation_;  ///< of the process that made it (fork_guard.h)

  /// What is wanted: a count of wants in the upper half, MHz (0: the baseline) in the lower; 0: nothing yet.
  std::atomic<std::uint64_t> wanted_{0};
  /// A lock of a few instructions around the mailbox, which the link's thread replaces after a reconnection.
  /// want() never waits for it: whoever lets go of it looks for newer wants (flush()).
  mutable std::atomic<bool> locked_{false};
  std::unique_ptr<wire::MailboxUser> mailbox_;
  mutable std::atomic<std::uint64_t> posted_{0};    ///< the value of wanted_ that was posted last
  mutable std::atomic<std::uint32_t> sequence_{0};  ///< of that post
  std::atomic<std::uint32_t> reacquired_{0};
  std::atomic<bool> ended_{false};
  mutable std::mutex reason_mutex_;
  std::string ended_reason_;
};

struct ClockLinkOptions {
  std::string client = "perseus";  ///< what the program calls itself; printable, at most wire::kMaxAgentName
  std::chrono::milliseconds time_to_live =
      wire::kDefaultTimeToLive;  ///< of each lease; renewed at a third of it
  std::chrono::milliseconds reply_limit{
      5'000};             ///< of the thread's own dialling: a guardian loads the driver first (assumed)
  bool reconnect = true;  ///< dial again when the other end goes
};

/// All functions are thread-safe and wait for at most their deadline.
class ClockLink {
 public:
  /// Dials, says hello, and starts the thread. Errors: the endpoint's, the other end's
  /// refusal as it is, kUnsupported (another protocol), kTimeout, kIo, kInvalidInput (it talks nonsense).
  [[nodiscard]] static core::Result<std::unique_ptr<ClockLink>> open(std::unique_ptr<Endpoint> endpoint,
                                                                     ClockLinkOptions options,
                                                                     wire::Deadline deadline);
  ClockLink(const ClockLink&) = delete;
  ClockLink& operator=(const ClockLink&) = delete;
  /// Waits for the thread: at most reply_limit, if it is dialling. Releases nothing by itself: closing the
  /// connection ends all leases, and the other end restores.
  ~ClockLink();

  /// The GPUs as the other end has shown them at the last hello.
  [[nodiscard]] std::vector<wire::AgentGpu> gpus() const;
  /// "the agent at ...", version and backend.
  [[nodiscard]] std::string peer() const;

  /// Takes a GPU (UUID or index). The other end's refusal as it is (kBusy names the owner); kTimeout; kIo.
  /// The hold lives as long as the link; kLimit after kMaxHolds of them.
  [[nodiscard]] core::Result<ClockHold*> acquire(const std::string& gpu, const std::string& job,
                                                 wire::Deadline deadline);
  /// Gives it back; on success the GPU is at its baseline. An error means only that nobody said so yet: the
  /// lease is not renewed any more and ends with its time to live. Later wants do nothing.
  core::Status release(ClockHold& hold, wire::Deadline deadline);
  /// For administrators and `status`.
  [[nodiscard]] core::Result<wire::AgentReply> request(const wire::AgentRequest& request,
                                                       wire::Deadline deadline);

  /// Whether there is a connection at this moment.
  [[nodiscard]] bool connected() const;

  static constexpr std::size_t kMaxHolds = 1024;

 private:
  class Impl;
  explicit ClockLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace perseus::client
