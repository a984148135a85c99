// SPDX-License-Identifier: Apache-2.0
//
// Between a rank's session and whoever plans for it. The session knows only this; server_link.h speaks HTTP
// to a server, tests use one of their own. Fails open: a link that reaches nobody keeps trying and says
// nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <variant>

#include "perseus/client/rank_plan.h"
#include "perseus/core/result.h"

namespace perseus::client {

/// What the link tells. Called on the link's thread; must return soon and must not throw.
class ControlListener {
 public:
  ControlListener() = default;
  ControlListener(const ControlListener&) = delete;
  ControlListener& operator=(const ControlListener&) = delete;
  virtual ~ControlListener() = default;
  /// News: prepared, agreed or baseline. Of this job, incarnation and schedule (the link has checked that),
  /// with its operations or windows even where the server left them out. Revisions rise, unless the server
  /// has lost its store and begins anew. After on_refused() the same plan is told again if the rank is taken
  /// again.
  virtual void on_plan(std::shared_ptr<const RankPlan> plan) = 0;
  /// The server has answered something, and knows of no other plan: the one that was told lives ttl longer
  /// from now.
  virtual void on_contact() = 0;
  /// The server refuses this rank for good (its incarnation is over, its order differs, its token is wrong):
  /// baseline clocks. The link asks again only rarely.
  virtual void on_refused(const core::Error& why) = 0;
};

using RankReport = std::variant<WindowReport, StepReport, GuardTripReport>;

class ControlLink {
 public:
  ControlLink() = default;
  ControlLink(const ControlLink&) = delete;
  ControlLink& operator=(const ControlLink&) = delete;
  /// stop() within a second, at the latest.
  virtual ~ControlLink() = default;
  /// Starts the link's thread. The listener must outlive stop(). Called once.
  virtual void start(ControlListener& listener) = 0;
  /// The training step that begins. One relaxed store: for the hot path.
  virtual void at_step(std::uint64_t step) noexcept = 0;
  /// Sends a report when it can. Never waits; of more than 256 that wait the oldest is dropped and counted.
  /// From any thread but the hot path's (it allocates).
  virtual void report(RankReport report) = 0;
  /// Says goodbye to the server if that answers within `patience`, and ends the thread. The listener is not
  /// called after it. Idempotent.
  virtual void stop(std::chrono::milliseconds patience) = 0;
  /// Reports that were dropped, answers that made no sense, and failed attempts to reach the server.
  struct Counters {
    std::uint64_t dropped_reports = 0;
    std::uint64_t refused_answers = 0;
    std::uint64_t failures = 0;
  };
  [[nodiscard]] virtual Counters counters() const = 0;
};

}  // namespace perseus::client
