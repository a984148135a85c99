// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/node.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include "perseus/simgpu/layout.h"
#include "perseus/simgpu/test_gpu.h"

namespace perseus::simgpu {
namespace {

using core::ErrorCode;
using core::Megahertz;
using core::Seconds;
using core::Watts;
using ::testing::HasSubstr;

class NodeTest : public ::testing::Test {
 protected:
  Node make(const NodeSpec& spec = test_node()) {
    auto node = Node::create(file_.path(), spec);
    if (!node) throw std::runtime_error(node.error().text());
    return std::move(*node);
  }
  /// The state file's bytes.
  [[nodiscard]] std::string bytes() const {
    std::ifstream in(file_.path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& text) const { std::ofstream(file_.path(), std::ios::binary) << text; }
  /// How open() refuses a file of these bytes.
  core::Error refusal(const std::string& text) const {
    write(text);
    const auto node = Node::open(file_.path());
    return node ? core::Error(ErrorCode::kInternal, "accepted") : node.error();
  }

  TestFile file_;
};

TEST_F(NodeTest, AnotherMappingSeesTheSameGpus) {
  Node one = make(test_node(3));
  const Node other = Node::open(file_.path()).value();
  ASSERT_EQ(one.lock_clock(2, 600, 800), Answer::kOk);
  one.advance_time(Seconds(1));
  EXPECT_EQ(other.gpu_count(), 3U);
  EXPECT_EQ(other.now_ns(), 1'000'000'000);
  EXPECT_EQ(other.observe(2)->locked, Megahertz(800));
  EXPECT_EQ(other.observe(2)->locked_low, Megahertz(600));
  EXPECT_EQ(other.observe(1)->locked, std::nullopt);
  EXPECT_EQ(other.identity(1)->uuid, one.identity(1)->uuid);
}

TEST_F(NodeTest, LockOutlivesTheMappingThatSetIt) {
  {
    Node node = make();
    ASSERT_EQ(node.lock_clock(0, 400, 400), Answer::kOk);
  }
  EXPECT_EQ(Node::open(file_.path())->observe(0)->locked, Megahertz(400));
}

TEST_F(NodeTest, StateFileIsPrivateUnlessAskedOtherwise) {
  struct stat info{};
  {
    const Node node = make();
  }
  ASSERT_EQ(::stat(file_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  ASSERT_TRUE(Node::destroy(file_.path()));
  NodeSpec spec = test_node();
  spec.every_user = true;
  const Node node = make(spec);
  ASSERT_EQ(::stat(file_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0666U);
}

TEST_F(NodeTest, ExistingFileIsNotOverwritten) {
  write("something");
  const auto node = Node::create(file_.path(), test_node());
  ASSERT_FALSE(node);
  EXPECT_EQ(node.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(node.error().text(), file_.path() + ": cannot create the state file: File exists");
  EXPECT_EQ(bytes(), "something");
}

TEST_F(NodeTest, WhatIsNoStateFileIsRefused) {
  const auto none = Node::open(file_.path());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(refusal("").message(), HasSubstr("has 0 bytes and so is no state of a simulated machine"));
  EXPECT_THAT(refusal(std::string(100'000, 'x')).message(), HasSubstr("has 100000 bytes"));
  EXPECT_EQ(refusal(std::string(file_bytes(1), 'x')).message(),
            "is no state of a simulated machine (its first 8 bytes say something else)");
  EXPECT_EQ(Node::open("/dev").error().code(), ErrorCode::kIo);
  EXPECT_EQ(Node::open("/dev/null").error().message(),
            "is no regular file, so no state of a simulated machine");
}

TEST_F(NodeTest, DamagedStateFilesAreRefused) {
  {
    const Node node = make(test_node(2));
  }
  const std::string good = bytes();
  ASSERT_EQ(good.size(), file_bytes(2));
  EXPECT_THAT(refusal(good.substr(0, good.size() - 1)).message(), HasSubstr("is damaged"));
  EXPECT_THAT(refusal(good + "x").message(), HasSubstr("is damaged"));
  std::string bad = good;
  bad[offsetof(NodeShared, version)] = 99;
  EXPECT_EQ(refusal(bad).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(bad).message(),
            "has layout version 99; this build knows 1: destroy it and create it again");
  bad = good;
  bad[offsetof(NodeShared, gpu_count)] = 1;
  EXPECT_THAT(refusal(bad).message(), HasSubstr("for 1 GPUs"));
  bad = good;
  bad[offsetof(NodeShared, boot_id)] = 'x';
  EXPECT_EQ(refusal(bad).message(), "is of an earlier boot of this machine: destroy it and create it again");
  bad = good;
  bad[kDevicesOffset + offsetof(DeviceShared, constants) + offsetof(GpuConstants, clock_count) + 2] = 1;
  EXPECT_EQ(refusal(bad).message(), "is damaged: the constants of a GPU");
  EXPECT_EQ(refusal(good).message(), "accepted");
}

TEST_F(NodeTest, DestroyedNodeLooksLikeAnUnloadedDriver) {
  Node node = make();
  ASSERT_TRUE(Node::destroy(file_.path()));
  EXPECT_FALSE(node.driver_loaded());
  EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kAbsent);
  EXPECT_EQ(node.enter_call(0, node.generation()), Answer::kAbsent);
  EXPECT_EQ(Node::open(file_.path()).error().code(), ErrorCode::kNotFound);
}

TEST_F(NodeTest, ClocksOutsideTheRangeAreRefusedAndRecorded) {
  Node node = make();
  EXPECT_EQ(node.lock_clock(0, 0, 0), Answer::kInvalidArgument);
  EXPECT_EQ(node.lock_clock(0, 199, 199), Answer::kInvalidArgument);
  EXPECT_EQ(node.lock_clock(0, 1001, 1001), Answer::kInvalidArgument);
  EXPECT_EQ(node.lock_clock(0, 800, 600), Answer::kInvalidArgument);
  EXPECT_EQ(node.lock_clock(0, 99'999, 99'999), Answer::kInvalidArgument);
  EXPECT_EQ(node.lock_clock(1, 600, 600), Answer::kInvalidArgument);  // no such GPU: nowhere to record
  EXPECT_EQ(node.observe(0)->locked, std::nullopt);
  EXPECT_EQ(*node.history_count(0), 5U);
}

TEST_F(NodeTest, HistoryTellsEverySettingCall) {
  Node node = make();
  node.advance_time(Seconds(1));
  node.lock_clock(0, 400, 600);
  node.advance_time(Seconds(1));
  node.reset_clock(0);
  node.lock_memory_clock(0, 1500, 1500);
  node.lock_memory_clock(0, 1, 1);
  node.set_power_limit(0, Watts(200));
  node.set_persistence(0, false);
  const auto calls = node.history(0).value();
  ASSERT_EQ(calls.size(), 6U);
  EXPECT_EQ(calls[0].call, SettingCall::kLockClock);
  EXPECT_EQ(calls[0].low, Megahertz(400));
  EXPECT_EQ(calls[0].high, Megahertz(600));
  EXPECT_EQ(calls[0].time_ns, 1'000'000'000);
  EXPECT_EQ(calls[0].pid, ::getpid());
  EXPECT_EQ(calls[0].answer, Answer::kOk);
  EXPECT_EQ(calls[1].call, SettingCall::kResetClock);
  EXPECT_EQ(calls[1].time_ns, 2'000'000'000);
  EXPECT_GE(calls[1].real_ns, calls[0].real_ns);
  EXPECT_EQ(calls[2].answer, Answer::kOk);
  EXPECT_EQ(calls[3].answer, Answer::kInvalidArgument);
  EXPECT_EQ(calls[4].value, 200);
  EXPECT_EQ(calls[5].call, SettingCall::kPersistence);
  EXPECT_FALSE(node.observe(0)->persistence);
}

TEST_F(NodeTest, HistoryKeepsTheLastCalls) {
  Node node = make();
  for (std::uint32_t i = 0; i < 5000; ++i) node.lock_clock(0, 200, 200 + i % 800);
  const auto calls = node.history(0).value();
  EXPECT_EQ(*node.history_count(0), 5000U);
  ASSERT_EQ(calls.size(), kHistorySlots - 1);
  EXPECT_EQ(calls.back().high, Megahertz(200 + 4999 % 800));
  EXPECT_EQ(calls.front().high, Megahertz(200 + (5000 - (kHistorySlots - 1)) % 800));
}

TEST_F(NodeTest, LostGpuRefusesAndItsWorkEndsInAnError) {
  Node node = make();
  const auto work = node.enqueue(0, {.duration = Seconds(1)}).value();
  node.lock_clock(0, 400, 400);
  node.advance_time(Seconds(0.5));
  ASSERT_TRUE(node.inject(0, {FaultKind::kLost}));
  EXPECT_EQ(node.enter_call(0, node.generation()), Answer::kLost);
  EXPECT_EQ(node.reset_clock(0), Answer::kLost);
  EXPECT_EQ(node.poll(0, work).error().code(), ErrorCode::kDeviceLost);
  EXPECT_EQ(node.wait(0, work).error().message(), "the simulated GPU is lost");
  EXPECT_EQ(node.enqueue(0, {.duration = Seconds(1)}).error().code(), ErrorCode::kDeviceLost);
  EXPECT_EQ(node.observe(0)->locked, Megahertz(400));
  ASSERT_TRUE(node.clear_fault(0, FaultKind::kLost));  // it was reset
  EXPECT_EQ(node.observe(0)->locked, std::nullopt);
  EXPECT_EQ(node.observe(0)->counter.value(), 0);
  EXPECT_EQ(node.poll(0, work).error().message(),
            "computation 0 was dropped: the GPU was reset or the driver reloaded");
  EXPECT_EQ(node.enter_call(0, node.generation()), Answer::kOk);
}

TEST_F(NodeTest, PermissionMigAndVirtualGpusRefuseSettings) {
  Node node = make();
  ASSERT_TRUE(node.inject(0, {FaultKind::kPermission}));
  EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kNoPermission);
  EXPECT_EQ(node.set_power_limit(0, Watts(200)), Answer::kNoPermission);
  ASSERT_TRUE(node.inject(0, {FaultKind::kPermission, 1}));
  EXPECT_EQ(node.lock_clock(0, 400, 400), ::geteuid() == 0 ? Answer::kOk : Answer::kNoPermission);
  ASSERT_TRUE(node.clear_faults(0));
  for (const FaultKind kind : {FaultKind::kMig, FaultKind::kVgpu}) {
    ASSERT_TRUE(node.inject(0, {kind}));
    EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kNotSupported);
    EXPECT_EQ(node.reset_clock(0), Answer::kNotSupported);
    EXPECT_EQ(node.set_power_limit(0, Watts(200)), Answer::kOk);
    ASSERT_TRUE(node.clear_fault(0, kind));
  }
  EXPECT_TRUE(node.observe(0)->faults.empty());
}

TEST_F(NodeTest, StuckClockTakesSettingsAndDoesNotMove) {
  Node node = make();
  node.enqueue(0, {.duration = Seconds(100)}).value();
  node.lock_clock(0, 800, 800);
  node.advance_time(Seconds(0.005));
  ASSERT_TRUE(node.inject(0, {FaultKind::kStuck}));
  EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kOk);
  node.advance_time(Seconds(1));
  EXPECT_EQ(node.observe(0)->sm_clock, Megahertz(1000));
  EXPECT_EQ(node.observe(0)->locked, Megahertz(400));
  ASSERT_TRUE(node.clear_fault(0, FaultKind::kStuck));
  node.advance_time(Seconds(0.01));
  EXPECT_EQ(node.observe(0)->sm_clock, Megahertz(400));
}

TEST_F(NodeTest, ReloadForgetsLocksCountersWorkAndCallers) {
  Node node = make(test_node(2));
  const std::uint64_t before = node.generation();
  node.lock_clock(1, 400, 400);
  const auto work = node.enqueue(1, {.duration = Seconds(10)}).value();
  node.advance_time(Seconds(1));
  ASSERT_TRUE(node.inject(0, {FaultKind::kReload, 2}));  // the driver of the whole machine
  EXPECT_FALSE(node.driver_loaded());
  EXPECT_EQ(node.enter_call(1, before), Answer::kStale);
  EXPECT_EQ(node.enter_call(1, node.generation()), Answer::kAbsent);
  EXPECT_EQ(node.lock_clock(1, 400, 400), Answer::kAbsent);
  node.advance_time(Seconds(2));
  EXPECT_TRUE(node.driver_loaded());
  EXPECT_EQ(node.enter_call(1, node.generation()), Answer::kOk);
  EXPECT_EQ(node.observe(1)->locked, std::nullopt);
  EXPECT_LE(node.observe(1)->counter.value(), 2 * 40.0);
  EXPECT_EQ(node.observe(1)->counter_restarts, 1U);
  // What it really drew goes on: 10 ms at 1000 MHz, 0.99 s at 400 MHz, then no work any more.
  EXPECT_NEAR(node.observe(1)->energy.value(), 0.01 * 240 + 0.99 * 80 + 0.5 * 40 + 1.5 * 30, 1e-9);
  EXPECT_EQ(node.poll(1, work).error().code(), ErrorCode::kDeviceLost);
}

TEST_F(NodeTest, CounterRestartsFromZero) {
  Node node = make();
  node.advance_time(Seconds(10));
  ASSERT_GT(node.observe(0)->counter.value(), 200);
  ASSERT_TRUE(node.inject(0, {FaultKind::kCounterRestart}));
  EXPECT_EQ(node.observe(0)->counter.value(), 0);
  node.advance_time(Seconds(1));
  EXPECT_NEAR(node.observe(0)->counter.value(), 30, 3.001);
  EXPECT_TRUE(node.observe(0)->faults.empty());
}

TEST_F(NodeTest, SlowCallReturnsWhenItsTimeIsOver) {
  Node node = make();
  ASSERT_TRUE(node.inject(0, {FaultKind::kSlow, 0.5}));
  std::atomic<int> returned{0};
  std::thread caller([&] {
    EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kOk);
    returned = 1;
  });
  // Time stands still, so the call cannot return, however long it has been under way.
  EXPECT_EQ(node.observe(0)->locked, std::nullopt);
  node.advance_time(Seconds(0.25));
  EXPECT_EQ(returned.load(), 0);
  while (returned.load() == 0) {
    node.advance_time(Seconds(0.25));
    std::this_thread::yield();
  }
  caller.join();
  EXPECT_EQ(node.observe(0)->locked, Megahertz(400));
  EXPECT_GE(node.history(0)->back().time_ns, 500'000'000);
}

TEST_F(NodeTest, HangingSettingReturnsOnceTheFaultIsCleared) {
  Node node = make();
  ASSERT_TRUE(node.inject(0, {FaultKind::kHang}));
  std::thread caller([&] { EXPECT_EQ(node.lock_clock(0, 400, 400), Answer::kOk); });
  EXPECT_EQ(node.enter_call(0, node.generation()), Answer::kOk);  // reading does not hang
  node.advance_time(Seconds(1000));
  EXPECT_EQ(node.observe(0)->locked, std::nullopt);
  ASSERT_TRUE(node.clear_fault(0, FaultKind::kHang));
  caller.join();
  EXPECT_EQ(node.observe(0)->locked, Megahertz(400));
  ASSERT_TRUE(node.inject(0, {FaultKind::kHang, 1}));
  std::thread reader([&] { EXPECT_EQ(node.enter_call(0, node.generation()), Answer::kAbsent); });
  ASSERT_TRUE(Node::destroy(file_.path()));
  reader.join();
}

TEST_F(NodeTest, WaitingReturnsWhenTimeHasPassed) {
  Node node = make();
  const auto work = node.enqueue(0, {.duration = Seconds(3)}).value();
  std::thread waiter([&] { EXPECT_EQ(node.wait(0, work)->end_ns, 3'000'000'000); });
  node.advance_time(Seconds(2));
  node.advance_time(Seconds(2));
  waiter.join();
}

TEST_F(NodeTest, RunTakesScaledWallClockTime) {
  NodeSpec spec = test_node();
  spec.manual_time = false;
  spec.time_scale = 1000;
  Node node = make(spec);
  const Completion done = node.run(0, {.duration = Seconds(2)}).value();  // 2 ms of real time
  EXPECT_EQ(done.end_ns - done.begin_ns, 2'000'000'000);
  EXPECT_NEAR(done.energy.value(), 480, 1e-9);
  EXPECT_GE(node.now_ns(), done.end_ns);
}

TEST_F(NodeTest, SettingsThatComeWhileWorkEndsDoNotStretchIt) {
  NodeSpec spec = test_node();
  spec.manual_time = false;
  spec.time_scale = 1e5;  // an instruction more between two looks at the clock is microseconds here
  Node node = make(spec);
  std::uint64_t last = 0;
  for (int i = 0; i < 500; ++i) last = node.enqueue(0, {.duration = Seconds(0.05)}).value();
  while (!node.poll(0, last)->has_value()) ASSERT_EQ(node.set_persistence(0, true), Answer::kOk);
  for (std::uint64_t i = 0; i <= last; ++i) {
    const Completion done = node.poll(0, i).value().value();
    // Each setting cuts the work's stretch once more, and each cut may round up to a whole nanosecond.
    ASSERT_NEAR(static_cast<double>(done.end_ns - done.begin_ns), 5e7, 2) << i;
    ASSERT_NEAR(done.energy.value(), 12, 1e-6) << i;
  }
}

TEST_F(NodeTest, WorkOutsideItsLimitsIsRefused) {
  Node node = make();
  EXPECT_EQ(node.enqueue(0, {.duration = Seconds(-1)}).error().message(),
            "a computation of -1 s is not from 0 to 1000000 s");
  EXPECT_EQ(node.enqueue(0, {.duration = Seconds(1), .memory_bound = 1.5}).error().message(),
            "memory_bound 1.5 is not from 0 to 1");
  EXPECT_EQ(node.enqueue(0, {.duration = Seconds(1), .utilization = -0.1}).error().message(),
            "utilization -0.1 is not from 0 to 1");
  EXPECT_EQ(node.poll(0, 0).error().message(), "no computation 0 was queued");
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(node.enqueue(0, {.duration = Seconds(1)}));
  EXPECT_EQ(node.enqueue(0, {.duration = Seconds(1)}).error().message(),
            "1000 computations wait on the simulated GPU");
  node.advance_time(Seconds(2000));
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(node.enqueue(0, {.duration = Seconds(1)}));
  EXPECT_EQ(node.poll(0, 3).error().message(), "computation 3 is forgotten: 1996 came after it");
}

TEST_F(NodeTest, ProcessesAreThoseWithAContextOrWork) {
  Node node = make();
  EXPECT_TRUE(node.processes(0)->empty());
  ASSERT_TRUE(node.attach_process(0, 1U << 30U));
  ASSERT_EQ(node.processes(0)->size(), 1U);
  EXPECT_EQ(node.processes(0)->front().pid, ::getpid());
  EXPECT_EQ(node.processes(0)->front().memory_bytes, 1U << 30U);
  ASSERT_TRUE(node.detach_process(0));
  EXPECT_TRUE(node.processes(0)->empty());
  node.enqueue(0, {.duration = Seconds(1)}).value();
  EXPECT_EQ(node.processes(0)->size(), 1U);
  node.advance_time(Seconds(1));
  EXPECT_TRUE(node.processes(0)->empty());
}

TEST_F(NodeTest, EnvironmentNamesTheFile) {
  make();
  ::unsetenv(kEnvironment);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(Node::open_environment().error().message(),
            "no simulated machine: PERSEUS_SIM is not set (`perseus sim create` prints it)");
  ::setenv(kEnvironment, file_.path().c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(Node::open_environment()->gpu_count(), 1U);
  ::unsetenv(kEnvironment);  // NOLINT(concurrency-mt-unsafe): one thread
}

}  // namespace
}  // namespace perseus::simgpu
