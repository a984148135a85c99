// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "perseus/lease/test_folder.h"
#include "tests/fake_gpu/fake_device.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::Call;
using tests::Event;
using tests::FakeBackend;

class LeaseTest : public testing::Test {
 protected:
  LeaseTest() : directory_(*folder_.open()) {}

  LeaseTerms terms(std::optional<Megahertz> baseline = std::nullopt) {
    return {.owner = {.pid = 71, .uid = 0, .job = "gpt3", .client = "test"},
            .baseline = baseline,
            .clocks = {Megahertz(885), Megahertz(900), Megahertz(915)}};
  }
  Lease take(std::optional<Megahertz> baseline = std::nullopt) {
    auto lease = Lease::acquire(gpu_, directory_, terms(baseline));
    EXPECT_TRUE(lease);
    return *std::move(lease);
  }
  [[nodiscard]] bool journalled() const { return !folder_.names().empty(); }

  TestFolder folder_;
  StateDirectory directory_;
  FakeBackend backend_{1};
  tests::FakeDevice& gpu_ = backend_.device(0);
};

Event lock(std::uint32_t mhz, bool ok = true) {
  return {0, Call::kLockClock, Megahertz(mhz), ok};
}
Event reset(bool ok = true) {
  return {0, Call::kResetClock, {}, ok};
}

TEST_F(LeaseTest, IsJournalledBeforeTheFirstDriverCall) {
  Lease lease = take(Megahertz(1305));
  EXPECT_THAT(backend_.history(), IsEmpty());
  const auto record = format::parse_lease_record(folder_.read(gpu_.identity().uuid + ".lease"), "x");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->owner, terms().owner);
  EXPECT_EQ(record->baseline, Megahertz(1305));
  EXPECT_EQ(record->boot_id, kBoot);
  EXPECT_GT(record->acquired_unix_s, 1'700'000'000);
}

TEST_F(LeaseTest, SetsAndRestoresTheDriversDefault) {
  Lease lease = take();
  ASSERT_TRUE(lease.set(Megahertz(900)));
  EXPECT_EQ(lease.intended(), Megahertz(900));
  EXPECT_EQ(gpu_.locked(), Megahertz(900));
  ASSERT_TRUE(lease.restore());
  EXPECT_TRUE(lease.over());
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  EXPECT_FALSE(journalled());
  ASSERT_TRUE(lease.restore());  // twice: nothing
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset()));
  EXPECT_EQ(lease.set(Megahertz(900)).error().text(), "the lease is over");
}

TEST_F(LeaseTest, RestoresTheSitesBaseline) {
  Lease lease = take(Megahertz(1305));
  ASSERT_TRUE(lease.set(Megahertz(900)));
  ASSERT_TRUE(lease.to_baseline());
  EXPECT_EQ(lease.intended(), std::nullopt);
  EXPECT_FALSE(lease.off_baseline());
  ASSERT_TRUE(lease.to_baseline());  // already there: no call
  ASSERT_TRUE(lease.restore());      // once more at the end, whatever we believe
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), lock(1305), lock(1305)));
}

TEST_F(LeaseTest, ABaselineThatTheDeviceLacksBecomesItsDefault) {
  Lease lease = take(Megahertz(1307));
  ASSERT_TRUE(lease.set(Megahertz(900)));
  ASSERT_TRUE(lease.restore());
  EXPECT_EQ(gpu_.locked(), std::nullopt);
}

TEST_F(LeaseTest, LeavesAGpuAloneThatItNeverTouched) {
  {
    Lease lease = take();
  }
  EXPECT_THAT(backend_.history(), IsEmpty());
  EXPECT_FALSE(journalled());
}

TEST_F(LeaseTest, NeverLeavesItsLimits) {
  Lease lease = take();
  const auto refused = lease.set(Megahertz(1410));  // the device has it, the lease has not
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidInput);
  EXPECT_THAT(refused.error().text(),
              testing::HasSubstr("1410 MHz is not one of its clocks; the highest is 915 MHz"));
  EXPECT_THAT(backend_.history(), IsEmpty());
}

TEST_F(LeaseTest, ItsDestructorRestores) {
  {
    ASSERT_TRUE(take().set(Megahertz(900)));
  }
  EXPECT_EQ(gpu_.locked(), std::nullopt);
  EXPECT_FALSE(journalled());
}

