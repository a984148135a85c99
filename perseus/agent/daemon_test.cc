// SPDX-License-Identifier: Apache-2.0
//
// The whole agent in this process, on GPUs that remember what was done to them, spoken to over its socket.
#include "perseus/agent/daemon.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "perseus/agent/admin.h"
#include "perseus/format/files.h"
#include "perseus/lease/process_handle.h"
#include "perseus/wire/mailbox.h"
#include "perseus/wire/seqpacket.h"
#include "tests/fake_gpu/fake_device.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using core::Megahertz;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::Call;

/// Longest wait for anything; a healthy agent answers within milliseconds.
constexpr seconds kPatience{20};

/// Runs an agent with two GPUs in a folder of its own.
class Node {
 public:
  explicit Node(std::string config = "{}\n", std::string grants = "grants: []\n") {
    std::string name = testing::TempDir() + "node_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    write("agent.yaml", config);
    write("grants.yaml", grants);
    settings.socket = folder_ + "/run/agent.sock";
    settings.state_dir = folder_ + "/state";
    settings.config = folder_ + "/agent.yaml";
    settings.grants = folder_ + "/grants.yaml";
    settings.audit_log = folder_ + "/audit.log";
  }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node() {
    (void)stop();
    std::filesystem::remove_all(folder_);
  }
  void write(const char* name, std::string_view text) const {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0600);
  }
  core::Status start(ProcTree processes = ProcTree()) {
    auto backend = std::make_unique<tests::FakeBackend>(2);
    gpus = backend.get();
    PERSEUS_ASSIGN_OR_RETURN(daemon, Daemon::open(settings, std::move(backend), std::move(processes)));
    thread_ = std::thread([this] { all_back_ = daemon->run(); });
    return {};
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
  [[nodiscard]] const std::string& folder() const { return folder_; }

  DaemonSettings settings;
  std::unique_ptr<Daemon> daemon;
  tests::FakeBackend* gpus = nullptr;

 private:
  std::string folder_;
  std::thread thread_;
  bool all_back_ = false;
};

/// A client that speaks the protocol by hand.
class Client {
 public:
  explicit Client(const Node& node)
      : socket_(wire::connect_seqpacket(node.settings.socket, wire::deadline_in(kPatience)).value()) {}
  /// Hello with this process' pidfd.
  wire::AgentReply hello(bool with_pidfd = true) {
    const auto self = lease::ProcessHandle::open(::getpid());
    return ask(wire::Hello{.client = "test"}, with_pidfd ? self->fd() : -1);
  }
  wire::AgentReply ask(const wire::AgentRequest& request, int fd = -1) {
    EXPECT_TRUE(wire::send_packet(socket_.get(), wire::encode(request), fd, wire::deadline_in(kPatience)));
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
  wire::Acquired acquire(const std::string& gpu) {
    auto reply = ask(wire::Acquire{.gpu = gpu, .job = "job"});
    const auto* acquired = std::get_if<wire::Acquired>(&reply);
    EXPECT_TRUE(acquired != nullptr) << wire::encode(reply);
    if (acquired == nullptr) return {};
    auto mapped = wire::MailboxUser::map(received_fd.release());
    EXPECT_TRUE(mapped) << mapped.error().text();
    mailbox = std::make_unique<wire::MailboxUser>(*std::move(mapped));
    return *acquired;
  }
  /// Posts and waits for the answer to that very post.
  wire::ClockWord set(Megahertz clock) {
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

wire::ClockAnswer kind_of(wire::ClockWord word) {
  return static_cast<wire::ClockAnswer>(word.kind);
}

std::string refusal_of(const wire::AgentReply& reply) {
  const auto* refusal = std::get_if<wire::Refusal>(&reply);
  return refusal == nullptr ? "no refusal: " + wire::encode(reply) : refusal->message;
}

/// Readings of GPU 0 so far, as the metrics file tells.
double readings_of(const Node& node) {
  const std::string text = format::read_file(node.folder() + "/run/metrics.prom", 1 << 20).value_or("");
  const std::string key = R"(uuid=")" + node.gpus->device(0).identity().uuid + R"(",result="ok"} )";
  const std::size_t at = text.find(key, text.find("perseus_gpu_readings_total{"));
  return at == std::string::npos ? 0 : std::stod(text.substr(at + key.size()));
}

TEST(Daemon, leases_sets_and_brings_back) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  const auto welcome = client.hello();
  ASSERT_TRUE(std::holds_alternative<wire::Welcome>(welcome)) << wire::encode(welcome);
  EXPECT_EQ(std::get<wire::Welcome>(welcome).gpus.size(), 2U);
  const auto lease = client.acquire("0");
  EXPECT_EQ(lease.time_to_live, wire::kDefaultTimeToLive);
  EXPECT_EQ(lease.clocks.size(), 81U);
  const auto word = client.set(Megahertz{900});
  EXPECT_EQ(word.mhz, 900);
  EXPECT_EQ(kind_of(word), wire::ClockAnswer::kApplied);
  EXPECT_EQ(node.gpus->device(0).locked(), Megahertz{900});
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(client.ask(wire::Renew{lease.lease})));
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(client.ask(wire::Release{lease.lease})));
  EXPECT_EQ(node.gpus->device(0).locked(), std::nullopt);
  EXPECT_EQ(kind_of(client.mailbox->applied()), wire::ClockAnswer::kEnded);
  EXPECT_THAT(node.audit(), AllOf(HasSubstr(R"("event":"acquire")"), HasSubstr(R"("event":"release")"),
                                  HasSubstr(R"("event":"restore")")));
}

