// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/guard_worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "perseus/wire/mailbox.h"
#include "perseus/wire/seqpacket.h"
#include "tests/fake_gpu/fake_device.h"
#include "tests/support/temporary_folder.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using core::Megahertz;
using tests::Call;
using namespace std::chrono_literals;

constexpr const char* kBoot = "0f5c5a1e-93a8-4a4b-9d2f-5f3a5b7c9d11";

/// A guardian's worker on a thread, and this process as the program that it works for.
class GuardWorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_.emplace(
        *lease::StateDirectory::open({.path = folder_, .hold = lease::Hold::kGpus, .boot_id = kBoot}));
    start();
  }
  void TearDown() override { stop(); }

  void start() {
    auto pair = wire::seqpacket_pair();
    ASSERT_TRUE(pair);
    socket_ = std::move(pair->ours);
    loop_ = *EventLoop::create();
    worker_.emplace(std::move(pair->theirs), *loop_, backend_, *directory_, time_);
    ASSERT_TRUE(worker_->start());
    stopped_ = false;
    thread_ = std::thread([this] {
      while (!worker_->done()) {
        loop_->turn(lease::SystemTime::instance().now() + 1ms);  // the worker's own time stands still
        worker_->tick();
      }
      stopped_ = true;
    });
  }
  /// Ends the connection and waits for the worker's end.
  void stop() {
    socket_.reset();
    if (thread_.joinable()) thread_.join();
    worker_.reset();
  }

  void send(const wire::AgentRequest& request) {
    ASSERT_TRUE(wire::send_packet(socket_.get(), wire::encode(request), -1, wire::deadline_in(10s)));
  }
  wire::AgentReply receive() {
    auto packet = wire::receive_packet(socket_.get(), wire::kMaxAgentPacket, wire::deadline_in(10s));
    EXPECT_TRUE(packet);
    if (!packet) return wire::Ok{};
    fd_ = std::move(packet->fd);
    auto reply = wire::parse_agent_reply(packet->bytes);
    EXPECT_TRUE(reply) << packet->bytes;
    return *std::move(reply);
  }
  wire::AgentReply ask(const wire::AgentRequest& request) {
    send(request);
    return receive();
  }
  wire::Welcome hello() { return std::get<wire::Welcome>(ask(wire::Hello{.protocol = 1, .client = "test"})); }
  std::pair<wire::Acquired, wire::MailboxUser> take(const std::string& gpu = "0") {
    const auto acquired = std::get<wire::Acquired>(ask(wire::Acquire{.gpu = gpu, .job = "gpt3"}));
    auto mailbox = wire::MailboxUser::map(fd_.release());
    EXPECT_TRUE(mailbox);
    return {acquired, *std::move(mailbox)};
  }
  std::string refusal(const wire::AgentRequest& request) {
    const auto reply = ask(request);
    const auto* refused = std::get_if<wire::Refusal>(&reply);
    return refused == nullptr ? "accepted" : refused->message;
  }
  static void wait_for_answer(const wire::MailboxUser& mailbox, std::uint32_t sequence) {
    while (mailbox.applied().sequence != sequence) std::this_thread::yield();
  }
  [[nodiscard]] std::vector<std::string> records() const { return *directory_->list(); }

  const tests::TemporaryFolder temporary_;
  const std::string& folder_ = temporary_.path();
  std::optional<lease::StateDirectory> directory_;
  tests::FakeBackend backend_{2};
  lease::ManualTime time_;
  format::UniqueFd socket_;
  format::UniqueFd fd_;
  std::unique_ptr<EventLoop> loop_;
  std::optional<GuardWorker> worker_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

