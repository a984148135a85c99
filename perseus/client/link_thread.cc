// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/link_thread.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "perseus/client/fork_guard.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using namespace std::chrono_literals;

/// Between two tries to reach the other end: an agent that is restarted is back within a second or so, and a
/// thousand ranks must not dial in step (fault table, row 21).
constexpr lease::Backoff::Limits kRedial{.first = 20ms, .most = 1s};
/// Requests without an answer; more of them mean that the other end is stuck, and the connection is given up.
/// At a renewal every 3.3 s: over three minutes with one lease (assumed).
constexpr std::size_t kMostUnanswered = 64;
/// Does only what is possible at once.
constexpr wire::Deadline kAtOnce{};

core::Error refusal_error(const wire::Refusal& refusal) {
  return {refusal.code, refusal.message};
}

/// Whether a lease that was refused may be given later.
bool may_pass(ErrorCode code) {
  return code == ErrorCode::kBusy || code == ErrorCode::kDriver || code == ErrorCode::kTimeout ||
         code == ErrorCode::kLimit || code == ErrorCode::kIo || code == ErrorCode::kNotFound;
}

/// The reply to hello, on a connection on which nothing else has been said.
core::Result<wire::Welcome> say_hello(int socket, const std::string& client, wire::Deadline deadline) {
  const wire::AgentRequest hello = wire::Hello{.protocol = wire::kAgentProtocol, .client = client};
  PERSEUS_ASSIGN_OR_RETURN(
      const wire::Packet packet,
      wire::exchange_packets(socket, wire::encode(hello), wire::kMaxAgentPacket, deadline));
  if (packet.end)
    return core::fail(ErrorCode::kIo, "the other end closed the connection instead of a welcome");
  PERSEUS_ASSIGN_OR_RETURN(auto reply, wire::parse_agent_reply(packet.bytes));
  if (const auto* refusal = std::get_if<wire::Refusal>(&reply))
    return std::unexpected(refusal_error(*refusal));
  auto* welcome = std::get_if<wire::Welcome>(&reply);
  if (welcome == nullptr)
    return core::fail(ErrorCode::kInvalidInput, "the other end did not answer hello with a welcome");
  if (welcome->protocol != wire::kAgentProtocol) {
    return core::fail(ErrorCode::kUnsupported,
                      fmt::format("the other end speaks protocol {}, this program {}", welcome->protocol,
                                  wire::kAgentProtocol));
  }
  return std::move(*welcome);
}

}  // namespace

ClockLink::Impl::Impl(std::unique_ptr<Endpoint> endpoint, ClockLinkOptions options)
    : endpoint_(std::move(endpoint)),
      options_(std::move(options)),
      generation_(fork_generation()),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      backoff_(kRedial, static_cast<std::uint64_t>(::getpid())) {}

ClockLink::Impl::~Impl() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
  if (socket_) keep_in_children(socket_.get());
}

bool ClockLink::Impl::in_child() const {
  return fork_generation() != generation_;
}

core::Status ClockLink::Impl::start(wire::Deadline deadline) {
  if (!wake_) return core::fail(ErrorCode::kIo, "the system refuses an eventfd");
  PERSEUS_RETURN_IF_ERROR(connect(deadline));
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("the system refuses a thread: {}", error.code().message()));
  }
  return {};
}

core::Status ClockLink::Impl::connect(wire::Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(format::UniqueFd socket, endpoint_->dial(deadline));
  PERSEUS_ASSIGN_OR_RETURN(wire::Welcome welcome, say_hello(socket.get(), options_.client, deadline));
  close_in_children(socket.get());
  socket_ = std::move(socket);
  const std::lock_guard lock(mutex_);
  welcome_ = std::move(welcome);
  connected_ = true;
  return {};
}

void ClockLink::Impl::wake() const {
  const std::uint64_t one = 1;
  static_cast<void>(::write(wake_.get(), &one, sizeof one) ==
                    0);  // cannot fail: the counter is far from full
}

void ClockLink::Impl::run() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    reconnect_if_due();
    if (socket_) {
      renew_due();
      reacquire_lost();
      send_queued();
    }
    wait_until(next_event());
    if (socket_) receive();
  }
}