TEST(Daemon, a_closed_connection_brings_its_gpus_back) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  client.close();
  Client::wait_for([&] { return !node.gpus->device(0).locked(); });
}

TEST(Daemon, clocks_outside_the_sites_limits_are_refused_and_nothing_is_snapped) {
  Node node("clocks: {min_mhz: 600, max_mhz: 1200}\n");
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  const auto lease = client.acquire("0");
  EXPECT_EQ(lease.clocks.front(), Megahertz{600});
  EXPECT_EQ(lease.clocks.back(), Megahertz{1200});
  for (const std::uint32_t mhz : {585U, 1215U, 601U, 1U, 65'535U}) {
    EXPECT_EQ(kind_of(client.set(Megahertz{mhz})), wire::ClockAnswer::kRefused) << mhz;
  }
  EXPECT_EQ(node.gpus->device(0).locked(), std::nullopt);
}

TEST(Daemon, a_second_asker_learns_who_holds_the_gpu) {
  Node node;
  ASSERT_TRUE(node.start());
  Client first(node);
  Client second(node);
  (void)first.hello();
  (void)second.hello();
  (void)first.acquire("1");
  const auto reply = second.ask(wire::Acquire{.gpu = "1"});
  EXPECT_EQ(refusal_of(reply), "GPU 1 is leased by job (pid " + std::to_string(::getpid()) + ", uid " +
                                   std::to_string(::getuid()) + ")");
  (void)second.acquire("0");
}

TEST(Daemon, without_a_pidfd_one_may_look_but_not_lease) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello(false);
  EXPECT_TRUE(std::holds_alternative<wire::AgentStatus>(client.ask(wire::GetStatus{})));
  EXPECT_EQ(refusal_of(client.ask(wire::Acquire{.gpu = "0"})),
            "a lease needs the client's own pidfd, sent with hello");
  EXPECT_THAT(refusal_of(client.ask(wire::Quiesce{})), HasSubstr("is no administrator of this agent"));
}

TEST(Daemon, a_pidfd_of_somebody_else_is_refused) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  const auto parent = lease::ProcessHandle::open(::getppid());
  ASSERT_TRUE(parent);
  const auto reply = client.ask(wire::Hello{.client = "liar"}, parent->fd());
  ASSERT_TRUE(std::holds_alternative<wire::Refusal>(reply));
  EXPECT_EQ(std::get<wire::Refusal>(reply).code, ErrorCode::kPermission);
}

