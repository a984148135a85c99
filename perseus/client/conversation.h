// SPDX-License-Identifier: Apache-2.0
//
// A rank's conversation with the server: who says what when, and what becomes of each answer. Two coroutines
// on one thread, each with a connection of its own: talk() registers, says hello, renews and reports;
// follow() waits for plans. docs/rank_protocol.md tells the same by example.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "perseus/client/control_link.h"
#include "perseus/client/full_jitter.h"
#include "perseus/client/http_connection.h"
#include "perseus/client/outage_log.h"
#include "perseus/client/rank_messages.h"
#include "perseus/client/rank_plan_json.h"
#include "perseus/client/server_link.h"

namespace perseus::client {

/// Of more reports that wait, the oldest is dropped.
inline constexpr std::size_t kMostReports = 256;

/// What make_server_link() has found out about its options.
struct CheckedOptions {
  ServerLinkOptions options;
  std::string fence;
  format::ServerUrl url;
  std::string token;
  std::unique_ptr<boost::asio::ssl::context> tls;  ///< null without https
  std::uint64_t seed = 0;
};

/// Public functions are those of ServerLink, with its thread rules; fork() is its owner's business.
class Conversation {
 public:
  explicit Conversation(CheckedOptions checked);
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;
  ~Conversation() { stop(std::chrono::milliseconds(0)); }

  void start(ControlListener& listener);
  void at_step(std::uint64_t step) noexcept { step_.store(step, std::memory_order_relaxed); }
  void report(RankReport report);
  void set_gpu(GpuFacts facts);
  void stop(std::chrono::milliseconds patience);
  [[nodiscard]] ControlLink::Counters counters() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Channel = OutageLog::Channel;
  template <class T>
  using Task = boost::asio::awaitable<T>;

  /// What an answer means for what was said.
  enum class Outcome : std::uint8_t {
    kDone,      ///< accepted
    kRetry,     ///< no answer, or none that makes sense, or "not now"
    kUnknown,   ///< 404: the server knows no such job or rank
    kRejected,  ///< the server cannot do anything with this message
    kRefused,   ///< the server wants nothing from this rank
  };
  struct Reply {
    Outcome outcome = Outcome::kRetry;
    std::string why;  ///< unless kDone
    core::ErrorCode code = core::ErrorCode::kIo;
    std::optional<std::chrono::seconds> retry_after;
    unsigned status = 0;
    std::string body;  ///< of an accepted message
  };
  /// A report with the stamp that it keeps when it has to be said again.
  struct Pending {
    RankReport report;
    std::uint64_t sequence = 0;
    std::uint64_t unknown_in_life = 0;  ///< `lives_` when it was answered with 404
  };

  /// Since when the server is known to have news that the poll does not bring.
  struct Behind {
    std::uint64_t have = 0;
    Clock::time_point since;
  };

  // Both coroutines.
  void run();
  void begin_stop(Clock::time_point until);
  void end_by(const std::exception_ptr& exception);
  Reply judge(Channel channel, core::Result<HttpAnswer> answer);
  void note_failure(Channel channel, std::string_view why);
  void note_nonsense(Channel channel, std::string_view why);
  void contact(Channel channel);
  void leave_server(const Reply& reply);
  void refuse(const Reply& reply);
  Task<void> wait(boost::asio::steady_timer& timer, std::chrono::milliseconds time) const;

  // talk(): messages with a sequence.
  Task<void> talk();
  Task<Reply> send(std::string method, std::string path, std::string body);
  Task<void> join_or_wait();
  Task<Reply> join();
  void joined();
  Task<Reply> say_hello();
  Task<Reply> say_once(const GpuFacts& facts, bool& applied);
  Task<void> converse();
  Task<Reply> say_gpu();
  Task<Reply> say_report(Pending& pending);
  Task<Reply> say_renewal();
  Task<void> say_goodbye();
  [[nodiscard]] Pending* take_report();
  [[nodiscard]] std::chrono::milliseconds time_before_join();
  bool gpu_is_news();
  Reply apply(Reply reply);
  void check_revision(std::uint64_t revision);
  void read_token_again();
  void nudge();
  [[nodiscard]] std::string path_of(std::string_view route) const;

  // follow(): plans.
  Task<void> follow();
  Task<void> poll();
  bool on_answer(std::string_view body);
  core::Result<bool> deliver(std::string_view body);
  [[nodiscard]] core::Status check_fence(const RankPlan& plan) const;
  [[nodiscard]] std::string poll_path() const;
  [[nodiscard]] std::chrono::milliseconds pace();

  // Of any thread.
  CheckedOptions given_;
  std::atomic<std::uint64_t> step_{0};
  std::atomic<std::uint64_t> dropped_reports_{0};
  std::atomic<std::uint64_t> refused_answers_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::mutex mutex_;  ///< of the four below
  std::deque<RankReport> reports_;
  GpuFacts gpu_;
  std::uint64_t gpu_version_ = 1;
  bool stopped_ = false;
  std::thread thread_;

  // Of the link's thread.
  boost::asio::io_context io_{1};
  HttpPeer peer_;
  HttpConnection messages_;
  HttpConnection plans_;
  boost::asio::steady_timer talk_idle_;  ///< until something is to be said
  boost::asio::steady_timer talk_pause_;
  boost::asio::steady_timer follow_idle_;  ///< until the server knows this rank
  boost::asio::steady_timer follow_pause_;
  boost::asio::steady_timer stop_timer_;
  FullJitter talk_jitter_;
  FullJitter join_jitter_;  ///< while the job is not registered
  FullJitter follow_jitter_;
  OutageLog outage_;
  ControlListener* listener_ = nullptr;
  bool stopping_ = false;
  Clock::time_point stop_at_;

  bool registered_ = false;               ///< rank 0.0.0: the job is
  bool joined_ = false;                   ///< the server knows this rank
  std::uint64_t lives_ = 0;               ///< how often it has learned of it
  std::uint32_t forgotten_in_a_row_ = 0;  ///< 404s with nothing but a hello in between
  bool told_waiting_ = false;             ///< that the job is not registered yet
  std::string refused_why_;               ///< what the listener has heard last
  Clock::time_point refused_until_;
  bool token_is_old_ = false;   ///< it was refused: read the file again
  bool nudged_ = false;         ///< there is something to say
  std::uint64_t sequence_;      ///< of the last message
  std::uint64_t said_gpu_ = 0;  ///< version of the facts in the last hello
  std::optional<Pending> pending_;
  Clock::time_point renewal_due_;
  std::chrono::milliseconds renewal_;

  std::shared_ptr<const RankPlan> held_;
  std::uint64_t have_ = 0;        ///< what the server is told of `held_`; 0: it sends everything
  bool numbers_anew_ = true;      ///< the server may count revisions from the beginning again
  std::optional<Behind> behind_;  ///< a message's answer told of another revision than `have_`
  Clock::time_point poll_begun_;
  Clock::time_point burst_begun_;
  std::uint32_t burst_polls_ = 0;
};

}  // namespace perseus::client
