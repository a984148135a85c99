// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/conversation.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <new>
#include <system_error>
#include <utility>

namespace perseus::client {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using core::ErrorCode;
using namespace std::chrono_literals;
using Milliseconds = std::chrono::milliseconds;

/// Where sequences begin: a process that takes the place of another one in the same incarnation must be above
/// it. No other node's clock is compared with this; where it was set back, the jump below helps.
std::uint64_t first_sequence() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<Milliseconds>(since_1970).count();
  return static_cast<std::uint64_t>(std::clamp<std::int64_t>(ms, 1, std::int64_t{1} << 48));
}

/// An answer to a poll that is no news and comes sooner than that is not what was asked for (assumed).
constexpr Milliseconds kTooSoon = 1s;
/// More polls than that in a second are none: a plan takes two (assumed).
constexpr std::uint32_t kMostPollsPerSecond = 20;

bool is_loopback(const std::string& host) {
  error_code no_number;
  const auto number = asio::ip::make_address(host, no_number);
  return no_number ? host == "localhost" : number.is_loopback();
}

/// Starts a thread that takes no signal of the program's.
template <class Work>
std::thread quiet_thread(Work&& work) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::forward<Work>(work));
  } catch (const std::system_error&) {
    thread = {};  // none: the caller looks
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

Conversation::Conversation(CheckedOptions checked)
    : given_(std::move(checked)),
      peer_{given_.url, given_.token, given_.tls.get(), given_.options.most_answer_bytes},
      messages_(io_, peer_),
      plans_(io_, peer_),
      talk_idle_(io_),
      talk_pause_(io_),
      follow_idle_(io_),
      follow_pause_(io_),
      stop_timer_(io_),
      talk_jitter_(given_.options.times.first_retry, given_.options.times.most_retry, given_.seed),
      join_jitter_(given_.options.times.first_retry, given_.options.times.most_wait_for_job, given_.seed + 1),
      follow_jitter_(given_.options.times.first_retry, given_.options.times.most_retry, given_.seed + 2),
      outage_("the server at " + url_text(given_.url), given_.options.times.quiet, given_.options.log),
      sequence_(first_sequence()),
      renewal_(given_.options.times.renewal) {}

void Conversation::start(ControlListener& listener) {
  const std::lock_guard lock(mutex_);
  if (stopped_ || listener_ != nullptr) return;
  listener_ = &listener;
  if (!peer_.token.empty() && !peer_.url.tls && !is_loopback(peer_.url.host)) {
    outage_.say(true, fmt::format("the token travels unencrypted to {}: use https", url_text(peer_.url)));
  }
  for (auto coroutine : {&Conversation::talk, &Conversation::follow}) {
    asio::co_spawn(io_, (this->*coroutine)(), [this](const std::exception_ptr& e) { end_by(e); });
  }
  thread_ = quiet_thread([this] { run(); });
  if (thread_.joinable()) {
    pthread_setname_np(thread_.native_handle(), "perseus-link");
  } else {
    outage_.say(true, "the system refuses a thread for the server's link: there will be no plans");
  }
}

void Conversation::run() {
  try {
    io_.run();
  } catch (const std::exception&) {  // a handler that ran out of memory: no more plans, no harm
    failures_.fetch_add(1);
  }
}

void Conversation::end_by(const std::exception_ptr& exception) {
  if (!exception) return;
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    outage_.say(true, fmt::format("the server's link has ended ({}): there will be no more plans", e.what()));
  }
  begin_stop(Clock::now());
}

void Conversation::stop(Milliseconds patience) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  if (!thread_.joinable()) return;
  asio::post(io_, [this, until = Clock::now() + std::max(patience, 0ms)] { begin_stop(until); });
  thread_.join();
}

void Conversation::begin_stop(Clock::time_point until) {
  stopping_ = true;
  stop_at_ = until;
  plans_.close_for_good();
  for (auto* timer : {&talk_idle_, &talk_pause_, &follow_idle_, &follow_pause_}) timer->cancel();
  stop_timer_.expires_at(until);
  stop_timer_.async_wait([this](const error_code& error) {
    if (!error) messages_.close_for_good();
  });
}

