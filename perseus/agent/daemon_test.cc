// SPDX-License-Identifier: Apache-2.0
//
// The whole agent in this process, spoken to over its socket: clients, rights, limits, files.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "perseus/agent/admin.h"
#include "perseus/agent/test_node.h"
#include "perseus/lease/process_handle.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using testing::AllOf;
using testing::HasSubstr;
using namespace testing_node;  // NOLINT(google-build-using-namespace): made for these tests

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

TEST(Daemon, takes_no_descriptors) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  const auto self = lease::ProcessHandle::open(::getpid());
  ASSERT_TRUE(self);
  EXPECT_EQ(refusal_of(client.ask(wire::Hello{.client = "old"}, self->fd())),
            "a packet with a file descriptor; none is taken");
  (void)client.next();
  EXPECT_TRUE(client.ended);
}

TEST(Daemon, nothing_may_be_sent_before_the_welcome) {
  Node node;
  node.wait();
  ASSERT_TRUE(node.start());
  Client client(node);
  client.send(wire::Hello{.client = "hasty"});
  client.send(wire::Acquire{.gpu = "0"});
  node.run();
  EXPECT_EQ(refusal_of(client.next()), "something was sent before the welcome to hello was read");
  (void)client.next();
  EXPECT_TRUE(client.ended);
}

TEST(Daemon, another_process_cannot_use_a_connection) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  const std::string ask = wire::encode(wire::AgentRequest(wire::Acquire{.gpu = "0"}));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::_exit(::send(client.fd(), ask.data(), ask.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(ask.size())
                ? 0
                : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(refusal_of(client.next()), "this connection was made by process " + std::to_string(::getpid()) +
                                           "; process " + std::to_string(child) + " cannot use it");
  (void)client.next();
  EXPECT_TRUE(client.ended);
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
  EXPECT_EQ(std::get<wire::Ended>(ended).reason, "the grant that allowed it was withdrawn or made narrower");
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

/// Waits until the published number of connections is this.
void wait_for_connections(const Node& node, int count) {
  const std::string sample = "\nperseus_agent_connections " + std::to_string(count) + "\n";
  Client::wait_for([&] {
    const auto text = format::read_file(node.folder() + "/run/metrics.prom", 1 << 20);
    return text && text->find(sample) != std::string::npos;
  });
}

TEST(Daemon, connections_over_the_limit_are_turned_away_with_the_reason) {
  Node node("{clients: {max_connections_per_uid: 2}, telemetry: {write_period_s: 0.1}}\n");
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
  wait_for_connections(node, 1);
  Client d(node);
  EXPECT_TRUE(std::holds_alternative<wire::Welcome>(d.hello()));
}

TEST(Daemon, who_is_turned_away_reads_why_although_it_spoke_first) {
  Node node("clients: {max_connections_per_uid: 1}\n");
  node.wait();
  ASSERT_TRUE(node.start());
  Client a(node);
  Client b(node);
  a.send(wire::Hello{.client = "a"});
  b.send(wire::Hello{.client = "b"});  // unread when its connection is closed
  node.run();
  EXPECT_TRUE(std::holds_alternative<wire::Welcome>(a.next()));
  EXPECT_EQ(refusal_of(b.next()),
            "uid " + std::to_string(::getuid()) + " has 1 connections, the limit for one user");
}

TEST(Daemon, the_socket_belongs_to_the_group_where_there_is_one) {
  if (::geteuid() != 0) GTEST_SKIP() << "giving a file to a group needs root";
  static constexpr gid_t kSomeGroup = 54'321;  // any that is not ours; it need not have a name
  Node node;
  node.settings.find_group = [] { return std::optional<gid_t>(kSomeGroup); };
  ASSERT_TRUE(node.start());
  struct stat status{};
  ASSERT_EQ(::stat(node.settings.socket.c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, kSomeGroup);
  EXPECT_EQ(status.st_uid, ::geteuid());
  EXPECT_EQ(status.st_mode & 07777U, 0660U);
}

TEST(Daemon, the_socket_belongs_to_its_own_group_where_there_is_no_other) {
  Node node;
  node.settings.find_group = [] { return std::optional<gid_t>(); };
  ASSERT_TRUE(node.start());
  struct stat status{};
  ASSERT_EQ(::stat(node.settings.socket.c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, ::getegid());
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

}  // namespace
}  // namespace perseus::agent
