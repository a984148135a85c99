// SPDX-License-Identifier: Apache-2.0
//
// The AMD backend on a library with AMD SMI's ABI. No AMD GPU was at hand (docs/gpus.md).
#include "perseus/gpu/amd_backend.h"

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/amd_smi/standin.h"
#include "tests/fake_gpu/manual_time.h"

namespace perseus::gpu {
namespace {

using core::Celsius;
using core::Joules;
using core::Megahertz;
using core::Watts;
using testing::ElementsAre;
using tests::AmdStandin;

template <class T>
std::string refusal(const core::Result<T>& result) {
  return result ? "accepted"
                : std::string(core::info(result.error().code()).name) + ": " + result.error().text();
}

class AmdBackendTest : public testing::Test {
 protected:
  void use(const std::string& version) {
    backend_.reset();
    if (handle_ != nullptr) ::dlclose(handle_);
    path_ = PERSEUS_AMD_STANDINS + version + ".so";
    handle_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle_, nullptr) << path_;
    driver_ = reinterpret_cast<AmdStandin* (*)()>(::dlsym(handle_, tests::kAmdStandinFunction))();
  }
  void SetUp() override { use("26"); }
  void TearDown() override {
    backend_.reset();
    ::dlclose(handle_);
  }
  void open() {
    auto opened = AmdBackend::open(path_, {.needs_root = false, .time = &time_});
    ASSERT_TRUE(opened) << opened.error().text();
    backend_ = *std::move(opened);
  }
  Device& gpu(std::size_t i = 0) { return *backend_->devices().at(i); }
  tests::AmdStandinGpu& physical(std::size_t i = 0) { return driver_->sockets.at(i).at(0); }
  void fail(const std::string& function, std::uint32_t status, int times = -1) {
    const std::lock_guard lock(driver_->mutex);
    driver_->failures[function] = {status, times};
  }
  std::vector<std::string> settings() {
    const std::lock_guard lock(driver_->mutex);
    return std::exchange(driver_->settings, {});
  }

