// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/recover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "perseus/lease/test_folder.h"
#include "tests/fake_gpu/fake_device.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::Call;
using namespace std::chrono_literals;

class RecoverTest : public testing::Test {
 protected:
  RecoverTest() {
    options_.pause = [this](Duration duration) {
      slept_ += duration;
      time_.advance(duration);
    };
  }
  [[nodiscard]] const std::string& uuid(std::uint32_t gpu) { return backend_.device(gpu).identity().uuid; }
  /// As a run that was killed leaves it: a record, and a clock that is locked.
  void leave(std::uint32_t gpu, std::optional<Megahertz> baseline = std::nullopt, const char* boot = kBoot) {
    const auto directory = folder_.open(Hold::kAgent, boot);
    ASSERT_TRUE(directory->write({.gpu = uuid(gpu),
                                  .owner = {.pid = 71, .uid = 0, .job = "gpt3", .client = ""},
                                  .baseline = baseline,
                                  .boot_id = {},
                                  .acquired_unix_s = 0}));
    backend_.device(gpu).lock_from_outside(Megahertz(900));
  }
  RecoverReport run(Hold hold = Hold::kAgent) {
    const auto directory = folder_.open(hold);
    EXPECT_TRUE(directory);
    auto report = recover(*directory, backend_, options_, time_);
    EXPECT_TRUE(report);
    return *std::move(report);
  }
  [[nodiscard]] std::vector<std::optional<Megahertz>> locked() {
    std::vector<std::optional<Megahertz>> out;
    for (std::uint32_t i = 0; i < 4; ++i) out.push_back(backend_.device(i).locked());
    return out;
  }

  TestFolder folder_;
  tests::FakeBackend backend_{4};
  ManualTime time_;
  Duration slept_{};
  RecoverOptions options_;
};

constexpr std::nullopt_t kDefault = std::nullopt;

TEST_F(RecoverTest, BringsBackWhatTheJournalOwes) {
  leave(0);
  leave(2, Megahertz(1305));
  const RecoverReport report = run();
  EXPECT_TRUE(report.complete());
  ASSERT_EQ(report.gpus.size(), 2U);
  EXPECT_EQ(report.gpus[0].gpu, uuid(0));
  EXPECT_EQ(report.gpus[0].owner, "gpt3 (pid 71, uid 0)");
  EXPECT_EQ(report.gpus[1].baseline, Megahertz(1305));
  EXPECT_THAT(locked(), ElementsAre(kDefault, kDefault, Megahertz(1305), kDefault));
  EXPECT_THAT(folder_.names(), IsEmpty());
  EXPECT_EQ(backend_.history().size(), 2U);  // others are not touched
}

TEST_F(RecoverTest, WithNothingOwedItTouchesNothing) {
  EXPECT_TRUE(run().complete());
  EXPECT_THAT(backend_.history(), IsEmpty());
}

TEST_F(RecoverTest, ABadRecordsGpuComesBackToTheSitesBaseline) {  // fault table, row 29
  leave(1, Megahertz(1200));
  const std::string whole = folder_.read(uuid(1) + ".lease");
  folder_.write(uuid(1) + ".lease", whole.substr(0, whole.size() / 2));
  options_.site_baseline = [&](std::string_view gpu) {
    return gpu == uuid(1) ? std::optional(Megahertz(1305)) : std::nullopt;
  };
  const RecoverReport report = run();
  EXPECT_TRUE(report.complete());
  ASSERT_EQ(report.bad.size(), 1U);
  EXPECT_EQ(report.bad[0].gpu, uuid(1));
  EXPECT_EQ(backend_.device(1).locked(), Megahertz(1305));
  EXPECT_THAT(folder_.names(), ElementsAre(uuid(1) + ".lease.corrupt-1"));
}

TEST_F(RecoverTest, AnEarlierBootIsNothingToUndo) {  // fault table, row 14
  leave(0, kDefault, kEarlierBoot);
  const RecoverReport report = run();
  EXPECT_THAT(report.dropped, ElementsAre(uuid(0)));
  EXPECT_THAT(report.gpus, IsEmpty());
  EXPECT_THAT(backend_.history(), IsEmpty());
}