void Conversation::report(RankReport report) {
  {
    const std::lock_guard lock(mutex_);
    if (reports_.size() == kMostReports) {
      reports_.pop_front();
      dropped_reports_.fetch_add(1);
    }
    reports_.push_back(std::move(report));
  }
  asio::post(io_, [this] { nudge(); });
}

void Conversation::set_gpu(GpuFacts facts) {
  {
    const std::lock_guard lock(mutex_);
    if (facts == gpu_) return;
    gpu_ = std::move(facts);
    ++gpu_version_;
  }
  asio::post(io_, [this] { nudge(); });
}

void Conversation::nudge() {
  nudged_ = true;
  talk_idle_.cancel();
}

ControlLink::Counters Conversation::counters() const {
  return {dropped_reports_.load(), refused_answers_.load(), failures_.load()};
}

// ---- What an answer means

void Conversation::note_failure(Channel channel, std::string_view why) {
  failures_.fetch_add(1);
  outage_.failed(channel, why, Clock::now());
}

void Conversation::note_nonsense(Channel channel, std::string_view why) {
  refused_answers_.fetch_add(1);
  outage_.failed(channel, why, Clock::now());
}

void Conversation::contact(Channel channel) {
  outage_.worked(channel, Clock::now());
  forgotten_in_a_row_ = 0;
  listener_->on_contact();
}

Conversation::Reply Conversation::judge(Channel channel, core::Result<HttpAnswer> answer) {
  Reply reply;
  if (stopping_ && !answer) return reply;  // cut off by ourselves
  if (!answer) {
    const ErrorCode code = answer.error().code();
    reply.why = answer.error().text();
    const bool nonsense = code == ErrorCode::kInvalidInput || code == ErrorCode::kLimit;
    nonsense ? note_nonsense(channel, reply.why) : note_failure(channel, reply.why);
    return reply;
  }
  reply.status = answer->status;
  reply.retry_after = answer->retry_after;
  const unsigned status = answer->status;
  if (status == 200 || status == 201 || status == 204) {
    reply.outcome = Outcome::kDone;
    reply.body = std::move(answer->body);
    return reply;
  }
  reply.why = fmt::format("{}: {}", status, refusal_words(answer->body));
  if (status < 300) {
    note_nonsense(channel, reply.why);
  } else if (status >= 500 || status == 429 || status == 408) {
    note_failure(channel, reply.why);
  } else {
    outage_.worked(channel, Clock::now());
    const bool refused = status == 401 || status == 403 || status == 409;
    reply.outcome = status == 404 ? Outcome::kUnknown : refused ? Outcome::kRefused : Outcome::kRejected;
    reply.code = status == 409 ? ErrorCode::kBusy
                 : refused     ? ErrorCode::kPermission
                               : ErrorCode::kInvalidInput;
  }
  return reply;
}

void Conversation::leave_server(const Reply& reply) {
  joined_ = false;
  behind_.reset();
  plans_.cut();
  if (reply.outcome == Outcome::kUnknown) {
    ++forgotten_in_a_row_;
  } else {
    refuse(reply);
  }
  nudge();
}

void Conversation::refuse(const Reply& reply) {
  const Milliseconds most = given_.options.times.refused_retry;
  refused_until_ = Clock::now() + talk_jitter_.between(most / 2, most);
  token_is_old_ = reply.status == 401 || reply.status == 403;
  held_.reset();  // the listener drops it too: should the server take this rank again, the plan is news
  if (std::exchange(refused_why_, reply.why) == reply.why) return;
  outage_.say(true, fmt::format("the server at {} refuses this rank ({})", url_text(given_.url), reply.why));
  listener_->on_refused(core::Error(reply.code, reply.why, {"the server"}));
}

