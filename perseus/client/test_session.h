// SPDX-License-Identifier: Apache-2.0
//
// A session with everything around it made by hand: time, clocks, server, GPU. No thread, nothing real.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "perseus/client/rank_session.h"

namespace perseus::client {

/// Writes down what is posted.
class TestSink final : public ClockSink {
 public:
  void post(const ClockPost& post) override {
    wanted_ = post.mhz;
    posts.push_back(post);
  }
  [[nodiscard]] std::uint32_t wanted() const override { return wanted_; }
  void touch() override { ++touches; }
  [[nodiscard]] SinkState state() override { return std::exchange(next_state, SinkState{.connected = true}); }
  void close(core::Seconds) override { closed = true; }

  std::vector<ClockPost> posts;
  int touches = 0;
  bool closed = false;
  SinkState next_state{.connected = true};

 private:
  std::uint32_t wanted_ = 0;
};

/// Takes reports, and says what the test says.
class TestLink final : public ControlLink {
 public:
  void start(ControlListener& to) override { listener = &to; }
  void at_step(std::uint64_t step) noexcept override { steps.push_back(step); }
  void report(RankReport report) override { reports.push_back(std::move(report)); }
  void stop(std::chrono::milliseconds) override { stopped = true; }
  [[nodiscard]] Counters counters() const override {
    return {.dropped_reports = 1, .refused_answers = 2, .failures = 3};
  }

  template <class T>
  [[nodiscard]] std::vector<T> all() const {
    std::vector<T> out;
    for (const RankReport& report : reports) {
      if (const auto* match = std::get_if<T>(&report)) out.push_back(*match);
    }
    return out;
  }

  ControlListener* listener = nullptr;
  std::vector<std::uint64_t> steps;
  std::vector<RankReport> reports;
  bool stopped = false;
};

/// Shows what the test puts in.
class TestTelemetry final : public Telemetry {
 public:
  void collect(TelemetryNews& news) override { news = std::exchange(next, {}); }
  [[nodiscard]] std::optional<TelemetryGpu> gpu() const override { return known; }
  void set_precise(bool wanted) override { precise = wanted; }

  TelemetryNews next;
  std::optional<TelemetryGpu> known;
  bool precise = false;
};

/// One forward or backward of a plan.
inline PlannedOperation planned(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch,
                                std::uint32_t mhz, double expected_s = 0.01) {
  PlannedOperation out;
  out.computation = {.kind = kind, .stage = stage, .microbatch = microbatch};
  if (mhz != 0) out.clock = core::Megahertz(mhz);
  out.expected_time = core::Seconds(expected_s);
  return out;
}

/// F0 F1 B0 B1 of stage 0 at 900, 915, 1200 and 1215 MHz, promised in 0.04 s.
inline RankPlan small_plan(std::uint64_t generation = 1, std::uint64_t from_step = 0) {
  RankPlan plan;
  plan.generation = generation;
  plan.revision = 2 * generation + 1;
  plan.reason = "fastest";
  plan.from_step = from_step;
  plan.ttl = core::Seconds(60);
  plan.promised_time = core::Seconds(0.04);
  plan.operations = {planned(core::Kind::kForward, 0, 0, 900), planned(core::Kind::kForward, 0, 1, 915),
                     planned(core::Kind::kBackward, 0, 0, 1200), planned(core::Kind::kBackward, 0, 1, 1215)};
  return plan;
}

/// A session that a test drives by hand.
class SessionRig {
 public:
  explicit SessionRig(SessionSettings settings = {}, std::unique_ptr<StreamTrigger> trigger = nullptr) {
    settings.native_thread = false;
    SessionParts parts;
    parts.sink = std::unique_ptr<ClockSink>(sink = new TestSink);
    parts.link = std::unique_ptr<ControlLink>(link = new TestLink);
    parts.telemetry = std::unique_ptr<Telemetry>(telemetry = new TestTelemetry);
    parts.trigger = std::move(trigger);
    parts.time = &time;
    parts.log = [this](bool warning, std::string_view line) {
      lines.push_back((warning ? "! " : "") + std::string(line));
    };
    parts.on_gpu = [this](const TelemetryGpu& gpu, bool control) { gpus.emplace_back(gpu, control); };
    session = std::make_unique<RankSession>(settings, std::move(parts));
  }

  void give(RankPlan plan) { link->listener->on_plan(std::make_shared<const RankPlan>(std::move(plan))); }
  void pass(double seconds) {
    time.advance(lease::Duration(static_cast<lease::Duration::rep>(seconds * 1e9 + 0.5)));
  }
  [[nodiscard]] std::uint64_t now_ns() const { return lease::to_ns(time.now()); }
  /// One computation that takes `seconds`.
  void run(core::Kind kind, std::uint32_t microbatch, double seconds = 0.01, std::uint32_t stage = 0) {
    session->begin(kind, stage, microbatch);
    pass(seconds);
    session->end(kind, stage, microbatch);
  }
  /// The four computations of small_plan(), and `idle` at the end.
  void step(double seconds_each = 0.01, double idle = 0) {
    session->begin_step();
    run(core::Kind::kForward, 0, seconds_each);
    run(core::Kind::kForward, 1, seconds_each);
    run(core::Kind::kBackward, 0, seconds_each);
    run(core::Kind::kBackward, 1, seconds_each);
    pass(idle);
    session->end_step();
  }
  /// Clocks that were posted since the last call.
  std::vector<std::uint32_t> clocks() {
    std::vector<std::uint32_t> out;
    for (const ClockPost& post : std::exchange(sink->posts, {})) out.push_back(post.mhz);
    return out;
  }

  lease::ManualTime time;
  std::vector<std::string> lines;
  std::vector<std::pair<TelemetryGpu, bool>> gpus;
  // Owned by the session.
  TestSink* sink = nullptr;
  TestLink* link = nullptr;
  TestTelemetry* telemetry = nullptr;
  std::unique_ptr<RankSession> session;
};

}  // namespace perseus::client
