// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/rank_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace perseus::client {
namespace {

/// Lines of other threads that wait to be logged; further ones are dropped: nobody floods a log.
constexpr std::size_t kMostLines = 64;

core::Seconds seconds(std::uint64_t ns) {
  return core::Seconds(static_cast<double>(ns) / 1e9);
}

std::uint64_t whole_ns(core::Seconds time) {
  return static_cast<std::uint64_t>(time.value() * 1e9);
}

}  // namespace

RankSession::RankSession(SessionSettings settings, SessionParts parts)
    : settings_(settings),
      parts_(std::move(parts)),
      time_(*parts_.time),
      ring_(settings.ring),
      recorder_(settings.recorder, [this](RankReport r) { report(std::move(r)); }) {
  if (parts_.trigger) start_trigger();
  if (parts_.link) parts_.link->start(*this);
  if (settings_.native_thread) native_ = std::thread([this] { run(); });
}

void RankSession::start_trigger() {
  parts_.trigger->start({.post =
                             [this](const ClockPost& post) {
                               if (orders_.suspended_through(post.step) && post.mhz != 0) return;
                               if (parts_.sink->wanted() != post.mhz) parts_.sink->post(post);
                             },
                         .record =
                             [this](const StepRecord& r) {
                               if (!ring_.push(r)) published_.lost.fetch_add(1, std::memory_order_relaxed);
                             }});
}

RankSession::~RankSession() {
  close(core::Seconds(0));
}

// --- the link's thread

void RankSession::on_plan(std::shared_ptr<const RankPlan> plan) {
  orders_.contact(lease::to_ns(time_.now()));
  const std::optional<std::uint64_t> from_step = plan->from_step;
  if (!from_step) return;  // prepared; it comes again with its step
  auto table = PlanTable::build(plan);
  if (!table) {
    refused_plans_.fetch_add(1);
    tell(true, fmt::format("generation {} makes no sense ({}): baseline clocks", plan->generation,
                           table.error().text()));
    RankPlan nothing = *plan;
    nothing.baseline = true;
    nothing.operations.clear();
    nothing.windows.clear();
    table = PlanTable::build(std::make_shared<const RankPlan>(std::move(nothing)));
    if (!table) return;
  }
  orders_.refuse(false);
  tell(false, fmt::format("generation {} ({}) from step {} on", plan->generation, plan->reason, *from_step));
  plans_.offer(*std::move(table));
}

void RankSession::on_contact() {
  orders_.contact(lease::to_ns(time_.now()));
}

void RankSession::on_refused(const core::Error& why) {
  orders_.refuse(true);
  tell(true, fmt::format("the server refuses this rank: baseline clocks: {}", why.text()));
}

// --- the native thread

void RankSession::run() {
  const std::chrono::duration<double> look(settings_.look.value());
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    work();
    lock.lock();
    wake_.wait_for(lock, look, [this] { return stopping_; });
  }
}

void RankSession::work() {
  std::vector<std::unique_ptr<PlanTable>> tables = plans_.collect();
  // Records that refer to them have been written by now, or are with the trigger.
  const std::uint64_t after = parts_.trigger ? parts_.trigger->queued() : 0;
  if (!tables.empty()) retired_.push_back({after, std::move(tables)});
  const std::uint64_t done = parts_.trigger ? parts_.trigger->done() : 0;
  look_at_telemetry();
  read_records();
  std::erase_if(retired_, [done](const Retired& r) { return r.after <= done; });
  watch(lease::to_ns(time_.now()));
  look_at_sink();
  log_events();
}

void RankSession::read_records() {
  while (const auto record = ring_.pop()) recorder_.add(*record);
  if (parts_.telemetry) parts_.telemetry->set_precise(recorder_.in_sweep());
}

void RankSession::look_at_telemetry() {
  if (!parts_.telemetry) return;
  TelemetryNews news;
  parts_.telemetry->collect(news);
  for (const EnergyUpdate& update : news.updates) recorder_.add_update(update);
  for (const ReasonSample& sample : news.reasons) recorder_.add_reason(sample);
  if (!news.trouble.empty()) log(true, news.trouble);
}

