// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/clock_thread.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <ctime>
#include <system_error>
#include <utility>

#include "perseus/gpu/clock_table.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;

/// Timer slack of the thread. The default of 50 us (prctl(2)) would be added to every nap.
constexpr unsigned long kTimerSlackNs = 1'000;

/// Tells the processor that this is a spinning loop.
void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct ClockThread::Command {
  enum class Kind : std::uint8_t { kAcquire, kEnd, kOwe, kRetry, kReloaded, kStop };
  Kind kind = Kind::kStop;
  LeaseTerms terms;
  std::shared_ptr<ClockRequests> requests;
  Outcome outcome = Outcome::kEnded;
  std::optional<core::Megahertz> baseline;
  Done done;
};

/// A lease and what serves it; the loop refers to the other two.
struct ClockThread::Held {
  Held(Lease taken, std::shared_ptr<ClockRequests> source, const TimeSource& time, const ApplyPolicy& policy,
       ChangeLog& log)
      : lease(std::move(taken)), requests(std::move(source)), loop(lease, *requests, time, policy, log) {}
  Lease lease;
  std::shared_ptr<ClockRequests> requests;
  ApplyLoop loop;
};

ClockThread::ClockThread(gpu::Device& device, const StateDirectory& directory, const TimeSource& time,
                         ClockThreadOptions options)
    : device_(device),
      directory_(directory),
      time_(time),
      options_(std::move(options)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      owed_backoff_(options_.policy.backoff) {
  if (!wake_) return;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch): thread_ stays empty; commands say so
  }
}

ClockThread::~ClockThread() {
  if (!thread_.joinable()) return;
  push({.kind = Command::Kind::kStop});
  thread_.join();
}

core::Status ClockThread::acquire(LeaseTerms terms, std::shared_ptr<ClockRequests> requests, Done done) {
  if (!thread_.joinable()) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("{}: the system gave it no thread", gpu::describe(gpu())));
  }
  {
    const std::lock_guard lock(mutex_);
    if (taken_by_) {
      return core::fail(ErrorCode::kBusy, fmt::format("{} is leased to {}", gpu::describe(gpu()),
                                                      format::owner_text(*taken_by_)));
    }
    taken_by_ = terms.owner;
  }
  push({.kind = Command::Kind::kAcquire,
        .terms = std::move(terms),
        .requests = std::move(requests),
        .done = std::move(done)});
  return {};
}

void ClockThread::end(Outcome outcome, Done done) {
  push({.kind = Command::Kind::kEnd, .outcome = outcome, .done = std::move(done)});
}

void ClockThread::owe(std::optional<core::Megahertz> baseline, Done done) {
  push({.kind = Command::Kind::kOwe, .baseline = baseline, .done = std::move(done)});
}

void ClockThread::retry_now() {
  push({.kind = Command::Kind::kRetry});
}

void ClockThread::driver_reloaded() {
  push({.kind = Command::Kind::kReloaded});
}

ClockThreadState ClockThread::state() const {
  ClockThreadState state;
  {
    const std::lock_guard lock(mutex_);
    state = published_;
  }
  if (const auto since = at_work_since_.load(std::memory_order_relaxed); since != 0) {
    state.call_since = Instant(Duration(since));
  }
  state.counters = log_.counters();
  return state;
}

void ClockThread::push(Command command) {
  if (!thread_.joinable()) {
    if (command.done) command.done(core::fail(ErrorCode::kLimit, "the system gave this GPU no thread"));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
    pending_.store(true, std::memory_order_release);
  }
  const std::uint64_t one = 1;
  static_cast<void>(::write(wake_.get(), &one, sizeof one) ==
                    0);  // cannot fail: the counter is far from full
}

void ClockThread::run() {
  ::prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  while (!stopping_) {
    if (pending_.load(std::memory_order_acquire)) take_commands();
    if (stopping_) break;
    const std::optional<Duration> pause = step();
    if (pause && *pause == Duration::zero()) {
      relax();
    } else {
      wait(pause);
    }
  }
  // The lease's destructor restores; what cannot be restored stands in the journal.
  give_up_lease();
  if (owed_ && !owed_->lease) static_cast<void>(try_owed());
  owed_.reset();
}

void ClockThread::take_commands() {
  std::uint64_t count = 0;
  static_cast<void>(::read(wake_.get(), &count, sizeof count) == 0);
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
    pending_.store(false, std::memory_order_relaxed);
  }
  for (Command& command : commands) {
    at_work_since_.store(time_.now().time_since_epoch().count(), std::memory_order_relaxed);
    work_off(command);
    at_work_since_.store(0, std::memory_order_relaxed);
  }
}

void ClockThread::wait(std::optional<Duration> pause) const {
  pollfd entry{.fd = wake_.get(), .events = POLLIN, .revents = 0};
  timespec limit{};
  if (pause) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*pause);
    limit = {.tv_sec = seconds.count(), .tv_nsec = (*pause - seconds).count()};
  }
  // A signal or an error only makes the next look come sooner.
  static_cast<void>(::ppoll(&entry, 1, pause ? &limit : nullptr, nullptr));
}

