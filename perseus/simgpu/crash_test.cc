// SPDX-License-Identifier: Apache-2.0
//
// Processes that are killed inside a call leave the GPU whole and its lock free.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <random>

#include "perseus/simgpu/device_access.h"
#include "perseus/simgpu/node.h"
#include "perseus/simgpu/process.h"
#include "perseus/simgpu/shared_file.h"
#include "perseus/simgpu/test_gpu.h"

namespace perseus::simgpu {
namespace {

using core::Megahertz;
using core::Seconds;

/// Runs `body` in a child process.
pid_t in_child(const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  body();
  ::_exit(0);
}

void kill_and_wait(pid_t pid) {
  ::kill(pid, SIGKILL);
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status));
}

class Crash : public ::testing::Test {
 protected:
  Node make(const NodeSpec& spec = test_node()) {
    return std::move(Node::create(file_.path(), spec).value());
  }
  TestFile file_;
};

TEST_F(Crash, ProcessKilledInsideAChangeChangesNothing) {
  Node node = make();
  ASSERT_EQ(node.lock_clock(0, 800, 800), Answer::kOk);
  const pid_t pid = in_child([&] {
    const SharedFile file = SharedFile::open(file_.path()).value();
    DeviceAccess access = DeviceAccess::begin(file.device(0)).value();
    access.state().lock_max_mhz = 123;
    // The half of a commit: the copy that is not in use is full of rubbish.
    DeviceShared& device = file.device(0);
    std::memset(static_cast<void*>(&device.states[1 - device.active.load()]), 0x5A, sizeof(DeviceState));
    ::raise(SIGKILL);
  });
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(node.observe(0)->locked, Megahertz(800));
  EXPECT_EQ(node.reset_clock(0), Answer::kOk);
  EXPECT_EQ(node.history(0)->size(), 2U);
}

/// What every process of the next test does until it is killed.
void use_without_end(const std::string& path, unsigned seed) {
  Node node = Node::open(path).value();
  std::minstd_rand random(seed);
  for (;;) {
    const auto mhz = static_cast<std::uint32_t>(200 * (1 + random() % 5));
    if (node.lock_clock(0, mhz, mhz) != Answer::kOk) ::_exit(1);
    if (!node.enqueue(0, {.duration = Seconds(1e-6)})) ::_exit(2);
    if (random() % 2 == 0 && node.reset_clock(0) != Answer::kOk) ::_exit(3);
  }
}

TEST_F(Crash, HundredsOfKillsAtRandomMomentsLeaveTheStateWhole) {
  NodeSpec spec = test_node();
  spec.manual_time = false;
  spec.time_scale = 1000;
  Node node = make(spec);
  std::minstd_rand random(1);
  constexpr int kKills = 400;
  double energy = 0;
  for (int i = 0; i < kKills; ++i) {
    const std::uint64_t before = node.history_count(0).value();
    const auto seed = static_cast<unsigned>(random());
    const pid_t pid = in_child([&] { use_without_end(file_.path(), seed); });
    // Random in the child's own progress, so that a slow machine kills at the same places.
    const std::uint64_t goal = before + 1 + random() % 40;
    while (node.history_count(0).value() < goal) {
      ASSERT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "a call failed";
    }
    kill_and_wait(pid);
    const Observation seen = node.observe(0).value();
    EXPECT_GE(seen.energy.value(), energy);
    energy = seen.energy.value();
    const auto calls = node.history(0).value();
    ASSERT_FALSE(calls.empty());
    const bool locked = calls.back().call == SettingCall::kLockClock;
    ASSERT_EQ(seen.locked, locked ? std::optional(calls.back().high) : std::nullopt) << "after kill " << i;
  }
  EXPECT_EQ(node.reset_clock(0), Answer::kOk);
  EXPECT_EQ(node.observe(0)->locked, std::nullopt);
  EXPECT_TRUE(node.processes(0)->empty());
}

TEST_F(Crash, WorkAndContextOfADeadProcessAreDropped) {
  Node node = make();
  const pid_t pid = in_child([&] {
    Node mine = Node::open(file_.path()).value();
    if (!mine.attach_process(0, 4096) || !mine.enqueue(0, {.duration = Seconds(1000)})) ::_exit(1);
    ::pause();
  });
  while (node.observe(0)->works_waiting == 0) {
  }
  ASSERT_EQ(node.processes(0)->size(), 1U);
  EXPECT_EQ(node.processes(0)->front().pid, pid);
  EXPECT_EQ(node.processes(0)->front().memory_bytes, 4096U);
  const auto behind = node.enqueue(0, {.duration = Seconds(1)}).value();
  node.advance_time(Seconds(2));
  kill_and_wait(pid);
  EXPECT_EQ(node.processes(0)->front().pid, ::getpid());
  node.advance_time(Seconds(1));
  EXPECT_EQ(node.poll(0, behind).value()->begin_ns, 2'000'000'000);
  EXPECT_EQ(node.poll(0, 0).error().code(), core::ErrorCode::kDeviceLost);
}

TEST_F(Crash, ZombiesAndOtherProcessesWithTheSamePidAreNotTheProcess) {
  EXPECT_GT(own_start(), 0U);
  EXPECT_EQ(process_start(::getpid()), own_start());
  const pid_t pid = in_child([] {});
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(process_start(pid), 0U);  // a zombie
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  EXPECT_EQ(process_start(pid), 0U);
}

}  // namespace
}  // namespace perseus::simgpu
