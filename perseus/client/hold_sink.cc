// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/hold_sink.h"

#include <fmt/format.h>

#include <utility>

#include "perseus/lease/backoff.h"

namespace perseus::client {
namespace {

constexpr std::uint64_t kOnePost = std::uint64_t{1} << 32;

std::uint32_t mhz_of(std::uint64_t word) {
  return static_cast<std::uint32_t>(word & (kOnePost - 1));
}

wire::Deadline within(core::Seconds patience) {
  return wire::deadline_in(std::chrono::milliseconds(static_cast<std::int64_t>(patience.value() * 1e3)));
}

}  // namespace

HoldSink::HoldSink(EndpointMaker endpoint, HoldSinkOptions options)
    : endpoint_(std::move(endpoint)), options_(std::move(options)) {
  opener_ = std::thread([this] { keep_held(); });
}

HoldSink::~HoldSink() {
  close(core::Seconds(0));
}

void HoldSink::post(const ClockPost& post) {
  std::uint64_t word = wanted_.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  do {
    next = ((word & ~(kOnePost - 1)) + kOnePost) | post.mhz;
  } while (!wanted_.compare_exchange_weak(word, next));
  if (ClockHold* hold = hold_.load(std::memory_order_acquire)) deliver(*hold);
}

void HoldSink::deliver(ClockHold& hold) const {
  // Two threads may be in here: whoever hands on an older post than the latest does it again.
  std::uint64_t handed = 0;
  do {
    handed = wanted_.load();
    if (handed == 0) return;
    if (mhz_of(handed) == 0) {
      hold.want_baseline();
    } else {
      hold.want(core::Megahertz(mhz_of(handed)));
    }
  } while (wanted_.load() != handed);
}

std::uint32_t HoldSink::wanted() const {
  return mhz_of(wanted_.load(std::memory_order_relaxed));
}

void HoldSink::touch() {
  if (ClockHold* hold = hold_.load(std::memory_order_acquire)) hold->touch_hook();
}

core::Status HoldSink::try_open() {
  const wire::Deadline deadline = wire::deadline_in(options_.patience);
  ClockLink* link = nullptr;
  {
    const std::lock_guard lock(mutex_);
    link = link_.get();
  }
  if (link == nullptr) {
    PERSEUS_ASSIGN_OR_RETURN(auto opened, ClockLink::open(endpoint_(), options_.link, deadline));
    const std::lock_guard lock(mutex_);
    link_ = std::move(opened);
    link = link_.get();
  }
  PERSEUS_ASSIGN_OR_RETURN(ClockHold* const hold, link->acquire(options_.gpu, options_.job, deadline));
  hold->touch_hook();
  hold_.store(hold, std::memory_order_release);
  deliver(*hold);
  return {};
}

void HoldSink::keep_held() {
  lease::Backoff backoff({.first = options_.first_retry, .most = options_.most_retry},
                         static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this)));
  for (;;) {
    const core::Status opened = try_open();
    std::unique_lock lock(mutex_);
    tried_ = true;
    changed_.notify_all();
    if (opened) {
      tell(fmt::format("clocks of GPU {} by {}", hold_.load()->gpu(), link_->peer()), false);
      last_trouble_.clear();
      backoff.reset();
      changed_.wait(lock, [this] { return stopping_ || ended_; });
      if (stopping_) return;
      ended_ = false;  // of that hold; the link keeps it, so whoever is using it just now may go on
      hold_.store(nullptr);
      continue;
    }
    if (opened.error().text() != last_trouble_) {
      last_trouble_ = opened.error().text();
      tell(fmt::format("baseline clocks, and trying on: {}", last_trouble_), true);
    }
    if (changed_.wait_for(lock, backoff.next(), [this] { return stopping_; })) return;
  }
}

void HoldSink::tell(std::string news, bool warning) {
  news_ = std::move(news);
  news_is_warning_ = warning;
}

bool HoldSink::wait_for_first_try(core::Seconds patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(patience.value()), [this] { return tried_; });
  return hold_.load() != nullptr;
}

void HoldSink::note_state(const ClockHold& hold, HoldState state) {
  if (state == last_state_) return;
  last_state_ = state;
  switch (state) {
    case HoldState::kRefused:
      return tell(fmt::format("GPU {} does not have the clock that was asked for", hold.gpu()), true);
    case HoldState::kFailed:
      return tell(fmt::format("the driver of GPU {} refuses clocks", hold.gpu()), true);
    case HoldState::kYielded:
    case HoldState::kNoEffect:
    case HoldState::kEnded:
      return tell(fmt::format("no clocks for GPU {} any more: {}", hold.gpu(), hold.ended_reason()), true);
    case HoldState::kLost:
      return tell(fmt::format("the lease of GPU {} is lost for now: baseline clocks", hold.gpu()), true);
    case HoldState::kWaiting:
    case HoldState::kApplied:
      return;
  }
}

SinkState HoldSink::state() {
  const std::lock_guard lock(mutex_);
  SinkState out;
  if (const ClockHold* hold = hold_.load()) {
    const HoldState state = hold->state();
    note_state(*hold, state);
    out.connected = link_->connected() && state != HoldState::kLost && state != HoldState::kEnded;
    out.controls = out.connected && state != HoldState::kYielded && state != HoldState::kNoEffect;
    out.refused_clock = state == HoldState::kRefused;
    if (state == HoldState::kEnded && !ended_) {  // refused when it was asked for again: not for ever
      ended_ = true;
      changed_.notify_all();
    }
  }
  out.news = std::exchange(news_, {});
  out.news_is_warning = news_is_warning_;
  return out;
}

SinkGpu HoldSink::gpu() {
  const std::lock_guard lock(mutex_);
  if (const ClockHold* hold = hold_.load()) return {hold->gpu(), hold->clocks()};
  if (!link_) return {};
  for (const wire::AgentGpu& gpu : link_->gpus()) {
    if (gpu.uuid == options_.gpu || std::to_string(gpu.index) == options_.gpu) return {gpu.uuid, gpu.clocks};
  }
  return {};
}

void HoldSink::close(core::Seconds patience) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (opener_.joinable()) opener_.join();
  if (ClockHold* hold = hold_.load(); hold != nullptr && patience > core::Seconds(0)) {
    hold->want_baseline();
    // Unanswered: the lease ends with the connection, and the other end restores.
    static_cast<void>(link_->release(*hold, within(patience)));
  }
  const std::lock_guard lock(mutex_);
  hold_.store(nullptr);
  link_.reset();
}

}  // namespace perseus::client