/// A /proc in which this process lives in a container, with `gpu_cgroup` for a process 4242.
std::string container_proc(const std::string& folder, const std::string& gpu_cgroup) {
  const std::string root = folder + "/proc";
  const auto put = [&](pid_t pid, const std::string& status, const std::string& cgroup) {
    const std::string place = root + "/" + std::to_string(pid);
    std::filesystem::create_directories(place);
    std::ofstream(place + "/status") << status;
    std::ofstream(place + "/cgroup") << "0::" << cgroup << '\n';
  };
  put(::getpid(), "NSpid:\t71\t1\n", "/pod/a");
  put(4242, "NSpid:\t4242\t9\n", gpu_cgroup);
  return root;
}

TEST(Daemon, root_of_a_container_is_denied_and_audited) {
  Node node;
  ASSERT_TRUE(node.start(ProcTree(container_proc(node.folder(), "/pod/b"))));
  node.gpus->device(0).set_processes({4242});
  Client client(node);
  (void)client.hello();
  const auto reply = client.ask(wire::Acquire{.gpu = "0", .job = "theft"});
  EXPECT_THAT(refusal_of(reply), HasSubstr("may not set the clock of GPU 0"));
  EXPECT_THAT(node.audit(), AllOf(HasSubstr(R"("event":"acquire")"), HasSubstr(R"("cgroup":"/pod/a")"),
                                  HasSubstr(R"("job":"theft")"), HasSubstr(R"("result":"permission")")));
}

TEST(Daemon, a_process_of_the_containers_cgroup_on_the_gpu_is_a_right_to_that_gpu_only) {
  Node node;
  ASSERT_TRUE(node.start(ProcTree(container_proc(node.folder(), "/pod/a"))));
  node.gpus->device(0).set_processes({4242});
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  EXPECT_THAT(refusal_of(client.ask(wire::Acquire{.gpu = "1"})), HasSubstr("may not set the clock of GPU 1"));
  EXPECT_THAT(node.audit(), HasSubstr("process 4242 on the GPU"));
}

TEST(Daemon, a_grants_floor_holds_and_its_withdrawal_ends_the_lease) {
  Node node("{}\n", "grants: [{cgroup: /pod/a, gpus: all, min_mhz: 900}]\n");
  ASSERT_TRUE(node.start(ProcTree(container_proc(node.folder(), "/pod/b"))));
  Client client(node);
  (void)client.hello();
  const auto lease = client.acquire("0");
  EXPECT_EQ(lease.clocks.front(), Megahertz{900});
  (void)client.set(Megahertz{900});
  node.write("grants.yaml", "grants: []\n");
  ::kill(::getpid(), SIGHUP);
  const auto ended = client.next();
  ASSERT_TRUE(std::holds_alternative<wire::Ended>(ended)) << wire::encode(ended);
  EXPECT_EQ(std::get<wire::Ended>(ended).reason, "the grant that allowed it was withdrawn");
  Client::wait_for([&] { return !node.gpus->device(0).locked(); });
}

TEST(Daemon, a_reload_with_a_mistake_changes_nothing_and_says_where) {
  Node node;
  ASSERT_TRUE(node.start());
  node.write("agent.yaml", "clocks: {min_mhz: 0}\n");
  ::kill(::getpid(), SIGHUP);
  Client::wait_for([&] { return node.audit().find("agent.yaml:1:19: min_mhz is") != std::string::npos; });
  Client client(node);
  (void)client.hello();
  EXPECT_EQ(client.acquire("0").clocks.size(), 81U);
}

