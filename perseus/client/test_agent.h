// SPDX-License-Identifier: Apache-2.0
//
// The smallest other end that a ClockLink can talk to: answers as scripted, holds mailboxes, and dies on
// command. For tests of this room; the real agent is in tests/python.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "perseus/client/clock_link.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/mailbox.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::client {

/// One agent that serves one connection at a time, each over a socket pair.
class TestAgent {
 public:
  /// What it knows of one lease.
  struct Box {
    std::uint64_t lease;
    wire::MailboxOwner mailbox;
  };

  TestAgent() = default;
  TestAgent(const TestAgent&) = delete;
  TestAgent& operator=(const TestAgent&) = delete;
  ~TestAgent() { die(); }

  /// A new connection; the one before must be dead. kBusy while `refuse_dial`.
  core::Result<format::UniqueFd> dial() {
    const std::lock_guard life(life_);
    end_connection();
    const std::lock_guard lock(mutex_);
    ++dials_;
    changed_.notify_all();
    if (refuse_dial) return core::fail(core::ErrorCode::kBusy, "nobody listens at this socket");
    auto pair = wire::seqpacket_pair();
    socket_ = std::move(pair->theirs);
    stop_ = false;
    thread_ = std::thread([this] { serve(); });
    return std::move(pair->ours);
  }
  /// As if killed: the connection ends, mailboxes go.
  void die() {
    const std::lock_guard life(life_);
    end_connection();
  }
  void send(const wire::AgentReply& message, int fd = -1) const {
    const core::Status sent = wire::send_packet(socket_.get(), wire::encode(message), fd,
                                                wire::deadline_in(std::chrono::seconds(10)));
    // A link that is being closed need not read its last answer.
    EXPECT_TRUE(sent || sent.error().code() == core::ErrorCode::kIo) << sent.error().text();
  }
  void send_bytes(const std::string& bytes) const {
    EXPECT_TRUE(wire::send_packet(socket_.get(), bytes, -1, wire::deadline_in(std::chrono::seconds(10))));
  }

  /// Waits until `holds` of what has happened so far, under the lock.
  template <class Holds>
  void wait_until(Holds&& holds) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return holds(); });
  }
  /// The latest word of the newest lease, once it has `sequence` or a later one.
  wire::ClockWord wait_for_post(std::uint32_t sequence) {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (!boxes_.empty() && boxes_.back().mailbox.latest().sequence >= sequence)
          return boxes_.back().mailbox.latest();
      }
      std::this_thread::yield();
    }
  }
  void answer(wire::ClockWord word, wire::ClockAnswer kind) {
    const std::lock_guard lock(mutex_);
    word.kind = static_cast<std::uint16_t>(kind);
    boxes_.back().mailbox.answer(word, 0, 0);
  }

  std::size_t dials() const {
    const std::lock_guard lock(mutex_);
    return dials_;
  }
  std::vector<wire::AgentRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t count(const std::string& type) const {
    const std::lock_guard lock(mutex_);
    const std::string start = R"({"type":")" + type + '"';
    std::size_t n = 0;
    for (const auto& request : requests_) n += wire::encode(request).starts_with(start) ? 1U : 0U;
    return n;
  }

  // What the script says; set before it matters.
  std::atomic<bool> refuse_dial = false;
  std::atomic<bool> answer_nothing = false;  ///< after the welcome
  std::optional<wire::Refusal> refuse_acquire;
  std::optional<wire::Refusal> refuse_renew;
  std::chrono::milliseconds time_to_live = wire::kDefaultTimeToLive;

 private:
  void end_connection() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    socket_.reset();
    const std::lock_guard lock(mutex_);
    boxes_.clear();
  }
  void serve() {
    while (!stop_) {
      auto packet = wire::receive_packet(socket_.get(), wire::kMaxAgentRequest,
                                         wire::deadline_in(std::chrono::milliseconds(5)));
      if (!packet && packet.error().code() == core::ErrorCode::kTimeout) continue;
      if (!packet || packet->end) return;
      const auto request = wire::parse_agent_request(packet->bytes);
      ASSERT_TRUE(request) << packet->bytes;
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
      EXPECT_FALSE(packet->fd) << "an agent takes no descriptors";
      reply(*request);
      changed_.notify_all();
    }
  }
  void reply(const wire::AgentRequest& request) {
    if (std::holds_alternative<wire::Hello>(request)) {
      return send(wire::Welcome{.version = "test",
                                .backend = "none",
                                .gpus = {{.index = 0,
                                          .uuid = "GPU-a",
                                          .name = "A100",
                                          .clocks = clocks(),
                                          .controllable = true,
                                          .reason = {}}}});
    }
    if (answer_nothing) return;
    if (std::holds_alternative<wire::Acquire>(request))
      return refuse_acquire ? send(*refuse_acquire) : grant();
    if (std::holds_alternative<wire::Renew>(request) && refuse_renew) return send(*refuse_renew);
    send(wire::Ok{});
  }
  void grant() {
    auto mailbox = wire::MailboxOwner::create();
    ASSERT_TRUE(mailbox);
    const wire::AgentReply granted = wire::Acquired{.lease = ++last_lease_,
                                                    .gpu = "GPU-a",
                                                    .baseline = core::Megahertz(1305),
                                                    .clocks = clocks(),
                                                    .time_to_live = time_to_live};
    send(granted, mailbox->fd());
    boxes_.push_back({last_lease_, *std::move(mailbox)});
  }
  static std::vector<core::Megahertz> clocks() { return {core::Megahertz(900), core::Megahertz(915)}; }

  std::mutex life_;                     ///< the test kills while the link dials
  mutable std::recursive_mutex mutex_;  ///< recursive: counts are read inside wait_until()
  std::condition_variable_any changed_;
  std::vector<wire::AgentRequest> requests_;
  std::vector<Box> boxes_;
  std::size_t dials_ = 0;
  std::uint64_t last_lease_ = 0;
  format::UniqueFd socket_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class TestEndpoint final : public Endpoint {
 public:
  explicit TestEndpoint(TestAgent& agent) : agent_(agent) {}
  [[nodiscard]] core::Result<format::UniqueFd> dial(wire::Deadline) override { return agent_.dial(); }
  [[nodiscard]] std::string name() const override { return "the test agent"; }

 private:
  TestAgent& agent_;
};

}  // namespace perseus::client