void RankSession::look_at_sink() {
  ClockSink& sink = *parts_.sink;
  sink.work();
  const SinkState state = sink.state();
  clock_connected_.store(state.connected, std::memory_order_relaxed);
  if (!state.news.empty()) log(state.news_is_warning, state.news);
  const std::uint64_t generation = published_.plan_generation.load(std::memory_order_relaxed);
  if (state.refused_clock && sink.wanted() != 0 && !orders_.banned(generation)) {
    orders_.ban(generation);
    refused_plans_.fetch_add(1);
    log(true, fmt::format("generation {} asks for {} MHz, which the GPU does not have: baseline clocks",
                          generation, sink.wanted()));
  }
  if (!parts_.on_gpu) return;
  TelemetryGpu gpu = parts_.telemetry ? parts_.telemetry->gpu().value_or(TelemetryGpu()) : TelemetryGpu();
  if (SinkGpu held = sink.gpu(); !held.uuid.empty()) {
    gpu.uuid = std::move(held.uuid);
    gpu.clocks = std::move(held.clocks);
  }
  if (gpu.uuid.empty()) return;
  recorder_.set_counter_period(gpu.counter_period);
  if (gpu_told_ && gpu == gpu_ && gpu_controlled_ == state.controls) return;
  gpu_told_ = true;
  gpu_ = std::move(gpu);
  gpu_controlled_ = state.controls;
  parts_.on_gpu(gpu_, gpu_controlled_);
}

void RankSession::to_baseline(std::uint64_t step) const {
  if (parts_.sink->wanted() != 0) parts_.sink->post({.mhz = 0, .step = step});
}

void RankSession::watch(std::uint64_t now) {
  const bool expired = orders_.expired(now, published_.ttl_ns.load(std::memory_order_relaxed));
  if (expired && !expired_) {
    expired_count_.fetch_add(1);
    log(true, "nothing was heard of the server for the plan's time to live: baseline clocks");
  }
  expired_ = expired;

  const std::uint64_t word = published_.step_word.load(std::memory_order_acquire);
  const std::uint64_t hook = published_.hook_ns.load(std::memory_order_relaxed);
  const std::uint64_t last = parts_.trigger ? std::max(hook, parts_.trigger->last_done_ns()) : hook;
  const core::Seconds silent = now > last ? seconds(now - last) : core::Seconds(0);
  const std::uint64_t step = word / 2;
  const std::uint64_t generation = published_.plan_generation.load(std::memory_order_relaxed);
  const bool broken = parts_.trigger && parts_.trigger->broken();
  if (broken && !std::exchange(trigger_told_, true)) log(true, parts_.trigger->trouble());
  const bool ordered = broken || expired || orders_.refused() || orders_.banned(generation);
  if (word % 2 == 0) {
    if (ordered) orders_.suspend(step);
    if (ordered || (silent > settings_.pause && !stream_busy())) to_baseline(step);
    return;
  }
  const core::Seconds promised = seconds(published_.promised_ns.load(std::memory_order_relaxed));
  if (silent > std::max(settings_.hang_least, settings_.hang_factor * promised) && hung_step_ != step + 1) {
    hung_step_ = step + 1;
    hook_timeouts_.fetch_add(1);
    log(true,
        fmt::format("no computation began or ended for {:.1f} s inside of step {}: baseline clocks until "
                    "the next step",
                    silent.value(), step));
  }
  if (!ordered && hung_step_ != step + 1) return;
  orders_.suspend(step);
  published_.generation.store(0, std::memory_order_relaxed);
  to_baseline(step);
}

void RankSession::report(RankReport report) {
  if (const auto* trip = std::get_if<GuardTripReport>(&report)) {
    orders_.ban(trip->generation);
    guard_trips_.fetch_add(1);
    log(true,
        fmt::format("{} iterations took {:.6g} s where generation {} promised {:.6g} s: full clocks",
                    trip->iterations, trip->measured.value(), trip->generation, trip->promised.value()));
  }
  if (parts_.link) parts_.link->report(std::move(report));
}