TEST_F(LeaseTest, MovesAsOne) {
  Lease first = take();
  ASSERT_TRUE(first.set(Megahertz(900)));
  Lease second(std::move(first));
  EXPECT_EQ(second.intended(), Megahertz(900));
  first = std::move(second);
  EXPECT_TRUE(second.over());  // NOLINT(bugprone-use-after-move): that is what is tested
  ASSERT_TRUE(first.restore());
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900), reset()));
}

TEST_F(LeaseTest, OwesWhatTheDriverRefuses) {
  for (const ErrorCode code :
       {ErrorCode::kDriver, ErrorCode::kDeviceLost, ErrorCode::kPermission, ErrorCode::kTimeout}) {
    Lease lease = take();
    ASSERT_TRUE(lease.set(Megahertz(900)));
    gpu_.fail(Call::kResetClock, core::Error(code, "no"), 2);
    EXPECT_EQ(lease.restore().error().code(), code);
    EXPECT_FALSE(lease.over());
    EXPECT_TRUE(journalled());  // whoever comes next knows
    EXPECT_EQ(lease.restore().error().code(), code);
    ASSERT_TRUE(lease.restore());
    EXPECT_FALSE(journalled());
    EXPECT_EQ(gpu_.locked(), std::nullopt);
  }
}

TEST_F(LeaseTest, WhatItCannotRestoreStaysInTheJournal) {
  {
    Lease lease = take();
    ASSERT_TRUE(lease.set(Megahertz(900)));
    gpu_.fail(Call::kResetClock, core::Error(ErrorCode::kDeviceLost, "XID 79"));
  }
  EXPECT_TRUE(journalled());
}

TEST_F(LeaseTest, AfterARefusedClockItDoesNotBelieveTheOldOne) {
  Lease lease = take();
  ASSERT_TRUE(lease.set(Megahertz(900)));
  gpu_.fail(Call::kLockClock, core::Error(ErrorCode::kDriver, "no"), 1);
  ASSERT_FALSE(lease.set(Megahertz(915)));
  EXPECT_EQ(lease.intended(), std::nullopt);
  EXPECT_TRUE(lease.off_baseline());
  ASSERT_TRUE(lease.to_baseline());
  EXPECT_EQ(gpu_.locked(), std::nullopt);
}

TEST_F(LeaseTest, YieldsWithoutTouchingTheClock) {  // invariant I4
  Lease lease = take();
  ASSERT_TRUE(lease.set(Megahertz(900)));
  gpu_.lock_from_outside(Megahertz(1200));
  ASSERT_TRUE(lease.yield());
  EXPECT_EQ(gpu_.locked(), Megahertz(1200));
  EXPECT_FALSE(journalled());
  EXPECT_THAT(backend_.history(), ElementsAre(lock(900)));
}

TEST_F(LeaseTest, IsNotGivenWhereItCannotBeJournalled) {  // fault table, row 29
  std::filesystem::create_directory(folder_.file(gpu_.identity().uuid + ".lease.new"));
  const auto lease = Lease::acquire(gpu_, directory_, terms());
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code(), ErrorCode::kIo);
  EXPECT_THAT(backend_.history(), IsEmpty());
}

TEST_F(LeaseTest, NeedsClocksAndNamesThatCanBeShown) {
  LeaseTerms none = terms();
  none.clocks.clear();
  EXPECT_EQ(Lease::acquire(gpu_, directory_, none).error().text(), "a lease without clocks that may be set");
  LeaseTerms bad = terms();
  bad.owner.job = "a\nb";
  EXPECT_EQ(Lease::acquire(gpu_, directory_, bad).error().text(),
            R"(lease record: job is "a\nb"; it must be printable UTF-8 of at most 128 bytes)");
  EXPECT_FALSE(journalled());
}

TEST_F(LeaseTest, AReloadedDriverIsAskedOnceMore) {
  Lease lease = take();
  ASSERT_TRUE(lease.set(Megahertz(900)));
  lease.forget();
  EXPECT_EQ(lease.intended(), std::nullopt);
  EXPECT_TRUE(lease.off_baseline());  // we were told so, but cannot read it back
}

}  // namespace
}  // namespace perseus::lease