TEST(Daemon, a_hanging_driver_call_stalls_its_gpu_only) {
  Node node("driver: {degraded_after_s: 0.1}\n");
  ASSERT_TRUE(node.start());
  tests::FakeDevice& stuck = node.gpus->device(0);
  Client a(node);
  Client b(node);
  (void)a.hello();
  (void)b.hello();
  const auto lease = a.acquire("0");
  stuck.hold(Call::kLockClock);
  a.mailbox->post(Megahertz{900});
  stuck.wait_until_held(Call::kLockClock);
  (void)b.acquire("1");
  EXPECT_EQ(kind_of(b.set(Megahertz{900})), wire::ClockAnswer::kApplied);
  Client::wait_for([&] {
    const auto status = std::get<wire::AgentStatus>(b.ask(wire::GetStatus{}));
    return status.gpus[0].state == "degraded" && status.gpus[1].state == "leased";
  });
  EXPECT_THAT(refusal_of(a.ask(wire::Release{lease.lease})), HasSubstr("as soon as it does"));
  stuck.release(Call::kLockClock);
  Client::wait_for([&] { return !stuck.locked(); });
}

TEST(Daemon, quiesce_brings_back_closes_and_resumes) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Quiesce{}));
  EXPECT_EQ(node.gpus->device(0).locked(), std::nullopt);
  const auto history = node.gpus->history();
  EXPECT_EQ(history.back().call, Call::kClose);
  EXPECT_TRUE(std::holds_alternative<wire::Ended>(client.next()));
  EXPECT_THAT(refusal_of(client.ask(wire::Acquire{.gpu = "0"})), HasSubstr("quiesced"));
  EXPECT_EQ(node.gpus->history().size(), history.size());  // no call while it has let go
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Resume{}));
  (void)client.acquire("0");
  EXPECT_EQ(kind_of(client.set(Megahertz{900})), wire::ClockAnswer::kApplied);
}

TEST(Daemon, quiesced_for_a_time_it_resumes_by_itself) {
  Node node;
  ASSERT_TRUE(node.start());
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Quiesce{milliseconds{50}}));
  Client client(node);
  (void)client.hello();
  Client::wait_for(
      [&] { return std::holds_alternative<wire::Acquired>(client.ask(wire::Acquire{.gpu = "0"})); });
}

TEST(Daemon, a_driver_that_fails_is_opened_again_and_the_clock_comes_back) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  const core::Error unloaded(ErrorCode::kDriver, "driver not loaded");
  node.gpus->device(0).fail(Call::kLockClock, unloaded, 1);
  node.gpus->device(0).fail(Call::kResetClock, unloaded, 2);
  EXPECT_EQ(kind_of(client.set(Megahertz{1200})), wire::ClockAnswer::kFailed);
  Client::wait_for([&] { return !node.gpus->device(0).locked(); });
  EXPECT_EQ(kind_of(client.set(Megahertz{1200})), wire::ClockAnswer::kApplied);
  Client::wait_for([&] { return node.audit().find("opened again") != std::string::npos; });
}

TEST(Daemon, a_lost_gpu_ends_its_lease_and_leaves_the_others) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  Client other(node);
  (void)other.hello();
  (void)other.acquire("1");
  const core::Error lost(ErrorCode::kDeviceLost, "fell off the bus");
  for (const Call call : {Call::kLockClock, Call::kResetClock, Call::kSmClock})
    node.gpus->device(0).fail(call, lost);
  const auto ended = client.next();
  ASSERT_TRUE(std::holds_alternative<wire::Ended>(ended)) << wire::encode(ended);
  EXPECT_EQ(std::get<wire::Ended>(ended).reason, "fell off the bus");
  EXPECT_EQ(refusal_of(client.ask(wire::Acquire{.gpu = "0"})), "GPU 0: fell off the bus");
  EXPECT_EQ(kind_of(other.set(Megahertz{900})), wire::ClockAnswer::kApplied);
}

