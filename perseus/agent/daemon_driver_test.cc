// SPDX-License-Identifier: Apache-2.0
//
// The whole agent in this process, and drivers that hang, fail, lose GPUs and do not obey.
#include <gmock/gmock.h>

#include <filesystem>

#include "perseus/agent/admin.h"
#include "perseus/agent/test_node.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::Call;
using namespace testing_node;  // NOLINT(google-build-using-namespace): made for these tests

TEST(DaemonDriver, a_hanging_driver_call_stalls_its_gpu_only) {
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

TEST(DaemonDriver, who_waits_for_the_agent_keeps_its_other_leases) {
  // The wait for the driver takes longer than the lease lasts, and nothing is read meanwhile, renewals
  // neither.
  Node node("driver: {degraded_after_s: 3}\n");
  ASSERT_TRUE(node.start());
  tests::FakeDevice& stuck = node.gpus->device(1);
  Client client(node);
  (void)client.hello();
  const auto kept = client.acquire("0", milliseconds{1'500});
  ASSERT_EQ(kind_of(client.set(Megahertz{900})), wire::ClockAnswer::kApplied);
  const auto waits = client.acquire("1");
  stuck.hold(Call::kLockClock);
  client.mailbox->post(Megahertz{900});
  stuck.wait_until_held(Call::kLockClock);
  EXPECT_THAT(refusal_of(client.ask(wire::Release{waits.lease})), HasSubstr("as soon as it does"));
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(client.ask(wire::Renew{kept.lease})));
  EXPECT_EQ(node.gpus->device(0).locked(), Megahertz{900});
  stuck.release(Call::kLockClock);
}

TEST(DaemonDriver, quiesce_brings_back_closes_and_resumes) {
  Node node;
  ASSERT_TRUE(node.start());
  Client client(node);
  (void)client.hello();
  (void)client.acquire("0");
  (void)client.set(Megahertz{900});
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Quiesce{}));
  EXPECT_EQ(node.gpus->device(0).locked(), std::nullopt);
  const auto history = node.gpus->history();
  EXPECT_THAT(history, testing::Contains(tests::Event{0, Call::kClose, Megahertz{}, true}));
  EXPECT_TRUE(std::holds_alternative<wire::Ended>(client.next()));
  EXPECT_THAT(refusal_of(client.ask(wire::Acquire{.gpu = "0"})), HasSubstr("quiesced"));
  // No call while it has let go, but for the readings that were being taken at that moment (six calls each).
  EXPECT_LE(node.gpus->history().size(), history.size() + 12);
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Resume{}));
  (void)client.acquire("0");
  EXPECT_EQ(kind_of(client.set(Megahertz{900})), wire::ClockAnswer::kApplied);
}

TEST(DaemonDriver, a_quiesce_that_is_overtaken_is_told_so_at_once) {
  Node node("driver: {degraded_after_s: 60}\n");
  ASSERT_TRUE(node.start());
  tests::FakeDevice& stuck = node.gpus->device(0);
  Client holder(node);
  (void)holder.hello();
  (void)holder.acquire("0");
  stuck.hold(Call::kLockClock);
  holder.mailbox->post(Megahertz{900});
  stuck.wait_until_held(Call::kLockClock);
  Client first(node);
  Client second(node);
  (void)first.hello();
  (void)second.hello();
  first.send(wire::Quiesce{});
  EXPECT_TRUE(std::holds_alternative<wire::Ended>(holder.next()));  // it has begun, and waits for the driver
  second.send(wire::Quiesce{});
  EXPECT_EQ(refusal_of(first.next()), "another quiesce has taken its place");
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(first.ask(wire::Resume{})));
  EXPECT_EQ(refusal_of(second.next()), "the agent was resumed before it had let go of its GPUs");
  stuck.release(Call::kLockClock);
  Client::wait_for([&] { return !stuck.locked(); });
}

TEST(DaemonDriver, quiesced_for_a_time_it_resumes_by_itself) {
  Node node;
  ASSERT_TRUE(node.start());
  ASSERT_TRUE(ask_agent(node.settings.socket, wire::Quiesce{milliseconds{50}}));
  Client client(node);
  (void)client.hello();
  Client::wait_for(
      [&] { return std::holds_alternative<wire::Acquired>(client.ask(wire::Acquire{.gpu = "0"})); });
}

TEST(DaemonDriver, a_driver_that_fails_is_opened_again_and_the_clock_comes_back) {
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

TEST(DaemonDriver, a_lost_gpu_ends_its_lease_and_leaves_the_others) {
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

TEST(DaemonDriver, mig_is_refused_with_the_reason_and_read_all_the_same) {
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

TEST(DaemonDriver, stopping_restores_and_says_so) {
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

TEST(DaemonDriver, a_clock_that_runs_away_under_load_is_yielded_and_left_alone) {
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

TEST(DaemonDriver, a_clock_that_never_follows_is_uncontrollable_and_reset) {
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

TEST(DaemonDriver, a_restart_restores_what_a_killed_agent_has_left) {
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
