// SPDX-License-Identifier: Apache-2.0
//
// The NVML backend on the stand-in library, whose answers each test decides. How it works with a driver that
// behaves is in sim_backend_test.cc.
#include "perseus/gpu/nvml_backend.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "perseus/gpu/backend.h"
#include "perseus/gpu/privilege.h"
#include "tests/fake_gpu/manual_time.h"
#include "tests/nvml/standin.h"

namespace perseus::gpu {
namespace {

using core::Celsius;
using core::ErrorCode;
using core::Joules;
using core::Megahertz;
using core::Watts;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::Standin;

std::string path_of(const std::string& age) {
  return PERSEUS_NVML_STANDINS + age + ".so";
}

/// The text of a refusal, or "accepted".
template <class T>
std::string refusal(const core::Result<T>& result) {
  return result ? "accepted"
                : std::string(core::info(result.error().code()).name) + ": " + result.error().text();
}

/// Holds the stand-in loaded, so that its state outlives the backend's own loading and unloading.
class NvmlBackendTest : public testing::Test {
 protected:
  void use(const std::string& age) {
    backend_.reset();
    if (handle_ != nullptr) ::dlclose(handle_);
    path_ = path_of(age);
    handle_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle_, nullptr) << path_;
    driver_ = reinterpret_cast<Standin* (*)()>(::dlsym(handle_, tests::kStandinFunction))();
  }
  void SetUp() override { use("current"); }
  void TearDown() override {
    backend_.reset();
    ::dlclose(handle_);
  }
  void open() {
    auto opened = NvmlBackend::open(path_, true, time_);
    ASSERT_TRUE(opened) << opened.error().text();
    backend_ = *std::move(opened);
  }
  Device& gpu(std::size_t i = 0) { return *backend_->devices().at(i); }
  void fail(const std::string& function, int code, int times = -1) {
    const std::lock_guard lock(driver_->mutex);
    driver_->failures[function] = {code, times};
  }
  void work() {
    const std::lock_guard lock(driver_->mutex);
    driver_->failures.clear();
  }
  std::ptrdiff_t calls(const std::string& function) {
    const std::lock_guard lock(driver_->mutex);
    return std::ranges::count(driver_->calls, function);
  }