ClockLink::Impl::Clock::time_point ClockLink::Impl::next_event() const {
  const std::lock_guard lock(mutex_);
  if (!connected_) return options_.reconnect ? next_try_ : Clock::time_point::max();
  Clock::time_point next = Clock::time_point::max();
  for (const Held& held : held_) {
    if (held.phase == Held::Phase::kHeld) next = std::min(next, held.next_renewal);
    if (held.phase == Held::Phase::kLost && !held.asking) next = std::min(next, next_try_);
  }
  return next;
}

void ClockLink::Impl::wait_until(Clock::time_point event) {
  std::array<pollfd, 2> entries{pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0}};
  const auto left =
      std::clamp<Clock::duration>(event == Clock::time_point::max() ? 1h : event - Clock::now(), 0s, 1h);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec limit{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
  // A negative descriptor is skipped. A signal or an error only makes the next look come sooner.
  static_cast<void>(::ppoll(entries.data(), entries.size(), &limit, nullptr));
  std::uint64_t count = 0;
  static_cast<void>(::read(wake_.get(), &count, sizeof count) == 0);
}

void ClockLink::Impl::reconnect_if_due() {
  if (socket_) return;
  if (!options_.reconnect) {
    const std::lock_guard lock(mutex_);
    for (const auto& exchange : queued_)
      exchange->reply = core::fail(ErrorCode::kIo, "the connection has ended");
    queued_.clear();
    answered_.notify_all();
    return;
  }
  if (Clock::now() < next_try_) return;
  if (connect(wire::deadline_in(options_.reply_limit))) {
    backoff_.reset();
    next_try_ = Clock::time_point();
  } else {
    next_try_ = Clock::now() + backoff_.next();
  }
}

void ClockLink::Impl::push(wire::AgentRequest request, std::optional<std::size_t> reacquires) {
  auto exchange = std::make_shared<Exchange>();
  exchange->request = std::move(request);
  exchange->reacquires = reacquires;
  exchange->abandoned = !reacquires;
  queued_.push_back(std::move(exchange));
}

void ClockLink::Impl::renew_due() {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  for (Held& held : held_) {
    if (held.phase != Held::Phase::kHeld || now < held.next_renewal) continue;
    held.next_renewal = now + held.time_to_live / 3;
    push(wire::Renew{held.lease});
    // The other end has gone back to the baseline and serves new posts only.
    if (held.hold->state() == HoldState::kFailed) held.hold->post_again();
  }
}

void ClockLink::Impl::reacquire_lost() {
  if (Clock::now() < next_try_) return;
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < held_.size(); ++i) {
    Held& held = held_[i];
    if (held.phase != Held::Phase::kLost || held.asking) continue;
    held.asking = true;
    push(
        wire::Acquire{.gpu = held.hold->gpu(), .job = held.hold->job_, .time_to_live = options_.time_to_live},
        i);
  }
}

void ClockLink::Impl::send_queued() {
  std::unique_lock lock(mutex_);
  while (!queued_.empty()) {
    const auto exchange = queued_.front();
    queued_.pop_front();
    sent_.push_back(exchange);
    const bool stuck = sent_.size() > kMostUnanswered;
    lock.unlock();
    // Requests are small, and what a stuck peer does not read is not waited for.
    const core::Status sent =
        stuck ? core::fail(ErrorCode::kTimeout, "the other end has stopped answering")
              : wire::send_packet(socket_.get(), wire::encode(exchange->request), -1, kAtOnce);
    if (!sent) return disconnect(sent.error());
    lock.lock();
  }
}

void ClockLink::Impl::receive() {
  for (;;) {
    auto packet = wire::receive_packet(socket_.get(), wire::kMaxAgentPacket, kAtOnce);
    if (!packet && packet.error().code() == ErrorCode::kTimeout) return;
    if (!packet) return disconnect(packet.error());
    if (packet->end)
      return disconnect(core::Error(ErrorCode::kIo, "the other end has closed the connection"));
    auto reply = wire::parse_agent_reply(packet->bytes);
    if (!reply) return disconnect(reply.error());
    if (const auto* ended = std::get_if<wire::Ended>(&*reply)) {
      on_ended(*ended);
      continue;
    }
    const std::lock_guard lock(mutex_);
    if (sent_.empty()) continue;  // an answer to nothing
    const auto exchange = sent_.front();
    sent_.pop_front();
    answer(*exchange, *std::move(reply), std::move(packet->fd));
    answered_.notify_all();
  }
}

