// SPDX-License-Identifier: Apache-2.0
//
// The half of a conversation in which the rank speaks: registration, hello, renewals, reports, goodbye. One
// message at a time, so that sequences arrive in order.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "perseus/client/conversation.h"

namespace perseus::client {
namespace {

using namespace std::chrono_literals;
using Milliseconds = std::chrono::milliseconds;

/// How far a rank goes on when the server has seen higher sequences of it: 50 days of milliseconds, which is
/// what sequences begin with; then twice as far each time, up to 2^48.
constexpr std::uint64_t kSequenceJump = std::uint64_t{1} << 32;
constexpr int kMostJumps = 16;

/// A server that asks for renewals more often than that is wrong (assumed).
constexpr Milliseconds kLeastRenewal = 100ms;

Milliseconds renewal_for(core::Seconds rank_ttl) {
  const auto third = Milliseconds(static_cast<std::int64_t>(rank_ttl.value() / 3 * 1000));
  return std::max(third, kLeastRenewal);
}

}  // namespace

std::string Conversation::path_of(std::string_view route) const {
  return fmt::format("/api/v1/jobs/{}{}{}", given_.options.job.name, route.empty() ? "" : "/", route);
}

Conversation::Task<Conversation::Reply> Conversation::send(std::string method, std::string path,
                                                           std::string body) {
  const LinkTimes& times = given_.options.times;
  HttpQuestion question{std::move(method), std::move(path), std::move(body)};
  const HttpWaits waits{times.connect, times.answer, times.answer};
  core::Result<HttpAnswer> answer = co_await messages_.ask(std::move(question), waits);
  co_return judge(Channel::kMessages, std::move(answer));
}

Conversation::Task<void> Conversation::talk() {
  while (!stopping_) {
    if (joined_) {
      co_await converse();
    } else {
      co_await join_or_wait();
    }
  }
  co_await say_goodbye();
  stop_timer_.cancel();
  messages_.close_for_good();
}

// ---- Becoming known

Milliseconds Conversation::time_before_join() {
  const auto refused_for = std::chrono::ceil<Milliseconds>(refused_until_ - Clock::now());
  // The server has forgotten this rank, learned of it and forgotten it again: not in a tight loop.
  const Milliseconds pause = forgotten_in_a_row_ > 1 ? talk_jitter_.next() : 0ms;
  return std::max(refused_for, pause);
}

Conversation::Task<void> Conversation::join_or_wait() {
  const Milliseconds pause = time_before_join();
  if (pause > 0ms) co_await wait(talk_pause_, pause);
  if (stopping_) co_return;
  if (std::exchange(token_is_old_, false)) read_token_again();
  const Reply reply = co_await join();
  switch (reply.outcome) {
    case Outcome::kDone:
      joined();
      break;
    case Outcome::kUnknown:
      co_await wait(talk_pause_, join_jitter_.next());
      break;
    case Outcome::kRetry:
      co_await wait(talk_pause_, std::max<Milliseconds>(talk_jitter_.next(), reply.retry_after.value_or(0s)));
      break;
    case Outcome::kRejected:
    case Outcome::kRefused:
      refuse(reply);
      break;
  }
}

Conversation::Task<Conversation::Reply> Conversation::join() {
  const RankPlace& place = given_.options.place;
  const bool registers = place.dp == 0 && place.pp == 0 && place.tp == 0;
  if (registers && !registered_) {
    Reply reply = co_await send("PUT", path_of(""), registration_body(given_.options.job));
    if (reply.outcome != Outcome::kDone) co_return reply;
    registered_ = true;
  }
  Reply reply = co_await say_hello();
  if (reply.outcome == Outcome::kUnknown) {
    registered_ = false;
    if (!registers && !std::exchange(told_waiting_, true)) {
      outage_.say(false, fmt::format("job {} is not registered yet; waiting for rank 0.0.0",
                                     given_.options.job.name));
    }
  }
  co_return reply;
}

void Conversation::joined() {
  joined_ = true;
  ++lives_;
  have_ = 0;
  numbers_anew_ = true;
  told_waiting_ = false;
  refused_why_.clear();
  join_jitter_.reset();
  if (forgotten_in_a_row_ == 0) talk_jitter_.reset();
  // A message that waits gets a new number: the server has seen none of the old ones, or has forgotten them.
  if (pending_) pending_->sequence = 0;
  outage_.worked(Channel::kMessages, Clock::now());
  // Whether the plan that is held is still what is deployed, the first poll will tell.
  if (!held_) listener_->on_contact();
  plans_.cut();  // a poll of the life before may wait there for a minute
  follow_idle_.cancel();
}

Conversation::Task<Conversation::Reply> Conversation::say_hello() {
  GpuFacts facts;
  std::uint64_t version = 0;
  {
    const std::lock_guard lock(mutex_);
    facts = gpu_;
    version = gpu_version_;
  }
  for (int jump = 0;; ++jump) {
    bool applied = false;
    Reply reply = co_await say_once(facts, applied);
    if (reply.outcome != Outcome::kDone) co_return reply;
    if (applied) {
      said_gpu_ = version;
      co_return reply;
    }
    // The server has seen higher numbers of this rank: of a process before this one whose clock was ahead.
    sequence_ += kSequenceJump << static_cast<unsigned>(jump);
    if (jump < kMostJumps && !stopping_) continue;
    reply.outcome = Outcome::kRetry;
    note_nonsense(Channel::kMessages, "hello is not taken, whatever its sequence");
    co_return reply;
  }
}

Conversation::Task<Conversation::Reply> Conversation::say_once(const GpuFacts& facts, bool& applied) {
  const ServerLinkOptions& o = given_.options;
  const Stamp stamp{o.job.incarnation, ++sequence_};
  Reply reply =
      co_await send("POST", path_of("ranks"), hello_body(stamp, o.place, given_.fence, facts, step_.load()));
  if (reply.outcome != Outcome::kDone) co_return reply;
  const auto parsed = parse_applied(reply.body);
  if (!parsed) {
    reply.outcome = Outcome::kRetry;
    note_nonsense(Channel::kMessages, parsed.error().text());
    co_return reply;
  }
  applied = parsed->applied;
  renewal_ = renewal_for(parsed->rank_ttl);
  renewal_due_ = Clock::now() + renewal_;
  co_return reply;
}

void Conversation::read_token_again() {
  const std::string& file = given_.options.server.token_file;
  if (file.empty()) return;
  if (auto token = format::read_token(file)) peer_.token = *std::move(token);
}

// ---- Talking

Conversation::Task<void> Conversation::converse() {
  nudged_ = false;
  Reply reply;
  if (gpu_is_news()) {
    reply = co_await say_gpu();
  } else if (Pending* const report = take_report(); report != nullptr) {
    reply = co_await say_report(*report);
  } else if (Clock::now() >= renewal_due_) {
    reply = co_await say_renewal();
  } else {
    if (!nudged_ && !stopping_) {
      talk_idle_.expires_at(renewal_due_);
      boost::system::error_code ignored;
      co_await talk_idle_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }
    co_return;
  }
  if (stopping_) co_return;
  if (reply.outcome == Outcome::kDone) {
    talk_jitter_.reset();
  } else if (reply.outcome == Outcome::kRetry) {
    co_await wait(talk_pause_, std::max<Milliseconds>(talk_jitter_.next(), reply.retry_after.value_or(0s)));
  } else if (joined_) {
    leave_server(reply);
  }
}

bool Conversation::gpu_is_news() {
  const std::lock_guard lock(mutex_);
  return gpu_version_ != said_gpu_;
}

Conversation::Pending* Conversation::take_report() {
  if (pending_) return &*pending_;
  const std::lock_guard lock(mutex_);
  if (reports_.empty()) return nullptr;
  Pending& taken = pending_.emplace(Pending{std::move(reports_.front()), 0, 0});
  reports_.pop_front();
  return &taken;
}

Conversation::Task<Conversation::Reply> Conversation::say_gpu() {
  Reply reply = co_await say_hello();
  if (reply.outcome == Outcome::kDone) {
    outage_.worked(Channel::kMessages, Clock::now());
  } else if (reply.outcome == Outcome::kRejected) {
    outage_.say(true, fmt::format("the server does not take what this rank says of its GPU ({})", reply.why));
    const std::lock_guard lock(mutex_);
    said_gpu_ = gpu_version_;
    reply.outcome = Outcome::kDone;
  }
  co_return reply;
}

Conversation::Task<Conversation::Reply> Conversation::say_report(Pending& pending) {
  // Said again after a lost answer it keeps its number, so that it counts once.
  if (pending.sequence == 0) pending.sequence = ++sequence_;
  const Stamp stamp{given_.options.job.incarnation, pending.sequence};
  Reply reply = co_await send(
      "POST",
      path_of(fmt::format("ranks/{}/{}", place_text(given_.options.place), report_route(pending.report))),
      report_body(stamp, pending.report));
  // 404 again, right after a hello: what this server does not know is not the rank, but this kind of report.
  const bool no_such_route = reply.outcome == Outcome::kUnknown && pending.unknown_in_life == lives_ - 1 &&
                             pending.unknown_in_life != 0;
  if (reply.outcome == Outcome::kRejected || no_such_route) {
    dropped_reports_.fetch_add(1);
    outage_.say(true, fmt::format("the server does not take a report to {} ({})",
                                  report_route(pending.report), reply.why));
    pending_.reset();
    reply.outcome = Outcome::kDone;
    co_return reply;
  }
  if (reply.outcome == Outcome::kUnknown) pending.unknown_in_life = lives_;
  if (reply.outcome == Outcome::kDone) {
    reply = apply(std::move(reply));
    if (reply.outcome == Outcome::kDone) pending_.reset();
  }
  co_return reply;
}

Conversation::Task<Conversation::Reply> Conversation::say_renewal() {
  const Stamp stamp{given_.options.job.incarnation, ++sequence_};
  Reply reply =
      co_await send("POST", path_of(fmt::format("ranks/{}/renew", place_text(given_.options.place))),
                    renewal_body(stamp, step_.load()));
  if (reply.outcome == Outcome::kRejected) {
    note_nonsense(Channel::kMessages, reply.why);
    reply.outcome = Outcome::kRetry;
  }
  co_return reply.outcome == Outcome::kDone ? apply(std::move(reply)) : std::move(reply);
}

Conversation::Reply Conversation::apply(Reply reply) {
  const auto applied = parse_applied(reply.body);
  if (!applied) {
    note_nonsense(Channel::kMessages, applied.error().text());
    reply.outcome = Outcome::kRetry;
    return reply;
  }
  renewal_ = renewal_for(applied->rank_ttl);
  renewal_due_ = Clock::now() + renewal_;
  check_revision(applied->revision);
  return reply;
}

void Conversation::check_revision(std::uint64_t revision) {
  if (revision == have_) {
    behind_.reset();
    contact(Channel::kMessages);
    return;
  }
  // There is news, and the poll has not brought it yet. Usually it is on its way; a poll that was there
  // before the news and still has not brought it is dead. Until then this is no sign of life for the plan
  // that is held.
  const auto now = Clock::now();
  outage_.worked(Channel::kMessages, now);
  if (!behind_ || behind_->have != have_ || poll_begun_ > behind_->since) {
    behind_ = Behind{have_, now};
  } else if (now - behind_->since >= given_.options.times.answer) {
    behind_.reset();
    plans_.cut();
  }
}

Conversation::Task<void> Conversation::say_goodbye() {
  if (!joined_) co_return;
  for (Pending* report = take_report(); report != nullptr && Clock::now() < stop_at_;
       report = take_report()) {
    const Reply reply = co_await say_report(*report);
    if (reply.outcome != Outcome::kDone) co_return;
  }
  if (Clock::now() >= stop_at_) co_return;
  const Stamp stamp{given_.options.job.incarnation, ++sequence_};
  const Reply ignored =
      co_await send("POST", path_of(fmt::format("ranks/{}/leave", place_text(given_.options.place))),
                    renewal_body(stamp, step_.load()));
}

}  // namespace perseus::client