  tests::ManualTime time_;
  std::string path_;
  void* handle_ = nullptr;
  Standin* driver_ = nullptr;
  std::unique_ptr<Backend> backend_;
};

TEST_F(NvmlBackendTest, TellsWhatEachDeviceIs) {
  open();
  EXPECT_EQ(backend_->name(), "sim");
  EXPECT_EQ(backend_->driver_version(), "535.104.05");
  ASSERT_EQ(backend_->devices().size(), 2U);
  const Identity& identity = gpu(1).identity();
  EXPECT_EQ(identity.index, 1U);
  EXPECT_EQ(identity.uuid, "GPU-00000000-0000-0000-0000-000000000001");
  EXPECT_EQ(identity.pci_bus_id, "00000000:01:00.0");
  EXPECT_EQ(identity.name, "NVIDIA A100-SXM4-80GB");
  EXPECT_THAT(backend_->unreadable(), IsEmpty());
}

TEST_F(NvmlBackendTest, ReadsEverythingInUnits) {
  driver_->gpu[0].reasons = 0x1 | 0x4 | 0x20 | (1ULL << 40U);
  driver_->gpu[0].processes = {77, 12, 0, 77, 0xFFFF'FFFF};
  driver_->gpu[0].mps_processes = {5};
  open();
  EXPECT_EQ(gpu().sm_clock().value(), Megahertz{1410});
  const PowerReading power = gpu().power().value();
  EXPECT_EQ(power.momentary, Watts{90.5});
  EXPECT_EQ(power.averaged, std::nullopt);
  const EnergyReading energy = gpu().energy().value();
  EXPECT_EQ(energy.total, Joules{5});
  EXPECT_EQ(energy.source, EnergySource::kCounter);
  EXPECT_EQ(energy.epoch, 0U);
  EXPECT_EQ(gpu().temperature().value(), Celsius{41});
  ClockReasons reasons;
  reasons.add(ClockReason::kIdle);
  reasons.add(ClockReason::kPowerCap);
  reasons.add(ClockReason::kSoftwareThermal);
  EXPECT_EQ(gpu().clock_reasons().value(), reasons);
  EXPECT_EQ(gpu().utilization().value(), 0.25);
  EXPECT_EQ(gpu().enforced_power_limit().value(), Watts{400});
  EXPECT_THAT(gpu().processes().value(), ElementsAre(5, 12, 77));
}

TEST_F(NvmlBackendTest, ListsClocksAscendingOnceAtTheHighestMemoryClock) {
  open();
  EXPECT_THAT(gpu().supported_clocks().value(),
              ElementsAre(Megahertz{210}, Megahertz{1395}, Megahertz{1410}));
  EXPECT_TRUE(gpu().supported_clocks());
  EXPECT_EQ(calls("nvmlDeviceGetSupportedGraphicsClocks"), 1) << "asked again for what does not change";
}

TEST_F(NvmlBackendTest, LocksAndResets) {
  open();
  EXPECT_TRUE(gpu().lock_clock(Megahertz{1395}));
  EXPECT_EQ(driver_->gpu[0].locked_min, 1395U);
  EXPECT_EQ(driver_->gpu[0].locked_max, 1395U);
  EXPECT_EQ(
      refusal(gpu().lock_clock(Megahertz{1400})),
      "invalid_input: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): 1400 MHz is not one of its clocks; "
      "the nearest are 1395 and 1410 MHz");
  EXPECT_TRUE(gpu().reset_clock());
  EXPECT_EQ(driver_->gpu[0].locked_max, 0U);
  EXPECT_EQ(driver_->gpu[1].locked_max, 0U);
}

// A process that starts between two calls makes the list longer than the room that was right a moment ago.
TEST_F(NvmlBackendTest, AsksAgainWhenAListGrowsMeanwhile) {
  open();
  driver_->gpu[0].processes.assign(200, 1);
  int seen = 0;
  driver_->on_call = [&](const std::string& function) {
    if (function != "nvmlDeviceGetComputeRunningProcesses_v3") return;
    const std::lock_guard lock(driver_->mutex);
    if (++seen == 2) driver_->gpu[0].processes.assign(1000, 2);
  };
  EXPECT_THAT(gpu().processes().value(), ElementsAre(2));
  EXPECT_EQ(seen, 3);
}

TEST_F(NvmlBackendTest, GivesUpOnListsThatCannotBe) {
  open();
  driver_->lists_grow = true;
  EXPECT_EQ(
      refusal(gpu().processes()),
      "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver answers with a list that no room "
      "is large enough for (32768 items at last), which cannot be");
  driver_->lists_grow = false;
  driver_->lists_lie = true;
  EXPECT_EQ(refusal(gpu().supported_clocks()),
            "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver answers with 129 list "
            "items where "
            "128 have room, which cannot be");
}

TEST_F(NvmlBackendTest, RefusesNumbersThatCannotBe) {
  open();
  const std::string gpu0 = "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver answers ";
  driver_->gpu[0].sm_clock = 0xFFFF'FFFF;
  EXPECT_EQ(refusal(gpu().sm_clock()), gpu0 + "an SM clock of 4294967295 MHz, which cannot be");
  driver_->gpu[0].power_mw = 0xFFFF'FFFF;
  EXPECT_EQ(refusal(gpu().power()), gpu0 + "a power of 4294967.295 W, which cannot be");
  driver_->gpu[0].limit_mw = 0xFFFF'FFFF;
  EXPECT_EQ(refusal(gpu().enforced_power_limit()), gpu0 + "a power limit of 4294967.295 W, which cannot be");
  driver_->gpu[0].utilization = 101;
  EXPECT_EQ(refusal(gpu().utilization()), gpu0 + "a utilization of 101 per cent, which cannot be");
  driver_->gpu[0].memory_clocks = {};
  EXPECT_EQ(refusal(gpu().supported_clocks()), gpu0 + "with no memory clock, which cannot be");
  driver_->gpu[0].memory_clocks = {1593};
  driver_->gpu[0].graphics_clocks = {0, 4'000'000'000};
  EXPECT_EQ(refusal(gpu().supported_clocks()), gpu0 + "with no graphics clock, which cannot be");
}

TEST_F(NvmlBackendTest, TellsMomentaryFromAveragedPower) {
  open();
  driver_->gpu[0].average_code = 0;
  EXPECT_EQ(gpu().power()->momentary, Watts{90.5});
  EXPECT_EQ(gpu().power()->averaged, Watts{91.5});
  driver_->gpu[0].instant_code = 3;
  EXPECT_EQ(gpu().power()->momentary, std::nullopt);
  EXPECT_EQ(gpu().power()->averaged, Watts{91.5});
  // Neither field: nvmlDeviceGetPowerUsage, momentary up to compute capability 8.0 and averaged after it.
  driver_->gpu[0].average_code = 3;
  EXPECT_EQ(gpu().power()->momentary, Watts{90.5});
  EXPECT_EQ(gpu().power()->averaged, std::nullopt);
  driver_->gpu[0].capability_minor = 6;
  EXPECT_EQ(gpu().power()->momentary, std::nullopt);
  EXPECT_EQ(gpu().power()->averaged, Watts{90.5});
  // A value of a type that makes no sense is no value.
  driver_->gpu[0].instant_code = 0;
  driver_->gpu[0].value_type = 6;
  EXPECT_EQ(gpu().power()->averaged, Watts{90.5});
}

TEST_F(NvmlBackendTest, CounterThatGoesBackStartsAnEpoch) {
  open();
  EXPECT_EQ(gpu().energy()->epoch, 0U);
  driver_->gpu[0].energy_mj = 4'999;
  EXPECT_EQ(gpu().energy()->epoch, 1U);
  driver_->gpu[0].energy_mj = 10'000;
  const EnergyReading reading = gpu().energy().value();
  EXPECT_EQ(reading.epoch, 1U);
  EXPECT_EQ(reading.total, Joules{10});
  EXPECT_EQ(gpu(1).energy()->epoch, 0U);
}

TEST_F(NvmlBackendTest, IntegratesPowerWhereThereIsNoCounter) {
  fail("nvmlDeviceGetTotalEnergyConsumption", 3);
  open();
  const EnergyReading first = gpu().energy().value();
  EXPECT_EQ(first.source, EnergySource::kIntegrated);
  EXPECT_EQ(first.total, Joules{0});
  time_.sleep(core::Seconds{0.5});
  EXPECT_EQ(gpu().energy()->total, Joules{90.5 * 0.5});
  EXPECT_EQ(gpu().energy()->epoch, first.epoch);
  // The counter appears (another driver was loaded): another source, so another epoch.
  work();
  EXPECT_EQ(gpu().energy()->source, EnergySource::kCounter);
  EXPECT_EQ(gpu().energy()->epoch, first.epoch + 1);
}

TEST_F(NvmlBackendTest, MapsTheDriversErrors) {
  open();
  const std::string set = "GPU 0 (GPU-00000000-0000-0000-0000-000000000000): nvmlDeviceSetGpuLockedClocks: ";
  fail("nvmlDeviceSetGpuLockedClocks", 4);
  EXPECT_EQ(
      refusal(gpu().lock_clock(Megahertz{210})),
      "permission: " + set +
          "Insufficient Permissions (NVML error 4); let `perseus agent` do it, which runs with the right to");
  fail("nvmlDeviceSetGpuLockedClocks", 17);
  EXPECT_EQ(refusal(gpu().lock_clock(Megahertz{210})),
            "permission: " + set +
                "Unknown Error (NVML error 17); the system or a cgroup bars this process from the GPU's "
                "device file");
  fail("nvmlDeviceSetGpuLockedClocks", 3);
  EXPECT_EQ(refusal(gpu().lock_clock(Megahertz{210})),
            "unsupported: " + set + "Not Supported (NVML error 3)");
  fail("nvmlDeviceSetGpuLockedClocks", 18);
  EXPECT_EQ(
      refusal(gpu().lock_clock(Megahertz{210})),
      "driver: " + set +
          "Unknown Error (NVML error 18); the driver was upgraded without a reload: reload it or reboot");
  for (const int code : {1, 2, 9, 10, 999, 12345, -7}) {
    fail("nvmlDeviceSetGpuLockedClocks", code);
    EXPECT_EQ(refusal(gpu().lock_clock(Megahertz{210})),
              "driver: " + set + "Unknown Error (NVML error " + std::to_string(code) + ")");
  }
}

TEST_F(NvmlBackendTest, LostGpuStaysLostUntilReopenedAndLeavesOthersAlone) {
  open();
  fail("nvmlDeviceGetPowerUsage", 15, 1);
  driver_->gpu[0].instant_code = 3;
  EXPECT_EQ(
      refusal(gpu().power()),
      "device_lost: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): nvmlDeviceGetPowerUsage: GPU is lost "
      "(NVML error 15)");
  const auto before = calls("nvmlDeviceResetGpuLockedClocks");
  EXPECT_EQ(
      refusal(gpu().reset_clock()),
      "device_lost: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): lost (NVML error 15) until the driver "
      "is opened again");
  EXPECT_EQ(calls("nvmlDeviceResetGpuLockedClocks"), before) << "a lost GPU was bothered";
  EXPECT_TRUE(gpu(1).reset_clock());
  ASSERT_TRUE(backend_->reopen());
  EXPECT_TRUE(gpu().reset_clock());
}

// NVML_ERROR_NOT_FOUND may mean the GPU or what was asked for: it is no reason to give a GPU up.
TEST_F(NvmlBackendTest, NotFoundIsNotForEver) {
  open();
  fail("nvmlDeviceGetClockInfo", 6);
  EXPECT_EQ(gpu().sm_clock().error().code(), ErrorCode::kDeviceLost);
  EXPECT_TRUE(gpu().reset_clock());
  fail("nvmlDeviceGetSupportedGraphicsClocks", 6);
  EXPECT_EQ(refusal(gpu().supported_clocks()),
            "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver answers that it does not "
            "know its own "
            "memory clock, which cannot be");
  EXPECT_TRUE(gpu().reset_clock());
}

TEST_F(NvmlBackendTest, RefusesClocksUnderMigAndVgpuButReads) {
  open();
  EXPECT_TRUE(gpu().clock_control()->possible);
  EXPECT_EQ(gpu().clock_control()->reason, "");
  driver_->gpu[0].mig = 1;
  fail("nvmlDeviceSetGpuLockedClocks", 3);
  EXPECT_FALSE(gpu().clock_control()->possible);
  EXPECT_EQ(gpu().clock_control()->reason,
            "MIG is enabled, and the driver locks no clock of a partitioned GPU");
  EXPECT_EQ(refusal(gpu().lock_clock(Megahertz{210})),
            "unsupported: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): MIG is enabled, and the driver "
            "locks no "
            "clock of a partitioned GPU");
  EXPECT_TRUE(gpu().sm_clock());
  EXPECT_TRUE(gpu(1).clock_control()->possible);
  driver_->gpu[0].mig = 0;
  driver_->gpu[0].virtualization = 2;
  EXPECT_EQ(gpu().clock_control()->reason,
            "this is a virtual GPU (vGPU): its clocks belong to the machine that hosts it");
  driver_->gpu[0].virtualization = 3;
  EXPECT_EQ(gpu().clock_control()->reason,
            "this GPU is shared out to virtual machines, whose clocks Perseus does not touch");
  driver_->gpu[0].virtualization = 1;
  EXPECT_TRUE(gpu().clock_control()->possible)
      << "a whole GPU passed through to a machine obeys that machine";
}

TEST_F(NvmlBackendTest, KnowsBeforehandThatPrivilegeIsMissing) {
  auto opened = NvmlBackend::open(path_, false);
  ASSERT_TRUE(opened);
  EXPECT_EQ((*opened)->name(), "nvml");
  const ClockControl control = (*opened)->devices()[0]->clock_control().value();
  EXPECT_EQ(control.possible, has_system_administration());
  EXPECT_EQ(control.reason,
            control.possible
                ? ""
                : "setting clocks needs the capability CAP_SYS_ADMIN, which this process lacks; let "
                  "`perseus agent` do it");
}

TEST_F(NvmlBackendTest, ReopeningFindsDevicesByUuidUnderAnyIndex) {
  open();
  Device* first = &gpu(0);
  Device* second = &gpu(1);
  EXPECT_EQ(first->energy()->epoch, 0U);
  std::swap(driver_->gpu[0], driver_->gpu[1]);
  driver_->gpu[1].energy_mj = 10;  // the driver was reloaded
  driver_->gpu[1].graphics_clocks = {345};
  driver_->gpu[0].sm_clock = 300;
  ASSERT_TRUE(backend_->reopen());
  EXPECT_THAT(backend_->devices(), ElementsAre(first, second));
  EXPECT_EQ(second->sm_clock().value(), Megahertz{300});
  EXPECT_EQ(first->energy()->epoch, 1U);
  EXPECT_THAT(first->supported_clocks().value(), ElementsAre(Megahertz{345}))
      << "what was known before is stale";
}

TEST_F(NvmlBackendTest, ReopeningMissesAndAddsDevices) {
  open();
  Device* second = &gpu(1);
  driver_->gpus = 1;
  ASSERT_TRUE(backend_->reopen());
  EXPECT_EQ(
      refusal(second->sm_clock()),
      "device_lost: GPU 1 (GPU-00000000-0000-0000-0000-000000000001): the driver does not show it any more");
  EXPECT_TRUE(gpu(0).sm_clock());
  driver_->gpus = 3;
  ASSERT_TRUE(backend_->reopen());
  ASSERT_EQ(backend_->devices().size(), 3U);
  EXPECT_EQ(&gpu(1), second);
  EXPECT_TRUE(second->sm_clock());
  EXPECT_EQ(gpu(2).identity().index, 2U);
}

TEST_F(NvmlBackendTest, ClosedBackendAnswersUntilTheDriverIsBack) {
  open();
  backend_->close();
  EXPECT_EQ(driver_->started, 0);
  EXPECT_EQ(
      refusal(gpu().sm_clock()),
      "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver's library is closed (quiesced); "
      "open it again first");
  fail("nvmlInit_v2", 9, 1);
  EXPECT_EQ(refusal(backend_->reopen()),
            "driver: the driver is not back: " + path_ + ": nvmlInit_v2: Unknown Error (NVML error 9)");
  EXPECT_EQ(refusal(gpu().sm_clock()),
            "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): the driver is not back: " + path_ +
                ": nvmlInit_v2: Unknown Error (NVML error 9)");
  EXPECT_TRUE(backend_->reopen());
  EXPECT_TRUE(gpu().sm_clock());
}

bool is_mapped(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  const std::string name = std::filesystem::path(path).filename();
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with(name)) return true;
  }
  return false;
}

std::ptrdiff_t open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

// An operator who resets a GPU needs every file descriptor of it closed (RELIABILITY: NVSentinel#1690).
TEST(NvmlBackend, ClosingUnloadsTheLibraryAndItsFiles) {
  const std::string path = path_of("current");
  const auto files = open_files();
  auto backend = NvmlBackend::open(path, true);
  ASSERT_TRUE(backend);
  EXPECT_TRUE(is_mapped(path));
  EXPECT_EQ(open_files(), files + 1);
  (*backend)->close();
  EXPECT_FALSE(is_mapped(path));
  EXPECT_EQ(open_files(), files);
}

TEST_F(NvmlBackendTest, ClosingWaitsForCallsInProgress) {
  open();
  std::mutex mutex;
  std::condition_variable changed;
  bool inside = false;
  bool go_on = false;
  driver_->on_call = [&](const std::string& function) {
    if (function != "nvmlDeviceSetGpuLockedClocks") return;
    std::unique_lock lock(mutex);
    inside = true;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
  };
  std::thread caller([&] { EXPECT_TRUE(gpu().lock_clock(Megahertz{210})); });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return inside; });
  }
  std::thread closer([&] { backend_->close(); });
  // The hanging call of one GPU keeps neither another GPU nor another function from being called.
  EXPECT_TRUE(gpu(1).reset_clock());
  {
    const std::lock_guard lock(mutex);
    go_on = true;
  }
  changed.notify_all();
  caller.join();
  closer.join();
  EXPECT_EQ(driver_->gpu[0].locked_max, 210U);
  EXPECT_EQ(driver_->started, 0);
}

