// SPDX-License-Identifier: Apache-2.0
//
// What the hooks cost in the training thread, host trigger: build/bench/bin/client_bench
//
// Google Benchmark gives means; the percentiles come from Percentiles_*, where each call is timed by itself
// and the clock's own cost is part of the figure (time_clock shows it).
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "perseus/client/rank_session.h"
#include "perseus/wire/mailbox.h"

namespace perseus::client {
namespace {

constexpr std::uint32_t kMicrobatches = 128;

/// Gives its listener one plan.
class PlanLink final : public ControlLink {
 public:
  void start(ControlListener& listener) override { listener_ = &listener; }
  void at_step(std::uint64_t step) noexcept override { step_.store(step, std::memory_order_relaxed); }
  void report(RankReport /*report*/) override {}
  void stop(std::chrono::milliseconds /*patience*/) override {}
  [[nodiscard]] Counters counters() const override { return {}; }
  void give(RankPlan plan) { listener_->on_plan(std::make_shared<const RankPlan>(std::move(plan))); }

 private:
  ControlListener* listener_ = nullptr;
  std::atomic<std::uint64_t> step_{0};
};

/// The agent's mailbox in this process's own memory: what a post costs without anybody at the other end.
class MailboxSink final : public ClockSink {
 public:
  MailboxSink() : owner_(*wire::MailboxOwner::create()), user_(*wire::MailboxUser::map(::dup(owner_.fd()))) {}
  void post(const ClockPost& post) override {
    wanted_.store(post.mhz, std::memory_order_relaxed);
    static_cast<void>(post.mhz == 0 ? user_.post_baseline() : user_.post(core::Megahertz(post.mhz)));
  }
  [[nodiscard]] std::uint32_t wanted() const override { return wanted_.load(std::memory_order_relaxed); }
  void touch() override { user_.touch_hook(); }
  [[nodiscard]] SinkState state() override { return {.connected = true, .controls = true}; }
  void close(core::Seconds /*patience*/) override {}

 private:
  wire::MailboxOwner owner_;
  wire::MailboxUser user_;
  std::atomic<std::uint32_t> wanted_{0};
};

/// Rank 0 of a 1F1B pipeline with 128 microbatches, each computation at another clock than the one before.
RankPlan plan_of_a_rank() {
  RankPlan plan;
  plan.generation = 1;
  plan.from_step = 0;
  plan.ttl = core::Seconds(1e6);
  for (std::uint32_t i = 0; i < 2 * kMicrobatches; ++i) {
    PlannedOperation operation;
    operation.computation = {
        .kind = i % 2 == 0 ? core::Kind::kForward : core::Kind::kBackward, .stage = 0, .microbatch = i / 2};
    operation.clock = core::Megahertz(i % 2 == 0 ? 1410 : 1200);
    operation.expected_time = core::Seconds(0.01);
    plan.operations.push_back(operation);
  }
  return plan;
}

struct Rank {
  explicit Rank(bool with_plan) {
    SessionParts parts;
    auto made = std::make_unique<PlanLink>();
    PlanLink* const link = made.get();
    parts.sink = std::make_unique<MailboxSink>();
    parts.link = std::move(made);
    session = std::make_unique<RankSession>(SessionSettings{.ring = 1U << 18U}, std::move(parts));
    if (with_plan) link->give(plan_of_a_rank());
  }
  std::unique_ptr<RankSession> session;
};

void one_step(RankSession& session) {
  session.begin_step();
  for (std::uint32_t mb = 0; mb < kMicrobatches; ++mb) {
    session.begin(core::Kind::kForward, 0, mb);
    session.end(core::Kind::kForward, 0, mb);
    session.begin(core::Kind::kBackward, 0, mb);
    session.end(core::Kind::kBackward, 0, mb);
  }
  session.end_step();
}

/// A whole step: 1,024 hooks of computations, half of which post a clock, and its two ends.
void step_of_128_microbatches(benchmark::State& state) {
  Rank rank(state.range(0) != 0);
  for ([[maybe_unused]] auto _ : state) one_step(*rank.session);
  const double hooks = 4.0 * kMicrobatches + 2;
  state.counters["ns_per_hook"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * hooks,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(step_of_128_microbatches)->ArgName("plan")->Arg(1)->Arg(0);

/// The first computation that a plan does not have, and the rest of its step.
void unknown_computation(benchmark::State& state) {
  Rank rank(true);
  RankSession& session = *rank.session;
  session.begin_step();
  for ([[maybe_unused]] auto _ : state) {
    session.begin(core::Kind::kRecompute, 7, 9);
    session.end(core::Kind::kRecompute, 7, 9);
  }
  session.end_step();
}
BENCHMARK(unknown_computation);

void step_boundaries(benchmark::State& state) {
  Rank rank(true);
  for ([[maybe_unused]] auto _ : state) {
    rank.session->begin_step();
    rank.session->end_step();
  }
}
BENCHMARK(step_boundaries);

void look_up(benchmark::State& state) {
  const auto table = *PlanTable::build(std::make_shared<const RankPlan>(plan_of_a_rank()));
  std::uint32_t mb = 0;
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(table->find(core::Kind::kBackward, 0, mb, PlanTable::kNone));
    mb = (mb + 1) % kMicrobatches;
  }
}
BENCHMARK(look_up);

void time_clock(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(std::chrono::steady_clock::now());
}
BENCHMARK(time_clock);

/// Each call by itself, in ns, the time of the clock included.
void percentiles(benchmark::State& state) {
  Rank rank(true);
  RankSession& session = *rank.session;
  std::vector<double> begins;
  std::vector<double> ends;
  const auto timed = [](std::vector<double>& out, auto&& call) {
    const auto before = std::chrono::steady_clock::now();
    call();
    out.push_back(
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - before).count());
  };
  for ([[maybe_unused]] auto _ : state) {
    session.begin_step();
    for (std::uint32_t i = 0; i < 2 * kMicrobatches; ++i) {
      const core::Kind kind = i % 2 == 0 ? core::Kind::kForward : core::Kind::kBackward;
      timed(begins, [&] { session.begin(kind, 0, i / 2); });
      timed(ends, [&] { session.end(kind, 0, i / 2); });
    }
    session.end_step();
  }
  const auto percentile = [](std::vector<double>& values, double share) {
    const auto at =
        values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), at, values.end());
    return *at;
  };
  state.counters["begin_p50_ns"] = percentile(begins, 0.5);
  state.counters["begin_p99_ns"] = percentile(begins, 0.99);
  state.counters["begin_p999_ns"] = percentile(begins, 0.999);
  state.counters["end_p50_ns"] = percentile(ends, 0.5);
  state.counters["end_p99_ns"] = percentile(ends, 0.99);
}
BENCHMARK(percentiles)->Iterations(2'000);

}  // namespace
}  // namespace perseus::client