TEST_F(RecoverTest, AllMeansEveryGpuWhateverTheJournalSays) {
  leave(1, Megahertz(1200));
  options_.all = true;
  options_.site_baseline = [](std::string_view) { return std::optional(Megahertz(1305)); };
  const RecoverReport report = run();
  EXPECT_EQ(report.gpus.size(), 4U);
  EXPECT_THAT(locked(), ElementsAre(Megahertz(1305), Megahertz(1200), Megahertz(1305), Megahertz(1305)));
}

TEST_F(RecoverTest, ADriverThatIsAwayIsOpenedAgain) {
  leave(0);
  leave(1);
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver not loaded"), 3);
  const RecoverReport report = run();
  EXPECT_TRUE(report.complete());
  EXPECT_GT(slept_, 0ns);
  EXPECT_LT(slept_, 2'500ms);
  std::size_t reopened = 0;
  for (const auto& event : backend_.history()) reopened += event.call == Call::kReopen ? 1 : 0;
  EXPECT_EQ(reopened, 3U);
  EXPECT_THAT(locked(), ElementsAre(kDefault, kDefault, kDefault, kDefault));
}

TEST_F(RecoverTest, ItsPatienceEndsAndTheRecordStays) {
  leave(0);
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDriver, "driver not loaded"));
  const RecoverReport report = run();
  EXPECT_FALSE(report.complete());
  EXPECT_EQ(report.gpus[0].result.error().text(), "driver not loaded");
  EXPECT_EQ(slept_, 2'500ms);
  EXPECT_THAT(folder_.names(), ElementsAre(uuid(0) + ".lease"));
}

TEST_F(RecoverTest, ALostGpuIsNotWaitedFor) {  // fault table, row 13
  leave(0);
  leave(1);
  backend_.device(0).fail(Call::kResetClock, core::Error(ErrorCode::kDeviceLost, "XID 79"));
  const RecoverReport report = run();
  EXPECT_FALSE(report.complete());
  EXPECT_EQ(slept_, 0ns);
  EXPECT_EQ(backend_.device(1).locked(), kDefault);
  EXPECT_THAT(folder_.names(), ElementsAre(uuid(0) + ".lease"));
}

TEST_F(RecoverTest, AGpuThatIsNotHereKeepsItsRecord) {
  {
    ASSERT_TRUE(folder_.open()->write(
        {.gpu = "GPU-elsewhere", .owner = {}, .baseline = {}, .boot_id = {}, .acquired_unix_s = 0}));
  }
  const RecoverReport report = run();
  EXPECT_EQ(report.gpus[0].result.error().text(), "GPU-elsewhere is not among the 4 GPUs of this machine");
  EXPECT_THAT(folder_.names(), ElementsAre("GPU-elsewhere.lease"));
}

TEST_F(RecoverTest, OneHangingCallDelaysNoOtherGpu) {  // fault table, row 10
  leave(0);
  leave(1);
  backend_.device(0).hold(Call::kResetClock);
  RecoverReport report;
  std::thread recovering([&] { report = run(); });
  backend_.device(0).wait_until_held(Call::kResetClock);
  while (backend_.device(1).locked()) std::this_thread::yield();
  EXPECT_TRUE(backend_.device(0).locked().has_value());
  backend_.device(0).release(Call::kResetClock);
  recovering.join();
  EXPECT_TRUE(report.complete());
}

TEST_F(RecoverTest, LeavesGpusOfLivingGuardiansAlone) {
  leave(0);
  leave(1);
  const auto guardian = folder_.open(Hold::kGpus);
  const auto held = guardian->lock_gpu(uuid(0));
  ASSERT_TRUE(held);
  const RecoverReport report = run(Hold::kGpus);
  EXPECT_TRUE(report.complete());
  EXPECT_EQ(report.gpus[0].result.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(locked(), ElementsAre(Megahertz(900), kDefault, kDefault, kDefault));
  EXPECT_THAT(folder_.names(), ElementsAre(uuid(0) + ".lease"));
}

}  // namespace
}  // namespace perseus::lease