TEST_F(NvmlBackendTest, ManyThreadsMayCall) {
  open();
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(gpu(0).energy()->epoch, 0U) << "readers that overtake each other are no restart";
        EXPECT_TRUE(gpu(1).lock_clock(Megahertz{210}));
        EXPECT_TRUE(gpu(1).supported_clocks());
        const std::lock_guard lock(driver_->mutex);
        ++driver_->gpu[0].energy_mj;
      }
    });
  }
  EXPECT_TRUE(backend_->reopen());
  for (auto& t : threads) t.join();
}

TEST_F(NvmlBackendTest, OldDriverReadsWhatItHas) {
  use("old");
  driver_->gpu[0].processes = {9, 4};
  driver_->gpu[0].reasons = 0x80;
  open();
  EXPECT_EQ(gpu().identity().pci_bus_id, "0000:00:00.0");
  EXPECT_THAT(gpu().processes().value(), ElementsAre(4, 9));
  EXPECT_TRUE(gpu().clock_reasons()->has(ClockReason::kPowerBrake));
  EXPECT_EQ(gpu().temperature().value(), Celsius{41});
  EXPECT_EQ(gpu().power()->momentary, Watts{90.5});
  EXPECT_EQ(gpu().energy()->source, EnergySource::kIntegrated);
  EXPECT_EQ(gpu().clock_control()->reason, "driver 535.104.05 has no nvmlDeviceSetGpuLockedClocks");
  EXPECT_EQ(refusal(gpu().lock_clock(Megahertz{210})),
            "unsupported: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): driver 535.104.05 has no "
            "nvmlDeviceSetGpuLockedClocks");
  fail("nvmlDeviceGetClockInfo", 999);
  EXPECT_EQ(
      refusal(gpu().sm_clock()),
      "driver: GPU 0 (GPU-00000000-0000-0000-0000-000000000000): nvmlDeviceGetClockInfo: no words for it "
      "(NVML error 999)");
}