TEST(Daemon, mig_is_refused_with_the_reason_and_read_all_the_same) {
  Node node;
  auto backend = std::make_unique<tests::FakeBackend>(2);
  backend->device(0).set_clock_control({false, "MIG is enabled"});
  node.gpus = backend.get();
  auto daemon = Daemon::open(node.settings, std::move(backend), ProcTree());
  ASSERT_TRUE(daemon) << daemon.error().text();
  std::thread thread([&] { EXPECT_TRUE((*daemon)->run()); });
  {
    Client client(node);
    const auto welcome = std::get<wire::Welcome>(client.hello());
    EXPECT_FALSE(welcome.gpus[0].controllable);
    EXPECT_EQ(welcome.gpus[0].reason, "MIG is enabled");
    EXPECT_EQ(refusal_of(client.ask(wire::Acquire{.gpu = "0"})), "GPU 0: MIG is enabled");
    Client::wait_for(
        [&] { return std::get<wire::AgentStatus>(client.ask(wire::GetStatus{})).gpus[0].power.has_value(); });
    const auto status = std::get<wire::AgentStatus>(client.ask(wire::GetStatus{}));
    EXPECT_EQ(status.gpus[0].state, "uncontrollable");
    EXPECT_EQ(status.gpus[0].power, core::Watts{90});
  }
  (*daemon)->request_stop();
  thread.join();
}

TEST(Daemon, stopping_restores_and_says_so) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  tests::FakeBackend* gpus = node.gpus;
  node.daemon->request_stop();
  const auto ended = client.next();
  ASSERT_TRUE(std::holds_alternative<wire::Ended>(ended));
  EXPECT_EQ(std::get<wire::Ended>(ended).reason, "the agent is stopping");
  Client::wait_for([&] { return !gpus->device(0).locked(); });
  EXPECT_TRUE(node.stop());
  EXPECT_FALSE(std::filesystem::exists(node.settings.socket));
}

TEST(Daemon, a_second_agent_is_refused_while_the_first_lives) {
  Node node;
  ASSERT_TRUE(node.start());
  DaemonSettings settings = node.settings;
  const auto second = Daemon::open(settings, std::make_unique<tests::FakeBackend>(2), ProcTree());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  settings.state_dir += "2";
  const auto third = Daemon::open(settings, std::make_unique<tests::FakeBackend>(2), ProcTree());
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code(), ErrorCode::kBusy);
  Client client(node);
  (void)client.hello();
}

TEST(Daemon, what_is_no_request_is_refused_and_its_sender_cut_off) {
  Node node;
  ASSERT_TRUE(node.start());
  for (const std::string& bytes : {std::string("{}"), std::string("\xFF\xFE"), std::string(5000, 'x'),
                                   std::string(R"({"type":"renew","lease":-1})"), std::string(100, '[')}) {
    Client client(node);
    (void)client.hello();
    ASSERT_TRUE(wire::send_packet(client.fd(), bytes, -1, wire::deadline_in(kPatience)));
    EXPECT_TRUE(std::holds_alternative<wire::Refusal>(client.next()));
    (void)client.next();
    EXPECT_TRUE(client.ended);
  }
  Client before_hello(node);
  EXPECT_EQ(refusal_of(before_hello.ask(wire::GetStatus{})), "the first request must be hello");
}

TEST(Daemon, connections_over_the_limit_are_turned_away_with_the_reason) {
  Node node("clients: {max_connections_per_uid: 2}\n");
  ASSERT_TRUE(node.start());
  Client a(node);
  Client b(node);
  (void)a.hello();
  (void)b.hello();
  Client c(node);
  EXPECT_EQ(refusal_of(c.next()),
            "uid " + std::to_string(::getuid()) + " has 2 connections, the limit for one user");
  (void)c.next();
  EXPECT_TRUE(c.ended);
  a.close();
  Client::wait_for([&] {
    Client d(node);
    return std::holds_alternative<wire::Welcome>(d.hello());
  });
}

TEST(Daemon, who_says_nothing_is_closed) {
  Node node("clients: {first_message_s: 0.1}\n");
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.next();
  EXPECT_TRUE(client.ended);
}

TEST(Daemon, many_requests_are_slowed_down_but_answered) {
  Node node("clients: {requests_per_s: 100}\n");
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  for (int i = 0; i < 130; ++i) {
    EXPECT_TRUE(std::holds_alternative<wire::Refusal>(client.ask(wire::Renew{7})));
  }
}