Conversation::Task<void> Conversation::wait(asio::steady_timer& timer, Milliseconds time) const {
  if (stopping_) co_return;
  timer.expires_after(time);
  error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

// ---- Plans

Conversation::Task<void> Conversation::follow() {
  while (!stopping_) {
    if (joined_) {
      co_await poll();
    } else {
      co_await wait(follow_idle_, 1h);
    }
  }
}

std::string Conversation::poll_path() const {
  return path_of(fmt::format("ranks/{}/plan?incarnation={}&have={}&step={}&wait_s={}",
                             place_text(given_.options.place), given_.options.job.incarnation, have_,
                             step_.load(std::memory_order_relaxed), given_.options.times.poll_wait.count()));
}

Milliseconds Conversation::pace() {
  const auto now = Clock::now();
  if (now - burst_begun_ >= 1s) {
    burst_begun_ = now;
    burst_polls_ = 0;
  }
  if (++burst_polls_ <= kMostPollsPerSecond) return 0ms;
  return std::chrono::ceil<Milliseconds>(burst_begun_ + 1s - now);
}

Conversation::Task<void> Conversation::poll() {
  if (const Milliseconds pause = pace(); pause > 0ms) co_await wait(follow_pause_, pause);
  if (stopping_ || !joined_) co_return;
  const std::uint64_t life = lives_;
  poll_begun_ = Clock::now();
  const LinkTimes& times = given_.options.times;
  HttpQuestion question{.method = "GET", .target = poll_path(), .body = ""};
  const HttpWaits waits{times.connect, times.poll_wait + times.poll_grace, times.answer};
  core::Result<HttpAnswer> answer = co_await plans_.ask(std::move(question), waits);
  // Said to a rank that this one is no more: it has said hello again since.
  if (stopping_ || !joined_ || life != lives_) co_return;
  const Reply reply = judge(Channel::kPlans, std::move(answer));
  if (reply.outcome == Outcome::kUnknown || reply.outcome == Outcome::kRefused) {
    leave_server(reply);
    co_return;
  }
  bool news = false;
  if (reply.outcome == Outcome::kDone && reply.status == 204) contact(Channel::kPlans);
  if (reply.outcome == Outcome::kDone && reply.status != 204) news = on_answer(reply.body);
  if (news || (reply.status == 204 &&
               Clock::now() - poll_begun_ >= std::min<Clock::duration>(kTooSoon, times.poll_wait / 2))) {
    follow_jitter_.reset();
    co_return;
  }
  co_await wait(follow_pause_, std::max<Milliseconds>(follow_jitter_.next(), reply.retry_after.value_or(0s)));
}

bool Conversation::on_answer(std::string_view body) {
  const core::Result<bool> news = deliver(body);
  if (!news) {
    have_ = 0;  // whatever it was, ask for all of it
    note_nonsense(Channel::kPlans, news.error().text());
    return false;
  }
  contact(Channel::kPlans);
  return *news;
}

core::Status Conversation::check_fence(const RankPlan& plan) const {
  const JobFacts& job = given_.options.job;
  const auto refuse = [](std::string what) {
    return core::fail(ErrorCode::kInvalidInput, std::move(what), {"answer"});
  };
  if (plan.job != job.name) return refuse(fmt::format("a plan of job {}, not {}", plan.job, job.name));
  if (plan.incarnation != job.incarnation) {
    return refuse(fmt::format("a plan of incarnation {}, not {}", plan.incarnation, job.incarnation));
  }
  if (plan.schedule_sha256 != given_.fence) {
    return refuse(fmt::format("a plan for schedule {}, not {}", plan.schedule_sha256, given_.fence));
  }
  return {};
}

core::Result<bool> Conversation::deliver(std::string_view body) {
  PERSEUS_ASSIGN_OR_RETURN(ReceivedPlan received, parse_rank_plan(body));
  PERSEUS_RETURN_IF_ERROR(check_fence(received.plan));
  PERSEUS_ASSIGN_OR_RETURN(RankPlan plan,
                           complete(std::move(received), numbers_anew_ ? nullptr : held_.get()));
  const bool same = held_ && plan == *held_;
  if (!same && !numbers_anew_ && held_ && plan.revision <= held_->revision) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("revision {} after revision {}", plan.revision, held_->revision),
                      {"answer"});
  }
  const bool asked_for = have_ != plan.revision;
  have_ = plan.revision;
  numbers_anew_ = false;
  if (same) return asked_for;
  held_ = std::make_shared<const RankPlan>(std::move(plan));
  listener_->on_plan(held_);
  return true;
}

}  // namespace perseus::client