TEST_F(NvmlBackendTest, FutureDriverNeedsNoDeprecatedName) {
  use("future");
  driver_->gpu[0].reasons = 0x80;
  driver_->gpu[0].temperature = -3;
  open();
  EXPECT_TRUE(gpu().clock_reasons()->has(ClockReason::kPowerBrake));
  EXPECT_EQ(gpu().temperature().value(), Celsius{-3});
  EXPECT_TRUE(gpu().lock_clock(Megahertz{210}));
}

// Their _v3 lists have another layout than is declared.
TEST_F(NvmlBackendTest, AvoidsTheProcessListsOf535) {
  driver_->gpu[0].processes = {7, 8};
  driver_->driver_version = "535.54.03";
  open();
  EXPECT_THAT(gpu().processes().value(), ElementsAre(7, 8));
  EXPECT_EQ(calls("nvmlDeviceGetComputeRunningProcesses_v3"), 0);
  driver_->driver_version = "535.104.05";
  ASSERT_TRUE(backend_->reopen());
  EXPECT_THAT(gpu().processes().value(), ElementsAre(7, 8));
  EXPECT_EQ(calls("nvmlDeviceGetComputeRunningProcesses_v3"), 1);
}

TEST_F(NvmlBackendTest, PrefersTheNewestNameAndFallsBack) {
  open();
  EXPECT_TRUE(gpu().clock_reasons());
  EXPECT_EQ(calls("nvmlDeviceGetCurrentClocksThrottleReasons"), 0);
  EXPECT_EQ(gpu().temperature().value(), Celsius{41});
  EXPECT_EQ(calls("nvmlDeviceGetTemperature"), 0);
  fail("nvmlDeviceGetTemperatureV", 25);
  EXPECT_EQ(gpu().temperature().value(), Celsius{41});
  EXPECT_EQ(calls("nvmlDeviceGetTemperature"), 1);
}