TEST_F(GuardWorkerTest, LeasesSetsAndReleases) {
  const wire::Welcome welcome = hello();
  EXPECT_EQ(welcome.backend, "fake");
  ASSERT_EQ(welcome.gpus.size(), 2U);
  EXPECT_TRUE(welcome.gpus[0].controllable);
  EXPECT_EQ(welcome.gpus[0].clocks.size(), 81U);
  auto [acquired, mailbox] = take();
  EXPECT_EQ(acquired.gpu, backend_.device(0).identity().uuid);
  EXPECT_THAT(records(), testing::ElementsAre(acquired.gpu));
  wait_for_answer(mailbox, mailbox.post(Megahertz(900)));
  EXPECT_EQ(backend_.device(0).locked(), Megahertz(900));
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(ask(wire::Renew{acquired.lease})));
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(ask(wire::Release{acquired.lease})));
  EXPECT_EQ(backend_.device(0).locked(), std::nullopt);
  EXPECT_TRUE(records().empty());
  EXPECT_EQ(refusal(wire::Renew{acquired.lease}), "there is no lease 1");
  EXPECT_EQ(take().first.lease, 2U);  // and again
}

TEST_F(GuardWorkerTest, TheEndOfTheConnectionRestores) {
  hello();
  auto [first, box0] = take("0");
  auto [second, box1] = take(backend_.device(1).identity().uuid);
  wait_for_answer(box0, box0.post(Megahertz(900)));
  wait_for_answer(box1, box1.post(Megahertz(915)));
  stop();
  EXPECT_EQ(backend_.device(0).locked(), std::nullopt);
  EXPECT_EQ(backend_.device(1).locked(), std::nullopt);
  EXPECT_TRUE(records().empty());
  EXPECT_EQ(box0.applied().kind, static_cast<std::uint16_t>(wire::ClockAnswer::kEnded));
}

TEST_F(GuardWorkerTest, ALeaseThatIsNotRenewedEnds) {  // fault table, row 4
  hello();
  auto [acquired, mailbox] = take();
  wait_for_answer(mailbox, mailbox.post(Megahertz(900)));
  time_.advance(9'999ms);
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(ask(wire::Renew{acquired.lease})));
  time_.advance(9'999ms);
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(ask(wire::Renew{acquired.lease})));
  time_.advance(10s);
  const auto ended = std::get<wire::Ended>(receive());
  EXPECT_EQ(ended.lease, acquired.lease);
  EXPECT_EQ(ended.reason, "it was not renewed in time");
  while (backend_.device(0).locked()) std::this_thread::yield();
  EXPECT_FALSE(stopped_);  // the program may take the GPU again
}

TEST_F(GuardWorkerTest, WantsOneHelloFirst) {
  EXPECT_EQ(refusal(wire::Acquire{.gpu = "0"}), "the first request must be hello");
  EXPECT_EQ(refusal(wire::Hello{.protocol = 2, .client = "x"}), "this guardian speaks protocol 1, not 2");
  hello();
  EXPECT_EQ(refusal(wire::Hello{.protocol = 1, .client = "x"}), "hello was said before");
}

TEST_F(GuardWorkerTest, ASecondGuardianIsToldWhoHoldsTheGpu) {  // fault table, row 31
  const auto other =
      lease::StateDirectory::open({.path = folder_, .hold = lease::Hold::kGpus, .boot_id = kBoot});
  const std::string gpu = backend_.device(0).identity().uuid;
  const auto lock = other->lock_gpu(gpu);
  ASSERT_TRUE(lock);
  hello();
  EXPECT_EQ(refusal(wire::Acquire{.gpu = "0"}),
            fmt::format("{}: {} is held by process {}", folder_, gpu, ::getpid()));
  ASSERT_TRUE(other->write({.gpu = gpu,
                            .owner = {.pid = 5, .uid = 7, .job = "bloom", .client = ""},
                            .baseline = {},
                            .boot_id = {},
                            .acquired_unix_s = 0}));
  EXPECT_EQ(refusal(wire::Acquire{.gpu = "0"}),
            fmt::format("GPU 0 ({}) is leased to bloom (pid 5, uid 7)", gpu));
  EXPECT_TRUE(std::holds_alternative<wire::Acquired>(ask(wire::Acquire{.gpu = "1"})));
}

