// SPDX-License-Identifier: Apache-2.0
//
// Processes that are killed inside a call leave the GPU whole and its lock free.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
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

/// The kernel kills this process `microseconds` from now, at whatever instruction it is.
bool kill_myself_in(long microseconds) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer{};
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = microseconds * 1000}};
  return ::timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
         ::timer_settime(timer, 0, &when, nullptr) == 0;
}

/// What every process of the next test does until it is killed.
void use_until_killed(const std::string& path, unsigned seed) {
  Node node = Node::open(path).value();
  std::minstd_rand random(seed);
  if (!kill_myself_in(1 + static_cast<long>(random() % 200))) ::_exit(4);
  for (;;) {
    const auto mhz = static_cast<std::uint32_t>(200 * (1 + random() % 5));
    if (node.lock_clock(0, mhz, mhz) != Answer::kOk) ::_exit(1);
    if (!node.enqueue(0, {.duration = Seconds(1e-6)})) ::_exit(2);
    if (random() % 2 == 0 && node.reset_clock(0) != Answer::kOk) ::_exit(3);
  }
}

/// Whether the last process died with the GPU's lock in its hand; the lock is free afterwards.
bool died_inside(DeviceShared& device) {
  const int error = ::pthread_mutex_lock(&device.mutex);
  if (error == EOWNERDEAD) ::pthread_mutex_consistent(&device.mutex);
  ::pthread_mutex_unlock(&device.mutex);
  return error == EOWNERDEAD;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kKills = 60;  // a process with a sanitizer's shadow memory takes fifty times as long to fork
#else
constexpr int kKills = 400;
#endif

TEST_F(Crash, HundredsOfKillsAtRandomMomentsLeaveTheStateWhole) {
  NodeSpec spec = test_node();
  spec.manual_time = false;
  spec.time_scale = 1000;
  Node node = make(spec);
  const SharedFile file = SharedFile::open(file_.path()).value();
  double energy = 0;
  int inside = 0;
  for (unsigned i = 0; i < kKills; ++i) {
    const pid_t pid = in_child([&] { use_until_killed(file_.path(), i); });
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a call failed: " << WEXITSTATUS(status);
    inside += died_inside(file.device(0)) ? 1 : 0;
    const Observation seen = node.observe(0).value();
    EXPECT_GE(seen.energy.value(), energy);
    energy = seen.energy.value();
    const auto calls = node.history(0).value();
    const bool locked = !calls.empty() && calls.back().call == SettingCall::kLockClock;
    ASSERT_EQ(seen.locked, locked ? std::optional(calls.back().high) : std::nullopt) << "after kill " << i;
  }
  RecordProperty("kills", kKills);
  RecordProperty("kills_inside_the_lock", inside);
  EXPECT_GT(inside, 0);
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