TEST(Daemon, publishes_metrics_and_intended_clocks_for_everybody) {
  Node node("telemetry: {write_period_s: 0.1, sample_period_s: 0.02}\n");
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  const std::string folder = node.folder() + "/run";
  Client::wait_for([&] {
    const auto text = format::read_file(folder + "/metrics.prom", 1 << 20);
    return text && text->find("perseus_gpu_intended_clock_megahertz{gpu=\"0\"") != std::string::npos &&
           text->find("perseus_gpu_power_watts{gpu=\"1\"") != std::string::npos;
  });
  Client::wait_for([&] {
    const auto text = format::read_file(folder + "/intended.json", 1 << 20);
    return text &&
           text->find("\"state\":\"leased\",\"intended_mhz\":900,\"baseline_mhz\":null") != std::string::npos;
  });
  struct stat status{};
  ASSERT_EQ(::stat((folder + "/metrics.prom").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0644U);
  ASSERT_EQ(::stat(node.settings.socket.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0660U);
}

TEST(Daemon, a_clock_that_runs_away_under_load_is_yielded_and_left_alone) {
  Node node("telemetry: {sample_period_s: 0.02, write_period_s: 0.1}\ndriver: {settle_s: 0.02}\n");
  ASSERT_TRUE(node.start());
  tests::FakeDevice& gpu = node.gpus->device(0);
  gpu.set_utilization(1);
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  // Until readings have seen the clock that was set and has settled, nobody knows that it was reached.
  const double before = readings_of(node);
  Client::wait_for([&] { return readings_of(node) >= before + 10; });
  gpu.lock_from_outside(Megahertz{600});
  const auto ended = client.next();
  ASSERT_TRUE(std::holds_alternative<wire::Ended>(ended)) << wire::encode(ended);
  EXPECT_EQ(gpu.locked(), Megahertz{600});
  EXPECT_THAT(std::get<wire::Ended>(ended).reason, HasSubstr("ran at 600 MHz under load"));
  EXPECT_THAT(refusal_of(client.ask(wire::Acquire{.gpu = "0"})),
              HasSubstr("another program sets this clock"));
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Resume{}));
  Client::wait_for(
      [&] { return std::holds_alternative<wire::Acquired>(client.ask(wire::Acquire{.gpu = "0"})); });
}

TEST(Daemon, a_clock_that_never_follows_is_uncontrollable_and_reset) {
  Node node("telemetry: {sample_period_s: 0.02}\ndriver: {settle_s: 0.02}\n");
  ASSERT_TRUE(node.start());
  tests::FakeDevice& gpu = node.gpus->device(0);
  gpu.set_utilization(1);
  gpu.set_sm_clock(Megahertz{1410});
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  const auto ended = client.next();
  ASSERT_TRUE(std::holds_alternative<wire::Ended>(ended)) << wire::encode(ended);
  EXPECT_THAT(std::get<wire::Ended>(ended).reason,
              HasSubstr("accepts 900 MHz but the clock stays at 1410 MHz"));
  Client::wait_for([&] { return kind_of(client.mailbox->applied()) == wire::ClockAnswer::kUncontrollable; });
  EXPECT_EQ(gpu.locked(), std::nullopt);
}

TEST(Daemon, a_restart_restores_what_a_killed_agent_has_left) {
  Node node;
  {
    const auto directory = lease::StateDirectory::open({.path = node.settings.state_dir});
    ASSERT_TRUE(directory) << directory.error().text();
    tests::FakeBackend names(2);
    ASSERT_TRUE(directory->write({.gpu = names.device(0).identity().uuid,
                                  .owner = {.pid = 7, .uid = 8, .job = "old", .client = "rank"},
                                  .acquired_unix_s = 1}));
  }
  ASSERT_TRUE(node.start());
  Client::wait_for([&] {
    return node.audit().find("left by an earlier agent's lease of old (pid 7, uid 8)") != std::string::npos;
  });
  EXPECT_THAT(node.gpus->history(), testing::Contains(tests::Event{0, Call::kResetClock, Megahertz{}, true}));
  EXPECT_TRUE(node.stop());
  const auto directory = lease::StateDirectory::open({.path = node.settings.state_dir});
  EXPECT_THAT(directory->list().value(), ElementsAre());
}

}  // namespace
}  // namespace perseus::agent