TEST_F(NvmlBackendTest, RefusesALibraryThatIsNoNvml) {
  use("broken");
  EXPECT_EQ(refusal(NvmlBackend::open(path_, true)),
            "unsupported: " + path_ +
                ": this library has no function nvmlDeviceGetUUID, so it is no NVML that Perseus can use");
}

TEST_F(NvmlBackendTest, SaysWhyItDoesNotOpen) {
  EXPECT_EQ(
      refusal(NvmlBackend::open("/nowhere/libnvidia-ml.so.1", true)),
      "not_found: /nowhere/libnvidia-ml.so.1: cannot open shared object file: No such file or directory");
  EXPECT_EQ(
      refusal(NvmlBackend::open("libno-such-driver.so.1", true)),
      "not_found: libno-such-driver.so.1: cannot open shared object file: No such file or directory (looked "
      "for in LD_LIBRARY_PATH, the loader's cache and the system's library folders)");
  fail("nvmlInit_v2", 4);
  EXPECT_EQ(refusal(NvmlBackend::open(path_, true)),
            "permission: " + path_ +
                ": nvmlInit_v2: Insufficient Permissions (NVML error 4); let `perseus agent` do it, which "
                "runs with "
                "the right to");
  work();
  driver_->gpus = 0;
  EXPECT_EQ(refusal(NvmlBackend::open(path_, true)), "not_found: " + path_ + ": the driver shows no GPU");
  driver_->gpus = 1'000'000;
  EXPECT_EQ(refusal(NvmlBackend::open(path_, true)),
            "driver: " + path_ + ": the driver counts 1000000 GPUs, which cannot be");
  EXPECT_EQ(driver_->started, 0) << "a library that was refused stays open";
}