void ClockThread::work_off(Command& command) {
  switch (command.kind) {
    case Command::Kind::kAcquire:
      return do_acquire(command);
    case Command::Kind::kEnd:
      return do_end(command);
    case Command::Kind::kOwe:
      return do_owe(command);
    case Command::Kind::kRetry:
    case Command::Kind::kReloaded:
      if (owed_) owed_->next_try = Instant();
      if (held_ && command.kind == Command::Kind::kRetry) held_->loop.retry_now();
      if (held_ && command.kind == Command::Kind::kReloaded) held_->loop.driver_reloaded();
      return;
    case Command::Kind::kStop:
      stopping_ = true;
      return;
  }
}

void ClockThread::do_acquire(Command& command) {
  core::Status status;
  if (owed_) {
    status = core::fail(ErrorCode::kDriver,
                        fmt::format("{} is still to be brought to its baseline, which its driver refuses",
                                    gpu::describe(gpu())));
  } else if (auto lease = Lease::acquire(device_, directory_, std::move(command.terms)); lease) {
    if (options_.after_journal) options_.after_journal();
    held_ =
        std::make_unique<Held>(*std::move(lease), std::move(command.requests), time_, options_.policy, log_);
  } else {
    status = std::unexpected(lease.error());
  }
  if (!status) {
    const std::lock_guard lock(mutex_);
    taken_by_.reset();
  }
  publish();
  if (command.done) command.done(std::move(status));
}

void ClockThread::do_end(Command& command) {
  core::Status status;
  if (held_) {
    status = command.outcome == Outcome::kYielded ? held_->lease.yield() : held_->lease.restore();
    held_->loop.close(status ? command.outcome : Outcome::kFailed);
    note_trouble(status ? nullptr : &status.error());
    if (!status) {
      owed_ = Owed{
          .lease = std::move(held_->lease), .baseline = {}, .next_try = time_.now() + owed_backoff_.next()};
    }
    held_.reset();
    const std::lock_guard lock(mutex_);
    taken_by_.reset();
  }
  publish();
  if (command.done) command.done(std::move(status));
}

void ClockThread::do_owe(Command& command) {
  core::Status status;
  if (held_) {
    status = core::fail(ErrorCode::kBusy, fmt::format("{} is leased", gpu::describe(gpu())));
  } else {
    owed_ = Owed{.lease = {}, .baseline = command.baseline, .next_try = {}};
    status = try_owed();
  }
  publish();
  if (command.done) command.done(std::move(status));
}

void ClockThread::give_up_lease() {
  if (!held_) return;
  const core::Status status = held_->lease.restore();
  held_->loop.close(status ? Outcome::kEnded : Outcome::kFailed);
  held_.reset();
}

std::optional<Duration> ClockThread::step() {
  if (held_) {
    const auto intended = held_->lease.intended();
    at_work_since_.store(time_.now().time_since_epoch().count(), std::memory_order_relaxed);
    const Duration pause = held_->loop.step();
    at_work_since_.store(0, std::memory_order_relaxed);
    const bool in_trouble = held_->loop.trouble().has_value();
    if (in_trouble != in_trouble_ || intended != held_->lease.intended()) {
      note_trouble(in_trouble ? &*held_->loop.trouble() : nullptr);
      publish();
    }
    return pause;
  }
  if (!owed_) return std::nullopt;
  const Instant now = time_.now();
  if (now < owed_->next_try) return owed_->next_try - now;
  at_work_since_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  static_cast<void>(try_owed());  // its error is published, and it is tried again
  at_work_since_.store(0, std::memory_order_relaxed);
  publish();
  return Duration::zero();
}

core::Status ClockThread::try_owed() {
  core::Status status = owed_->lease ? owed_->lease->restore() : apply_baseline(device_, owed_->baseline);
  if (status && !owed_->lease) status = directory_.remove(gpu().uuid);
  note_trouble(status ? nullptr : &status.error());
  if (status) {
    owed_.reset();
    owed_backoff_.reset();
  } else {
    owed_->next_try = time_.now() + owed_backoff_.next();
  }
  return status;
}

void ClockThread::note_trouble(const core::Error* error) {
  const bool before = std::exchange(in_trouble_, error != nullptr);
  {
    const std::lock_guard lock(mutex_);
    published_.trouble = error == nullptr ? std::string() : error->text();
  }
  if (before == in_trouble_ || !options_.on_event) return;
  options_.on_event({.kind = in_trouble_ ? ClockEvent::Kind::kDriverFailed : ClockEvent::Kind::kBaselineBack,
                     .gpu = gpu().uuid,
                     .error = error == nullptr ? std::nullopt : std::optional(*error)});
}

void ClockThread::publish() {
  const std::lock_guard lock(mutex_);
  published_.leased = held_ != nullptr;
  published_.owner = held_ ? held_->lease.terms().owner : format::LeaseOwner();
  published_.intended = held_ ? held_->lease.intended() : std::nullopt;
  published_.owing = owed_.has_value() || in_trouble_;
}

}  // namespace perseus::lease