void RankSession::log_events() {
  const std::uint64_t generation = published_.plan_generation.load(std::memory_order_relaxed);
  const std::uint64_t unknown = published_.unknown.load(std::memory_order_relaxed);
  if (std::exchange(unknown_seen_, unknown) != unknown && unknown_logged_ != generation) {
    unknown_logged_ = generation;
    const std::uint64_t what = published_.unknown_what.load(std::memory_order_relaxed);
    log(true, fmt::format("generation {} does not have {}{} of microbatch {} (or not twice): baseline clocks "
                          "until the step ends; told once",
                          generation, core::letter(static_cast<core::Kind>((what >> 56U) - 1)),
                          (what >> 32U) & 0xff'ffffU, what & 0xffff'ffffU));
  }
  const std::uint64_t reordered = published_.reordered.load(std::memory_order_relaxed);
  if (std::exchange(reordered_seen_, reordered) != reordered && reorder_logged_ != generation) {
    reorder_logged_ = generation;
    log(true, fmt::format("computations come in another order than generation {} was made for: baseline "
                          "clocks until the step ends; told once",
                          generation));
  }
  const std::uint64_t missing = published_.missing.load(std::memory_order_relaxed);
  if (std::exchange(missing_seen_, missing) != missing && missing_logged_ != generation) {
    missing_logged_ = generation;
    log(true, fmt::format("computations of generation {} did not happen; told once", generation));
  }
  std::vector<std::pair<bool, std::string>> lines;
  {
    const std::lock_guard lock(lines_mutex_);
    lines.swap(lines_);
  }
  for (const auto& [warning, line] : lines) log(warning, line);
}

void RankSession::tell(bool warning, std::string line) {
  const std::lock_guard lock(lines_mutex_);
  if (lines_.size() < kMostLines) lines_.emplace_back(warning, std::move(line));
}

void RankSession::log(bool warning, std::string_view line) const {
  if (parts_.log) parts_.log(warning, line);
}

// --- any thread

SessionState RankSession::state() const {
  const Published& p = published_;
  constexpr auto kRelaxed = std::memory_order_relaxed;
  SessionState out;
  out.step = p.step_word.load(kRelaxed) / 2;
  out.generation = p.generation.load(kRelaxed);
  out.clock_mhz = parts_.sink->wanted();
  const std::uint64_t heard = orders_.contact_ns();
  const std::uint64_t now = lease::to_ns(time_.now());
  out.server_contact = heard != 0 && (now < heard || now - heard < whole_ns(SessionState::kContact));
  out.clock_connected = clock_connected_.load(kRelaxed);
  out.steps = p.steps.load(kRelaxed);
  out.operations = p.operations.load(kRelaxed);
  out.unknown = p.unknown.load(kRelaxed);
  out.missing = p.missing.load(kRelaxed);
  out.reordered = p.reordered.load(kRelaxed);
  out.posts = p.posts.load(kRelaxed);
  out.lost_records = p.lost.load(kRelaxed);
  out.guard_trips = guard_trips_.load(kRelaxed);
  out.plans_taken = plans_.taken();
  out.plans_expired = expired_count_.load(kRelaxed);
  out.hook_timeouts = hook_timeouts_.load(kRelaxed);
  out.refused_plans = refused_plans_.load(kRelaxed);
  if (parts_.link) out.link = parts_.link->counters();
  out.promised = seconds(p.promised_ns.load(kRelaxed));
  out.iteration_time = seconds(p.iteration_ns.load(kRelaxed));
  return out;
}

void RankSession::close(core::Seconds patience) {
  if (std::exchange(closed_, true)) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (native_.joinable()) native_.join();
  if (parts_.trigger) parts_.trigger->stop();
  // Clocks first: the agent answers at once, a server may not.
  const std::chrono::duration<double> all(patience.value());
  const auto begun = std::chrono::steady_clock::now();
  parts_.sink->post({.mhz = 0, .step = published_.step_word.load(std::memory_order_relaxed) / 2});
  work();
  parts_.telemetry.reset();
  parts_.sink->close(patience / 2);
  const std::chrono::duration<double> left = all - (std::chrono::steady_clock::now() - begun);
  if (parts_.link) {
    parts_.link->stop(
        std::max(std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(left)));
  }
}

}  // namespace perseus::client