void ClockLink::Impl::answer(Exchange& exchange, wire::AgentReply reply, format::UniqueFd fd) {
  if (auto* granted = std::get_if<wire::Acquired>(&reply)) {
    return on_acquired(exchange, std::move(*granted), std::move(fd));
  }
  const auto* refusal = std::get_if<wire::Refusal>(&reply);
  if (const auto* renew = std::get_if<wire::Renew>(&exchange.request);
      renew != nullptr && refusal != nullptr) {
    on_refused_renewal(renew->lease, *refusal);
  }
  if (exchange.reacquires && refusal != nullptr) on_refused_reacquire(held_[*exchange.reacquires], *refusal);
  exchange.reply = refusal == nullptr
                       ? core::Result<wire::AgentReply>(std::move(reply))
                       : core::Result<wire::AgentReply>(std::unexpected(refusal_error(*refusal)));
}

void ClockLink::Impl::on_acquired(Exchange& exchange, wire::Acquired granted, format::UniqueFd fd) {
  const auto* asked = std::get_if<wire::Acquire>(&exchange.request);
  auto mailbox = wire::MailboxUser::map(fd.release());
  const bool wanted = asked != nullptr && mailbox && (exchange.reacquires || !exchange.abandoned);
  if (!wanted) {
    push(wire::Release{granted.lease});  // it came too late, or is of no use
    exchange.reply =
        mailbox ? core::Result<wire::AgentReply>(core::fail(ErrorCode::kTimeout, "the lease came too late"))
                : core::Result<wire::AgentReply>(std::unexpected(mailbox.error()));
    return;
  }
  const auto next_renewal = Clock::now() + granted.time_to_live / 3;
  if (exchange.reacquires) {
    Held& held = held_[*exchange.reacquires];
    held.asking = false;
    if (held.phase == Held::Phase::kOver) return push(wire::Release{granted.lease});
    held.lease = granted.lease;
    held.time_to_live = granted.time_to_live;
    held.next_renewal = next_renewal;
    held.phase = Held::Phase::kHeld;
    held.hold->reacquired_.fetch_add(1);
    held.hold->take(std::make_unique<wire::MailboxUser>(*std::move(mailbox)));
    return;
  }
  Held& held = held_.emplace_back();
  held.lease = granted.lease;
  held.time_to_live = granted.time_to_live;
  held.next_renewal = next_renewal;
  held.hold.reset(new ClockHold(asked->job, granted, *std::move(mailbox)));
  exchange.hold = held.hold.get();
  exchange.reply = std::move(granted);
}

ClockLink::Impl::Held* ClockLink::Impl::find(std::uint64_t lease) {
  const auto found = std::ranges::find_if(
      held_, [&](const Held& held) { return held.phase == Held::Phase::kHeld && held.lease == lease; });
  return found == held_.end() ? nullptr : &*found;
}

void ClockLink::Impl::on_ended(const wire::Ended& ended) {
  const std::lock_guard lock(mutex_);
  if (Held* held = find(ended.lease)) take_back(*held, ended.reason);
}

void ClockLink::Impl::on_refused_renewal(std::uint64_t lease, const wire::Refusal& refusal) {
  Held* held = find(lease);
  if (held != nullptr && refusal.code == ErrorCode::kNotFound) take_back(*held, refusal.message);
}

void ClockLink::Impl::take_back(Held& held, const std::string& reason) {
  const HoldState state = held.hold->state();
  if (state == HoldState::kYielded || state == HoldState::kNoEffect) {
    held.phase = Held::Phase::kOver;
    held.hold->end(reason);
    return;
  }
  // It ran out while this process was stopped, or the other end had to let go of the GPU for a while: asked
  // for again, with back-off, until somebody says why not.
  held.phase = Held::Phase::kLost;
  held.hold->take(nullptr);
  next_try_ = Clock::now() + backoff_.next();
}

void ClockLink::Impl::on_refused_reacquire(Held& held, const wire::Refusal& refusal) {
  held.asking = false;
  if (may_pass(refusal.code)) {
    next_try_ = Clock::now() + backoff_.next();
    return;
  }
  held.phase = Held::Phase::kOver;
  held.hold->end(refusal.message);
}

