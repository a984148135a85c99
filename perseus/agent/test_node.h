// SPDX-License-Identifier: Apache-2.0
//
// For tests of the whole agent: one that runs in this process on GPUs that remember what was done to them,
// and a client that speaks its protocol by hand.
#pragma once

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "perseus/agent/daemon.h"
#include "perseus/format/files.h"
#include "perseus/lease/process_handle.h"
#include "perseus/wire/mailbox.h"
#include "perseus/wire/seqpacket.h"
#include "tests/fake_gpu/fake_device.h"
#include "tests/support/temporary_folder.h"

namespace perseus::agent::testing_node {

using core::Megahertz;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Longest wait for anything; a healthy agent answers within milliseconds.
inline constexpr seconds kPatience{20};

/// Runs an agent with two GPUs in a folder of its own.
class Node {
 public:
  explicit Node(const std::string& config = "{}\n", const std::string& grants = "grants: []\n") {
    write("agent.yaml", config);
    write("grants.yaml", grants);
    settings.socket = folder_.file("run/agent.sock");
    settings.state_dir = folder_.file("state");
    settings.config = folder_.file("agent.yaml");
    settings.grants = folder_.file("grants.yaml");
    settings.audit_log = folder_.file("audit.log");
  }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node() { (void)stop(); }
  void write(const char* name, std::string_view text) const {
    const std::string path = folder_.file(name);
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0600);
  }
  core::Status start(ProcTree processes = ProcTree()) {
    auto backend = std::make_unique<tests::FakeBackend>(2);
    gpus = backend.get();
    PERSEUS_ASSIGN_OR_RETURN(daemon, Daemon::open(settings, std::move(backend), std::move(processes)));
    if (!wait_) run();
    return {};
  }
  /// start() then only listens, until run().
  void wait() { wait_ = true; }
  void run() {
    thread_ = std::thread([this] { all_back_ = daemon->run(); });
  }
  /// Ends the agent; whether it said that every GPU is back.
  bool stop() {
    if (!thread_.joinable()) return all_back_;
    daemon->request_stop();
    thread_.join();
    daemon.reset();
    return all_back_;
  }
  [[nodiscard]] std::string audit() const {
    return format::read_file(settings.audit_log, 1 << 20).value_or("");
  }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }

  DaemonSettings settings;
  std::unique_ptr<Daemon> daemon;
  tests::FakeBackend* gpus = nullptr;

 private:
  const tests::TemporaryFolder folder_;
  std::thread thread_;
  bool all_back_ = false;
  bool wait_ = false;
};

/// A client that speaks the protocol by hand.
class Client {
 public:
  explicit Client(const Node& node)
      : socket_(wire::connect_seqpacket(node.settings.socket, wire::deadline_in(kPatience)).value()) {}
  wire::AgentReply hello() { return ask(wire::Hello{.client = "test"}); }
  void send(const wire::AgentRequest& request, int fd = -1) {
    EXPECT_TRUE(wire::send_packet(socket_.get(), wire::encode(request), fd, wire::deadline_in(kPatience)));
  }
  wire::AgentReply ask(const wire::AgentRequest& request, int fd = -1) {
    send(request, fd);
    return next();
  }
  wire::AgentReply next() {
    auto packet = wire::receive_packet(socket_.get(), wire::kMaxAgentPacket, wire::deadline_in(kPatience));
    if (!packet) {
      ADD_FAILURE() << packet.error().text();
      return wire::Ok{};
    }
    ended = packet->end;
    if (ended) return wire::Ok{};
    received_fd = std::move(packet->fd);
    auto reply = wire::parse_agent_reply(packet->bytes);
    EXPECT_TRUE(reply) << reply.error().text() << packet->bytes;
    return reply ? *std::move(reply) : wire::AgentReply(wire::Ok{});
  }
  wire::Acquired acquire(const std::string& gpu, milliseconds time_to_live = wire::kDefaultTimeToLive) {
    auto reply = ask(wire::Acquire{.gpu = gpu, .job = "job", .time_to_live = time_to_live});
    const auto* acquired = std::get_if<wire::Acquired>(&reply);
    EXPECT_TRUE(acquired != nullptr) << wire::encode(reply);
    if (acquired == nullptr) return {};
    auto mapped = wire::MailboxUser::map(received_fd.release());
    EXPECT_TRUE(mapped) << mapped.error().text();
    mailbox = std::make_unique<wire::MailboxUser>(*std::move(mapped));
    return *acquired;
  }
  /// Posts and waits for the answer to that very post.
  wire::ClockWord set(Megahertz clock) const {
    const std::uint32_t sequence = mailbox->post(clock);
    return wait_for([&] { return mailbox->applied().sequence == sequence; }), mailbox->applied();
  }
  template <class Condition>
  static void wait_for(Condition&& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    bool holds = condition();
    while (!holds && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
      holds = condition();
    }
    EXPECT_TRUE(holds);
  }
  void close() { socket_.reset(); }
  [[nodiscard]] int fd() const { return socket_.get(); }

  std::unique_ptr<wire::MailboxUser> mailbox;
  format::UniqueFd received_fd;
  bool ended = false;

 private:
  format::UniqueFd socket_;
};

inline wire::ClockAnswer kind_of(wire::ClockWord word) {
  return static_cast<wire::ClockAnswer>(word.kind);
}

inline std::string refusal_of(const wire::AgentReply& reply) {
  const auto* refusal = std::get_if<wire::Refusal>(&reply);
  return refusal == nullptr ? "no refusal: " + wire::encode(reply) : refusal->message;
}

/// Readings of GPU 0 so far, as the metrics file tells.
inline double readings_of(const Node& node) {
  const std::string text = format::read_file(node.folder() + "/run/metrics.prom", 1 << 20).value_or("");
  const std::string key = R"(uuid=")" + node.gpus->device(0).identity().uuid + R"(",result="ok"} )";
  const std::size_t at = text.find(key, text.find("perseus_gpu_readings_total{"));
  return at == std::string::npos ? 0 : std::stod(text.substr(at + key.size()));
}

}  // namespace perseus::agent::testing_node
