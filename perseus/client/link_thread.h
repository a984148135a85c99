// SPDX-License-Identifier: Apache-2.0
//
// The thread behind a ClockLink: the only one that touches the socket. Others put requests into its queue and
// wait for their answers with a deadline of their own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "perseus/client/clock_link.h"
#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/backoff.h"
#include "perseus/lease/process_handle.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::client {

class ClockLink::Impl {
 public:
  Impl(std::unique_ptr<Endpoint> endpoint, ClockLinkOptions options, lease::ProcessHandle self);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  /// Dials and says hello on the caller's thread, then starts the link's.
  core::Status start(wire::Deadline deadline);
  core::Result<ClockHold*> acquire(const std::string& gpu, const std::string& job, wire::Deadline deadline);
  core::Status release(ClockHold& hold, wire::Deadline deadline);
  core::Result<wire::AgentReply> request(const wire::AgentRequest& request, wire::Deadline deadline);

  [[nodiscard]] std::vector<wire::AgentGpu> gpus() const;
  [[nodiscard]] std::string peer() const;
  [[nodiscard]] bool connected() const;
  /// Whether this is a child of the process that opened the link.
  [[nodiscard]] bool in_child() const;

 private:
  using Clock = std::chrono::steady_clock;

  /// A request on its way. Guarded by mutex_.
  struct Exchange {
    wire::AgentRequest request;
    std::optional<std::size_t> reacquires;  ///< index of the hold that this takes anew
    std::optional<core::Result<wire::AgentReply>> reply;
    ClockHold* hold = nullptr;  ///< what an acquire has made
    bool abandoned = false;     ///< nobody waits any more
  };
  /// One hold and where it stands.
  struct Held {
    enum class Phase : std::uint8_t { kHeld, kLost, kOver };
    std::unique_ptr<ClockHold> hold;
    std::uint64_t lease = 0;
    std::chrono::milliseconds time_to_live{};
    Clock::time_point next_renewal;
    Phase phase = Phase::kHeld;
    bool asking = false;  ///< a reacquiring request is on its way
  };

  // Of any thread.
  core::Result<std::shared_ptr<Exchange>> ask(wire::AgentRequest request, wire::Deadline deadline);
  void wake() const;

  // Of the link's thread (and of start(), before there is one).
  core::Status connect(wire::Deadline deadline);
  void run();
  [[nodiscard]] Clock::time_point next_event() const;
  void wait_until(Clock::time_point event);
  void reconnect_if_due();
  void send_queued();
  void receive();
  void renew_due();
  void reacquire_lost();
  void disconnect(const core::Error& why);
  void answer(Exchange& exchange, wire::AgentReply reply, format::UniqueFd fd);
  void on_acquired(Exchange& exchange, wire::Acquired granted, format::UniqueFd fd);
  void on_ended(const wire::Ended& ended);
  void on_refused_renewal(std::uint64_t lease, const wire::Refusal& refusal);
  void take_back(Held& held, const std::string& reason);
  void on_refused_reacquire(Held& held, const wire::Refusal& refusal);
  void push(wire::AgentRequest request, std::optional<std::size_t> reacquires = std::nullopt);
  Held* find(std::uint64_t lease);

  std::unique_ptr<Endpoint> endpoint_;
  ClockLinkOptions options_;
  lease::ProcessHandle self_;  ///< sent with hello
  std::uint32_t generation_;
  format::UniqueFd wake_;

  // Of the link's thread.
  format::UniqueFd socket_;
  lease::Backoff backoff_;
  Clock::time_point next_try_;  ///< of dialling, or of taking lost leases anew

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::deque<std::shared_ptr<Exchange>> queued_;
  std::deque<std::shared_ptr<Exchange>> sent_;  ///< answers come in this order
  std::vector<Held> held_;
  wire::Welcome welcome_;
  bool connected_ = false;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace perseus::client