void ClockLink::Impl::disconnect(const core::Error& why) {
  keep_in_children(socket_.get());
  socket_.reset();
  next_try_ = Clock::now() + backoff_.next();
  const std::lock_guard lock(mutex_);
  connected_ = false;
  for (auto* list : {&sent_, &queued_}) {
    for (const auto& exchange : *list) exchange->reply = std::unexpected(why);
    list->clear();
  }
  for (Held& held : held_) {
    held.asking = false;
    if (held.phase != Held::Phase::kHeld) continue;
    held.phase = Held::Phase::kLost;
    held.hold->take(nullptr);
  }
  answered_.notify_all();
}

core::Result<std::shared_ptr<ClockLink::Impl::Exchange>> ClockLink::Impl::ask(wire::AgentRequest request,
                                                                              wire::Deadline deadline) {
  if (in_child())
    return core::fail(ErrorCode::kUnsupported, "this process is a fork of the one that opened the link");
  auto exchange = std::make_shared<Exchange>();
  exchange->request = std::move(request);
  std::unique_lock lock(mutex_);
  queued_.push_back(exchange);
  wake();
  while (!exchange->reply) {
    if (answered_.wait_until(lock, deadline) == std::cv_status::timeout && !exchange->reply) {
      exchange->abandoned = true;
      std::erase(queued_, exchange);
      return core::fail(ErrorCode::kTimeout, fmt::format("{} did not answer in time", endpoint_->name()));
    }
  }
  return exchange;
}

core::Result<wire::AgentReply> ClockLink::Impl::request(const wire::AgentRequest& request,
                                                        wire::Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(const auto exchange, ask(request, deadline));
  return *exchange->reply;
}

core::Result<ClockHold*> ClockLink::Impl::acquire(const std::string& gpu, const std::string& job,
                                                  wire::Deadline deadline) {
  if (!in_child()) {
    const std::lock_guard lock(mutex_);
    if (held_.size() >= kMaxHolds) {
      return core::fail(ErrorCode::kLimit, fmt::format("{} leases of one link; the limit", kMaxHolds));
    }
  }
  PERSEUS_ASSIGN_OR_RETURN(
      const auto exchange,
      ask(wire::Acquire{.gpu = gpu, .job = job, .time_to_live = options_.time_to_live}, deadline));
  if (!*exchange->reply) return std::unexpected(exchange->reply->error());
  if (exchange->hold != nullptr) return exchange->hold;
  return core::fail(ErrorCode::kInvalidInput,
                    fmt::format("{} answered with something else than a lease", endpoint_->name()));
}

core::Status ClockLink::Impl::release(ClockHold& hold, wire::Deadline deadline) {
  if (in_child())
    return core::fail(ErrorCode::kUnsupported, "this process is a fork of the one that opened the link");
  std::uint64_t lease = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto held = std::ranges::find_if(held_, [&](const Held& one) { return one.hold.get() == &hold; });
    if (held == held_.end()) return core::fail(ErrorCode::kInvalidInput, "this lease is another link's");
    const Held::Phase phase = std::exchange(held->phase, Held::Phase::kOver);
    lease = held->lease;
    hold.end("released");
    if (phase == Held::Phase::kOver) return {};
    if (phase == Held::Phase::kLost) {
      return core::fail(ErrorCode::kIo, fmt::format("there is no connection to {}, which restores by itself",
                                                    endpoint_->name()));
    }
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto exchange, ask(wire::Release{lease}, deadline));
  if (!*exchange->reply) return std::unexpected(exchange->reply->error());
  if (std::holds_alternative<wire::Ok>(**exchange->reply)) return {};
  return core::fail(ErrorCode::kInvalidInput,
                    fmt::format("{} answered a release with something else", endpoint_->name()));
}

std::vector<wire::AgentGpu> ClockLink::Impl::gpus() const {
  if (in_child()) return {};
  const std::lock_guard lock(mutex_);
  return welcome_.gpus;
}

std::string ClockLink::Impl::peer() const {
  if (in_child()) return {};
  const std::lock_guard lock(mutex_);
  return fmt::format("{} (version {}, backend {})", endpoint_->name(), welcome_.version, welcome_.backend);
}

bool ClockLink::Impl::connected() const {
  if (in_child()) return false;
  const std::lock_guard lock(mutex_);
  return connected_;
}

}  // namespace perseus::client