TEST_F(GuardWorkerTest, AGpuThatWasReleasedIsFreeForOtherGuardians) {
  const auto other =
      lease::StateDirectory::open({.path = folder_, .hold = lease::Hold::kGpus, .boot_id = kBoot});
  const std::string gpu = backend_.device(0).identity().uuid;
  hello();
  auto [acquired, mailbox] = take();
  EXPECT_EQ(other->lock_gpu(gpu).error().code(), ErrorCode::kBusy);
  EXPECT_TRUE(std::holds_alternative<wire::Ok>(ask(wire::Release{acquired.lease})));
  EXPECT_TRUE(other->lock_gpu(gpu));
  EXPECT_EQ(take().first.lease, 2U);
  EXPECT_EQ(other->lock_gpu(gpu).error().code(), ErrorCode::kBusy);
}

TEST_F(GuardWorkerTest, AGpuThatIsNotBackYetIsFreeForNobody) {
  const auto other =
      lease::StateDirectory::open({.path = folder_, .hold = lease::Hold::kGpus, .boot_id = kBoot});
  const std::string gpu = backend_.device(0).identity().uuid;
  hello();
  auto [acquired, mailbox] = take();
  wait_for_answer(mailbox, mailbox.post(Megahertz(900)));
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver away"), 1'000'000);
  EXPECT_EQ(refusal(wire::Release{acquired.lease}), "driver away");
  EXPECT_EQ(other->lock_gpu(gpu).error().code(), ErrorCode::kBusy);
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver away"), 0);
  while (!other->lock_gpu(gpu)) time_.advance(1s), std::this_thread::yield();
  EXPECT_EQ(backend_.device(0).locked(), std::nullopt);
  EXPECT_TRUE(records().empty());
}

TEST_F(GuardWorkerTest, RestoresFirstWhatItsPredecessorLeft) {  // fault table, row 8
  const std::string gpu = backend_.device(0).identity().uuid;
  ASSERT_TRUE(directory_->write(
      {.gpu = gpu, .owner = {}, .baseline = Megahertz(1305), .boot_id = {}, .acquired_unix_s = 0}));
  backend_.device(0).lock_from_outside(Megahertz(900));
  hello();
  auto [acquired, mailbox] = take();
  EXPECT_EQ(backend_.device(0).locked(), Megahertz(1305));
  EXPECT_THAT(records(), testing::ElementsAre(gpu));  // the new lease's
}

TEST_F(GuardWorkerTest, ADriverThatRefusesToRestoreIsOpenedAgainUntilItDoes) {
  hello();
  auto [acquired, mailbox] = take();
  wait_for_answer(mailbox, mailbox.post(Megahertz(900)));
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver away"), 3);
  socket_.reset();
  while (!stopped_) {  // a second for each thing that happens, far from the 30 s after which it would give up
    const std::size_t before = backend_.history().size();
    time_.advance(1s);
    while (!stopped_ && backend_.history().size() == before) std::this_thread::yield();
  }
  EXPECT_TRUE(worker_->all_back());
  stop();
  EXPECT_EQ(backend_.device(0).locked(), std::nullopt);
  EXPECT_TRUE(records().empty());
}

TEST_F(GuardWorkerTest, RefusesWhatItCannotDo) {
  hello();
  EXPECT_EQ(refusal(wire::Acquire{.gpu = "7"}), "there is no GPU 7; this machine has 2");
  EXPECT_EQ(refusal(wire::GetStatus{}), "this is a guardian of one program; ask the node's agent");
  backend_.device(1).set_clock_control(
      {.possible = false, .reason = "MIG is enabled"});  // fault table, row 34
  EXPECT_EQ(refusal(wire::Acquire{.gpu = "1"}), "MIG is enabled");
  ASSERT_TRUE(wire::send_packet(socket_.get(), "garbage", -1, wire::deadline_in(10s)));
  EXPECT_EQ(std::get<wire::Refusal>(receive()).message,
            R"(request:1:1: "garbage" where an object must stand)");
  ASSERT_TRUE(wire::send_packet(socket_.get(), std::string(5000, 'x'), -1, wire::deadline_in(10s)));
  EXPECT_EQ(std::get<wire::Refusal>(receive()).message, "a packet of 5000 bytes; the limit is 4096");
  EXPECT_FALSE(stopped_);
}

}  // namespace
}  // namespace perseus::agent