  tests::ManualTime time_;
  std::string path_;
  void* handle_ = nullptr;
  AmdStandin* driver_ = nullptr;
  std::unique_ptr<Backend> backend_;
};

TEST_F(AmdBackendTest, TellsWhatEachDeviceIs) {
  open();
  EXPECT_EQ(backend_->name(), "amd");
  EXPECT_EQ(backend_->driver_version(), "AMD SMI 26.1.0");
  ASSERT_EQ(backend_->devices().size(), 2U);
  EXPECT_EQ(gpu(1).identity().index, 1U);
  EXPECT_EQ(gpu(1).identity().uuid, "2aff74a1-0000-1000-80de-9ddd9d870001");
  EXPECT_EQ(gpu(1).identity().pci_bus_id, "0000:C2:00.0");
  EXPECT_EQ(gpu(1).identity().name, "AMD Instinct MI300X");
}

// The structures of ROCm 6.3 and of ROCm 7 differ; the same readings must come out of both.
TEST_F(AmdBackendTest, ReadsEverythingInUnitsWithEitherLayout) {
  for (const auto* version : {"24", "26"}) {
    SCOPED_TRACE(version);
    use(version);
    physical().processes = {70, 3, 0, 70};
    physical().average_power_w = 175;
    open();
    EXPECT_EQ(gpu().sm_clock().value(), Megahertz{700});
    EXPECT_EQ(gpu().power()->momentary, Watts{180});
    EXPECT_EQ(gpu().power()->averaged, Watts{175});
    EXPECT_EQ(gpu().temperature().value(), Celsius{55});
    EXPECT_EQ(gpu().utilization().value(), 0.4);
    EXPECT_EQ(gpu().enforced_power_limit().value(), Watts{750});
    EXPECT_THAT(gpu().processes().value(), ElementsAre(3, 70));
    EXPECT_TRUE(gpu().clock_control()->possible);
  }
}

TEST_F(AmdBackendTest, AbsentValuesAreAbsent) {
  open();
  EXPECT_EQ(gpu().power()->averaged, std::nullopt);
  physical().current_power_w = 0xFFFF;
  EXPECT_EQ(refusal(gpu().power()),
            "unsupported: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): it reports no power");
  physical().busy = 0xFFFF'FFFF;
  EXPECT_EQ(refusal(gpu().utilization()),
            "unsupported: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): it reports no utilization");
  fail("amdsmi_get_temp_metric hotspot", 2);
  EXPECT_EQ(gpu().temperature().value(), Celsius{48});
  physical().edge = 61'500;  // in millidegrees, as the documentation has it
  EXPECT_EQ(gpu().temperature().value(), Celsius{61.5});
  physical().cap = 560;  // in watts, as a release has it
  EXPECT_EQ(gpu().enforced_power_limit().value(), Watts{560});
  physical().current_level = 0xFFFF'FFFF;
  EXPECT_EQ(gpu().sm_clock().value(), Megahertz{99});
  EXPECT_EQ(
      refusal(gpu().clock_reasons()),
      "unsupported: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): Perseus does not read the throttle reasons "
      "of AMD GPUs");
}

TEST_F(AmdBackendTest, OffersStepsOfARangeOrTheProductsLevels) {
  open();
  const auto range = gpu().supported_clocks().value();
  EXPECT_EQ(range.front(), Megahertz{132});
  EXPECT_EQ(range[1], Megahertz{140});
  EXPECT_EQ(range[2], Megahertz{150});
  EXPECT_EQ(range.back(), Megahertz{2100});
  EXPECT_EQ(range.size(), 198U);  // 132, 140, 150, ... 2100
  physical(1).levels_hz = {300'000'000, 1'502'000'000, 495'000'000, 731'400'000};
  EXPECT_THAT(gpu(1).supported_clocks().value(),
              ElementsAre(Megahertz{300}, Megahertz{495}, Megahertz{731}, Megahertz{1502}));
  physical(1).levels_hz.assign(40, 1'000'000'000);
  ASSERT_TRUE(backend_->reopen());
  EXPECT_EQ(
      refusal(gpu(1).supported_clocks()),
      "driver: GPU 1 (2aff74a1-0000-1000-80de-9ddd9d870001): the driver answers with 40 clock levels, which "
      "cannot be");
}

// The stand-in refuses a lower bound above the upper one, as amdgpu does: a wrong order fails here.
TEST_F(AmdBackendTest, NeverSetsTheLowerBoundAboveTheUpperOne) {
  open();
  ASSERT_TRUE(gpu().lock_clock(Megahertz{900}));
  EXPECT_THAT(settings(), ElementsAre("auto", "min 900", "max 900"));
  ASSERT_TRUE(gpu().lock_clock(Megahertz{1500}));
  EXPECT_THAT(settings(), ElementsAre("max 1500", "min 1500"));
  ASSERT_TRUE(gpu().lock_clock(Megahertz{140}));
  EXPECT_THAT(settings(), ElementsAre("min 140", "max 140"));
  ASSERT_TRUE(gpu().reset_clock());
  EXPECT_THAT(settings(), ElementsAre("auto"));
  ASSERT_TRUE(gpu().lock_clock(Megahertz{2100}));
  EXPECT_EQ(physical().min_mhz, 2100U);
  EXPECT_EQ(physical().max_mhz, 2100U);
  EXPECT_EQ(physical(1).max_mhz, 2100U);
  // Another program's bounds are unknown after a reopening: from the widest ones on.
  physical().min_mhz = physical().max_mhz = 140;
  ASSERT_TRUE(backend_->reopen());
  settings();
  ASSERT_TRUE(gpu().lock_clock(Megahertz{900}));
  EXPECT_THAT(settings(), ElementsAre("auto", "min 900", "max 900"));
}

TEST_F(AmdBackendTest, HalfALockIsNoLock) {
  open();
  fail("amdsmi_set_gpu_clk_limit max", 12);
  EXPECT_EQ(
      refusal(gpu().lock_clock(Megahertz{900})),
      "driver: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): amdsmi_set_gpu_clk_limit: AMDSMI_STATUS: some "
      "words (AMD SMI status 12)");
  EXPECT_THAT(settings(), ElementsAre("auto", "min 900", "auto"));
  EXPECT_EQ(physical().min_mhz, 132U);
  EXPECT_EQ(physical().max_mhz, 2100U);
}

TEST_F(AmdBackendTest, RefusesWhatItCannotSet) {
  open();
  EXPECT_EQ(
      refusal(gpu().lock_clock(Megahertz{905})),
      "invalid_input: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): 905 MHz is not one of its clocks; the "
      "nearest are 900 and 910 MHz");
  fail("amdsmi_set_gpu_perf_level", 10);
  EXPECT_EQ(
      refusal(gpu().reset_clock()),
      "permission: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): amdsmi_set_gpu_perf_level: "
      "AMDSMI_STATUS_NO_PERM: Permission Denied (AMD SMI status 10); let `perseus agent` do it, which runs "
      "with the right to");
  physical().virtualization = 3;
  EXPECT_FALSE(gpu().clock_control()->possible);
  EXPECT_EQ(
      gpu().clock_control()->reason,
      "AMD SMI sets clocks on bare metal only, and this GPU is virtual or shared with virtual machines");
  EXPECT_TRUE(gpu().sm_clock());
}

TEST_F(AmdBackendTest, PartitionsShareAClock) {
  driver_->sockets[0].push_back(physical());
  driver_->sockets[0][1].uuid = "2aff74a1-0000-1000-80de-9ddd9d870009";
  open();
  ASSERT_EQ(backend_->devices().size(), 3U);
  EXPECT_EQ(gpu(0).clock_control()->reason,
            "the GPU is partitioned, and its partitions share one clock; SPX mode is needed");
  EXPECT_TRUE(gpu(2).clock_control()->possible);
}

/// A counter that shows `factor` times the energy that 180 W have used.
std::function<double()> counter(double factor, tests::ManualTime& time) {
  return [factor, &time] { return 1 + factor * 180 * time.now().value(); };
}

TEST_F(AmdBackendTest, BelievesACounterThatAgreesWithThePower) {
  physical().energy_j = counter(1.0, time_);
  open();
  const EnergyReading first = gpu().energy().value();
  EXPECT_EQ(first.source, EnergySource::kIntegrated);
  for (int i = 0; i < 3; ++i) {
    time_.sleep(core::Seconds{0.5});
    EXPECT_EQ(gpu().energy()->source, EnergySource::kIntegrated);
  }
  EXPECT_EQ(gpu().energy()->total, Joules{180 * 1.5});
  time_.sleep(core::Seconds{0.5});
  const EnergyReading later = gpu().energy().value();
  EXPECT_EQ(later.source, EnergySource::kCounter);
  EXPECT_NEAR(later.total.value(), 1 + 180 * 1002, 1e-3);
  EXPECT_EQ(later.epoch, first.epoch + 1) << "totals of two sources have nothing in common";
  physical().energy_j = [] { return 0.5; };
  EXPECT_EQ(gpu().energy()->epoch, first.epoch + 2);
  EXPECT_NEAR(gpu().energy()->total.value(), 0.5, 1e-4);
}

TEST_F(AmdBackendTest, DistrustsACounterThatDoesNot) {
  physical().energy_j = counter(2.0, time_);
  open();
  for (int i = 0; i <= 10; ++i) {
    const EnergyReading reading = gpu().energy().value();
    ASSERT_EQ(reading.source, EnergySource::kIntegrated);
    ASSERT_EQ(reading.epoch, 0U);
    ASSERT_EQ(reading.total, Joules{90.0 * i});
    time_.sleep(core::Seconds{0.5});
  }
}

TEST_F(AmdBackendTest, IntegratesWithoutACounter) {
  fail("amdsmi_get_energy_count", 2);
  open();
  EXPECT_EQ(gpu().energy()->source, EnergySource::kIntegrated);
}

TEST_F(AmdBackendTest, CallsOneAtATimeBeforeRocm72) {
  open();
  driver_->linger = true;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_TRUE(gpu(t % 2).sm_clock());
        EXPECT_TRUE(gpu(t % 2).lock_clock(Megahertz{900}));
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_FALSE(driver_->overlapped);
}

// A thread that sets a clock and one that re-opens the driver must not wait for each other.
TEST_F(AmdBackendTest, ReopensWhileClocksAreSet) {
  open();
  std::thread setter([this] {
    for (int i = 0; i < 200; ++i) EXPECT_TRUE(gpu().lock_clock(Megahertz{900}));
  });
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(backend_->reopen());
  setter.join();
  EXPECT_EQ(physical().max_mhz, 900U);
}

TEST_F(AmdBackendTest, LostClosedAndBack) {
  open();
  Device* second = &gpu(1);
  const auto gone = driver_->sockets[1];
  driver_->sockets[1].clear();
  // The status may also mean what was asked for; re-opening tells.
  EXPECT_EQ(
      refusal(second->sm_clock()),
      "driver: GPU 1 (2aff74a1-0000-1000-80de-9ddd9d870001): amdsmi_get_clk_freq: AMDSMI_STATUS: some words "
      "(AMD SMI status 31)");
  ASSERT_TRUE(backend_->reopen());
  EXPECT_EQ(
      refusal(second->sm_clock()),
      "device_lost: GPU 1 (2aff74a1-0000-1000-80de-9ddd9d870001): the driver does not show it any more");
  EXPECT_TRUE(gpu(0).sm_clock());
  backend_->close();
  EXPECT_EQ(driver_->started, 0);
  EXPECT_EQ(
      refusal(gpu(0).sm_clock()),
      "driver: GPU 0 (2aff74a1-0000-1000-80de-9ddd9d870000): the driver's library is closed (quiesced); open "
      "it again first");
  driver_->sockets[1] = gone;
  fail("amdsmi_init", 34, 1);
  EXPECT_EQ(refusal(backend_->reopen()), "driver: the driver is not back: " + path_ +
                                             ": amdsmi_init: AMDSMI_STATUS: some words (AMD SMI status 34)");
  ASSERT_TRUE(backend_->reopen());
  EXPECT_TRUE(second->sm_clock());
}

TEST_F(AmdBackendTest, KnowsItsVersions) {
  const auto open_version = [this](std::uint32_t major, std::uint32_t minor) {
    driver_->version[0] = major;
    driver_->version[1] = minor;
    return refusal(AmdBackend::open(path_, {.needs_root = false}));
  };
  EXPECT_EQ(open_version(25, 5), "accepted");
  EXPECT_EQ(open_version(26, 2), "accepted");
  EXPECT_EQ(open_version(27, 0),
            "unsupported: " + path_ +
                ": AMD SMI 27.0.0 is not known to Perseus, whose structures may differ; known "
                "are 24.7 (ROCm 6.3), 25 (ROCm 6.4) and 26 (ROCm 7.0 to 7.2)");
  EXPECT_EQ(driver_->started, 0);
  driver_->version[0] = 26;
  driver_->sockets.clear();
  EXPECT_EQ(refusal(AmdBackend::open(path_, {})), "not_found: " + path_ + ": AMD SMI shows no GPU");
}

}  // namespace
}  // namespace perseus::gpu