TEST_F(NvmlBackendTest, SkipsGpusThatCannotBeLookedAt) {
  driver_->gpus = 3;
  fail("nvmlDeviceGetHandleByIndex_v2#0", 15);
  driver_->gpu[1].uuid = "../../etc/passwd";
  open();
  ASSERT_EQ(backend_->devices().size(), 1U);
  EXPECT_EQ(gpu().identity().index, 2U);
  ASSERT_EQ(backend_->unreadable().size(), 2U);
  EXPECT_EQ(backend_->unreadable()[0].text(),
            "GPU 0: nvmlDeviceGetHandleByIndex_v2: GPU is lost (NVML error 15)");
  EXPECT_EQ(
      backend_->unreadable()[1].text(),
      "GPU 1: the driver calls it '../../etc/passwd', which is no UUID (1 to 96 letters, digits and '-')");
  EXPECT_EQ(find_device(*backend_, 2).value(), &gpu());
  EXPECT_EQ(refusal(find_device(*backend_, 0)), "not_found: GPU 0: there is no such GPU; sim shows 2");
}

TEST_F(NvmlBackendTest, KeepsGarbageOutOfNames) {
  driver_->gpu[0].name = std::string("A\x01\xFF\n").append(500, 'x');  // no end within the buffer
  driver_->driver_version = "\x1b[31m";
  open();
  EXPECT_EQ(gpu().identity().name, "A???" + std::string(92, 'x'));
  EXPECT_EQ(backend_->driver_version(), "?[31m");
}

TEST(OpenBackend, NamesEveryBackendAndRefusesOthers) {
  for (const auto* name : {"auto", "nvml", "amd", "sim", "command"}) {
    EXPECT_EQ(backend_name(parse_backend(name).value()), name);
  }
  EXPECT_EQ(refusal(parse_backend("cuda")),
            "usage: 'cuda' is no backend; there are auto, nvml, amd, sim and command");
}

}  // namespace
}  // namespace perseus::gpu
