// SPDX-License-Identifier: Apache-2.0
//
// The library with NVML's binary interface, loaded as a stranger loads it.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <array>
#include <cstdlib>
#include <thread>
#include <vector>

#include "perseus/simgpu/node.h"
#include "perseus/simgpu/nvml/abi.h"
#include "perseus/simgpu/test_gpu.h"

namespace perseus::simgpu {
namespace {

using core::Megahertz;
using core::Seconds;
using core::Watts;
using ::testing::ElementsAre;

/// A loaded library. It stays loaded: its threads and statics are none of the test's business.
class Library {
 public:
  explicit Library(const char* path) : handle_(::dlopen(path, RTLD_NOW | RTLD_LOCAL)) {}
  [[nodiscard]] bool loaded() const { return handle_ != nullptr; }
  [[nodiscard]] bool has(const char* name) const { return ::dlsym(handle_, name) != nullptr; }
  /// Calls a function by name with exactly these argument types.
  template <class... Args>
  nvmlReturn_t operator()(const char* name, Args... args) const {
    auto* function = reinterpret_cast<nvmlReturn_t (*)(Args...)>(::dlsym(handle_, name));
    return function != nullptr ? function(args...) : NVML_ERROR_FUNCTION_NOT_FOUND;
  }
  [[nodiscard]] const char* error_string(nvmlReturn_t code) const {
    return reinterpret_cast<const char* (*)(nvmlReturn_t)>(::dlsym(handle_, "nvmlErrorString"))(code);
  }

 private:
  void* handle_;
};

class Nvml : public ::testing::Test {
 protected:
  Nvml() : nvml_(PERSEUS_SIM_LIBRARY) {
    NodeSpec spec = test_node(2);
    spec.gpus[1].name = "Other GPU";
    spec.gpus[1].power_usage_is_average = true;
    node_ = std::make_unique<Node>(Node::create(file_.path(), spec).value());
    ::setenv(kEnvironment, file_.path().c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  void SetUp() override {
    ASSERT_TRUE(nvml_.loaded());
    ASSERT_EQ(nvml_("nvmlInit_v2"), NVML_SUCCESS);
    ASSERT_EQ(nvml_("nvmlDeviceGetHandleByIndex_v2", 0U, &gpu_), NVML_SUCCESS);
    ASSERT_EQ(nvml_("nvmlDeviceGetHandleByIndex_v2", 1U, &other_), NVML_SUCCESS);
  }
  void TearDown() override { nvml_("nvmlShutdown"); }

  /// A function that gives one unsigned int; the value, or minus the error code.
  long get(const char* name, nvmlDevice_t device) const {
    unsigned value = 0;
    const nvmlReturn_t result = nvml_(name, device, &value);
    return result == NVML_SUCCESS ? static_cast<long>(value) : -static_cast<long>(result);
  }
  long clock(const char* name, unsigned type) const {
    unsigned value = 0;
    const nvmlReturn_t result = nvml_(name, gpu_, type, &value);
    return result == NVML_SUCCESS ? static_cast<long>(value) : -static_cast<long>(result);
  }
  nvmlReturn_t lock(unsigned low_mhz, unsigned high_mhz) const {
    return nvml_("nvmlDeviceSetGpuLockedClocks", gpu_, low_mhz, high_mhz);
  }
  [[nodiscard]] unsigned long long energy() const {
    unsigned long long value = 0;
    EXPECT_EQ(nvml_("nvmlDeviceGetTotalEnergyConsumption", gpu_, &value), NVML_SUCCESS);
    return value;
  }

  TestFile file_;
  Library nvml_;
  std::unique_ptr<Node> node_;
  nvmlDevice_t gpu_ = nullptr;
  nvmlDevice_t other_ = nullptr;
};

TEST_F(Nvml, CountsAndFindsGpus) {
  unsigned count = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetCount_v2", &count), NVML_SUCCESS);
  EXPECT_EQ(count, 2U);
  const Identity identity = node_->identity(1).value();
  nvmlDevice_t found = nullptr;
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByUUID", identity.uuid.c_str(), &found), NVML_SUCCESS);
  EXPECT_EQ(found, other_);
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByPciBusId_v2", "0000:0a:00.0", &found), NVML_SUCCESS);
  EXPECT_EQ(found, other_);
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByPciBusId", identity.pci_bus_id.c_str(), &found), NVML_SUCCESS);
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByUUID", "GPU-none", &found), NVML_ERROR_NOT_FOUND);
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByIndex_v2", 2U, &found), NVML_ERROR_INVALID_ARGUMENT);
}

TEST_F(Nvml, TextsFitOrSayThatTheyDoNot) {
  std::array<char, 96> text{};
  EXPECT_EQ(nvml_("nvmlDeviceGetName", other_, text.data(), 96U), NVML_SUCCESS);
  EXPECT_STREQ(text.data(), "Other GPU");
  EXPECT_EQ(nvml_("nvmlDeviceGetName", other_, text.data(), 9U), NVML_ERROR_INSUFFICIENT_SIZE);
  EXPECT_EQ(nvml_("nvmlDeviceGetUUID", gpu_, text.data(), 96U), NVML_SUCCESS);
  EXPECT_EQ(text.data(), node_->identity(0).value().uuid);
  EXPECT_EQ(nvml_("nvmlSystemGetDriverVersion", text.data(), 80U), NVML_SUCCESS);
  EXPECT_STREQ(text.data(), "580.95.05");
  EXPECT_EQ(nvml_("nvmlSystemGetNVMLVersion", text.data(), 80U), NVML_SUCCESS);
  EXPECT_STREQ(text.data(), "13.580.95.05");
  EXPECT_STREQ(nvml_.error_string(NVML_ERROR_GPU_IS_LOST), "The GPU is lost");
  EXPECT_STREQ(nvml_.error_string(static_cast<nvmlReturn_t>(12345)), "Unknown error");
}

TEST_F(Nvml, PciInfoHasBothForms) {
  nvmlPciInfo_t pci{};
  EXPECT_EQ(nvml_("nvmlDeviceGetPciInfo_v3", other_, &pci), NVML_SUCCESS);
  EXPECT_STREQ(pci.busId, "00000000:0A:00.0");
  EXPECT_STREQ(pci.busIdLegacy, "0000:0A:00.0");
  EXPECT_EQ(pci.bus, 10U);
  nvmlPciInfo_v2_t old{};
  EXPECT_EQ(nvml_("nvmlDeviceGetPciInfo", other_, &old), NVML_SUCCESS);
  EXPECT_STREQ(old.busId, "0000:0A:00.0");
}

TEST_F(Nvml, SupportedClocksFollowTheSizeProtocol) {
  unsigned count = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetSupportedMemoryClocks", gpu_, &count, static_cast<unsigned*>(nullptr)),
            NVML_ERROR_INSUFFICIENT_SIZE);
  EXPECT_EQ(count, 1U);
  unsigned memory_mhz = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetSupportedMemoryClocks", gpu_, &count, &memory_mhz), NVML_SUCCESS);
  EXPECT_EQ(memory_mhz, 1500U);
  count = 4;
  std::vector<unsigned> clocks(5);
  EXPECT_EQ(nvml_("nvmlDeviceGetSupportedGraphicsClocks", gpu_, memory_mhz, &count, clocks.data()),
            NVML_ERROR_INSUFFICIENT_SIZE);
  EXPECT_EQ(count, 5U);
  EXPECT_EQ(nvml_("nvmlDeviceGetSupportedGraphicsClocks", gpu_, memory_mhz, &count, clocks.data()),
            NVML_SUCCESS);
  EXPECT_THAT(clocks, ElementsAre(1000, 800, 600, 400, 200));
  EXPECT_EQ(nvml_("nvmlDeviceGetSupportedGraphicsClocks", gpu_, 1U, &count, clocks.data()),
            NVML_ERROR_NOT_FOUND);
}

TEST_F(Nvml, LockedClockMovesTheClockUnderLoad) {
  node_->enqueue(0, {.duration = Seconds(10)}).value();
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", NVML_CLOCK_SM), 1000);
  EXPECT_EQ(lock(400, 400), NVML_SUCCESS);
  node_->advance_time(Seconds(0.01));
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", NVML_CLOCK_SM), 400);
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", NVML_CLOCK_GRAPHICS), 400);
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", NVML_CLOCK_MEM), 1500);
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", NVML_CLOCK_VIDEO), 350);
  EXPECT_EQ(clock("nvmlDeviceGetClockInfo", 7), -NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(clock("nvmlDeviceGetMaxClockInfo", NVML_CLOCK_SM), 1000);
  EXPECT_EQ(node_->observe(0)->locked, Megahertz(400));
  unsigned long long reasons = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetCurrentClocksEventReasons", gpu_, &reasons), NVML_SUCCESS);
  EXPECT_EQ(reasons, 2U);
  EXPECT_EQ(nvml_("nvmlDeviceGetCurrentClocksThrottleReasons", other_, &reasons), NVML_SUCCESS);
  EXPECT_EQ(reasons, 1U);
  EXPECT_EQ(nvml_("nvmlDeviceResetGpuLockedClocks", gpu_), NVML_SUCCESS);
  EXPECT_EQ(node_->observe(0)->locked, std::nullopt);
  EXPECT_EQ(lock(NVML_CLOCK_LIMIT_ID_UNLIMITED, NVML_CLOCK_LIMIT_ID_UNLIMITED), NVML_SUCCESS);
  EXPECT_EQ(node_->observe(0)->locked, Megahertz(1000));
  EXPECT_EQ(lock(99'999, 99'999), NVML_ERROR_INVALID_ARGUMENT);
}

TEST_F(Nvml, ApplicationClocksAndMemoryLocks) {
  EXPECT_EQ(clock("nvmlDeviceGetApplicationsClock", NVML_CLOCK_GRAPHICS), 1000);
  EXPECT_EQ(nvml_("nvmlDeviceSetApplicationsClocks", gpu_, 1500U, 600U), NVML_SUCCESS);
  EXPECT_EQ(clock("nvmlDeviceGetApplicationsClock", NVML_CLOCK_GRAPHICS), 600);
  EXPECT_EQ(nvml_("nvmlDeviceResetApplicationsClocks", gpu_), NVML_SUCCESS);
  EXPECT_EQ(clock("nvmlDeviceGetApplicationsClock", NVML_CLOCK_SM), 1000);
  EXPECT_EQ(nvml_("nvmlDeviceSetMemoryLockedClocks", gpu_, 1500U, 1500U), NVML_SUCCESS);
  EXPECT_EQ(node_->observe(0)->memory_lock, Megahertz(1500));
  EXPECT_EQ(nvml_("nvmlDeviceResetMemoryLockedClocks", gpu_), NVML_SUCCESS);
  EXPECT_EQ(node_->observe(0)->memory_lock, std::nullopt);
}

TEST_F(Nvml, PowerAndEnergyAreMilliwattsAndMillijoules) {
  node_->enqueue(0, {.duration = Seconds(2)}).value();
  node_->enqueue(1, {.duration = Seconds(1)}).value();
  node_->advance_time(Seconds(2));
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), 40'000);  // of this moment
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", other_),
            35'000);  // of the last second: half with and half without its clock up
  EXPECT_EQ(energy(), std::llround(node_->observe(0)->counter.value() * 1e3));
  EXPECT_GE(energy(), 1.9 * 240'000);
  EXPECT_LE(energy(), 2 * 240'000);
  EXPECT_EQ(get("nvmlDeviceGetEnforcedPowerLimit", gpu_), 400'000);
  EXPECT_EQ(nvml_("nvmlDeviceSetPowerManagementLimit", gpu_, 250'000U), NVML_SUCCESS);
  EXPECT_EQ(get("nvmlDeviceGetPowerManagementLimit", gpu_), 250'000);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kPowerCap, 200}));
  EXPECT_EQ(get("nvmlDeviceGetEnforcedPowerLimit", gpu_), 200'000);
  EXPECT_EQ(get("nvmlDeviceGetPowerManagementDefaultLimit", gpu_), 400'000);
  unsigned least = 0;
  unsigned most = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetPowerManagementLimitConstraints", gpu_, &least, &most), NVML_SUCCESS);
  EXPECT_EQ(least, 100'000U);
  EXPECT_EQ(most, 400'000U);
}

TEST_F(Nvml, FieldValuesAnswerOneByOne) {
  node_->advance_time(Seconds(2));
  node_->enqueue(0, {.duration = Seconds(10)}).value();
  node_->advance_time(Seconds(0.5));
  std::array<nvmlFieldValue_t, 4> fields{};
  fields[0].fieldId = NVML_FI_DEV_POWER_AVERAGE;
  fields[1].fieldId = NVML_FI_DEV_POWER_INSTANT;
  fields[2].fieldId = NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION;
  fields[3].fieldId = 4711;
  ASSERT_EQ(nvml_("nvmlDeviceGetFieldValues", gpu_, 4, fields.data()), NVML_SUCCESS);
  EXPECT_EQ(fields[0].value.uiVal, 135'000U);
  EXPECT_EQ(fields[1].value.uiVal, 240'000U);
  EXPECT_EQ(fields[2].value.ullVal, energy());
  EXPECT_EQ(fields[2].valueType, NVML_VALUE_TYPE_UNSIGNED_LONG_LONG);
  EXPECT_EQ(fields[3].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
  fields[0].scopeId = 2;  // memory
  ASSERT_EQ(nvml_("nvmlDeviceGetFieldValues", gpu_, 1, fields.data()), NVML_SUCCESS);
  EXPECT_EQ(fields[0].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(nvml_("nvmlDeviceGetFieldValues", gpu_, 0, fields.data()), NVML_ERROR_INVALID_ARGUMENT);
}

TEST_F(Nvml, VersionedStructsMustSayTheirVersion) {
  nvmlTemperature_v1_t temperature{};
  EXPECT_EQ(nvml_("nvmlDeviceGetTemperatureV", gpu_, &temperature), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
  temperature.version = 0x100000C;
  EXPECT_EQ(nvml_("nvmlDeviceGetTemperatureV", gpu_, &temperature), NVML_SUCCESS);
  EXPECT_EQ(temperature.temperature, 30);
  nvmlMemory_v2_t memory{};
  EXPECT_EQ(nvml_("nvmlDeviceGetMemoryInfo_v2", gpu_, &memory), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
  memory.version = 0x2000028;
  ASSERT_TRUE(node_->attach_process(0, 3ULL << 30U));
  EXPECT_EQ(nvml_("nvmlDeviceGetMemoryInfo_v2", gpu_, &memory), NVML_SUCCESS);
  EXPECT_EQ(memory.total, 80ULL << 30U);
  EXPECT_EQ(memory.used, 3ULL << 30U);
  EXPECT_EQ(memory.total, memory.used + memory.free + memory.reserved);
}

TEST_F(Nvml, ProcessesAreListedInEachVersion) {
  unsigned count = 8;
  std::array<nvmlProcessInfo_v1_t, 8> first{};
  std::array<nvmlProcessInfo_v2_t, 8> second{};
  EXPECT_EQ(nvml_("nvmlDeviceGetComputeRunningProcesses_v3", gpu_, &count, second.data()), NVML_SUCCESS);
  EXPECT_EQ(count, 0U);
  ASSERT_TRUE(node_->attach_process(0, 12'345));
  EXPECT_EQ(nvml_("nvmlDeviceGetComputeRunningProcesses_v3", gpu_, &count, second.data()),
            NVML_ERROR_INSUFFICIENT_SIZE);
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(nvml_("nvmlDeviceGetComputeRunningProcesses_v3", gpu_, &count, second.data()), NVML_SUCCESS);
  EXPECT_EQ(second[0].pid, static_cast<unsigned>(::getpid()));
  EXPECT_EQ(second[0].usedGpuMemory, 12'345U);
  EXPECT_EQ(second[0].gpuInstanceId, 0xFFFFFFFF);
  EXPECT_EQ(nvml_("nvmlDeviceGetComputeRunningProcesses", gpu_, &count, first.data()), NVML_SUCCESS);
  EXPECT_EQ(first[0].pid, static_cast<unsigned>(::getpid()));
  EXPECT_EQ(nvml_("nvmlDeviceGetGraphicsRunningProcesses_v3", gpu_, &count, second.data()), NVML_SUCCESS);
  EXPECT_EQ(count, 0U);
}

TEST_F(Nvml, FaultsBecomeTheErrorsOfTheRealLibrary) {
  ASSERT_TRUE(node_->inject(0, {FaultKind::kPermission}));
  EXPECT_EQ(lock(400, 400), NVML_ERROR_NO_PERMISSION);
  EXPECT_EQ(nvml_("nvmlDeviceSetPersistenceMode", gpu_, 1U), NVML_ERROR_NO_PERMISSION);
  ASSERT_TRUE(node_->clear_faults(0));
  ASSERT_TRUE(node_->inject(0, {FaultKind::kMig}));
  unsigned current = 0;
  unsigned pending = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetMigMode", gpu_, &current, &pending), NVML_SUCCESS);
  EXPECT_EQ(current, 1U);
  EXPECT_EQ(lock(400, 400), NVML_ERROR_NOT_SUPPORTED);
  nvmlUtilization_t load{};
  EXPECT_EQ(nvml_("nvmlDeviceGetUtilizationRates", gpu_, &load), NVML_ERROR_NOT_SUPPORTED);
  ASSERT_TRUE(node_->clear_faults(0));
  EXPECT_EQ(get("nvmlDeviceGetVirtualizationMode", gpu_), 0);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kVgpu}));
  EXPECT_EQ(get("nvmlDeviceGetVirtualizationMode", gpu_), 2);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kNoEnergyCounter}));
  unsigned long long value = 0;
  EXPECT_EQ(nvml_("nvmlDeviceGetTotalEnergyConsumption", gpu_, &value), NVML_ERROR_NOT_SUPPORTED);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kLost}));
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), -NVML_ERROR_GPU_IS_LOST);
  EXPECT_EQ(lock(400, 400), NVML_ERROR_GPU_IS_LOST);
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", other_), 30'000);
}

TEST_F(Nvml, ReloadedDriverMustBeStartedAnew) {
  EXPECT_EQ(lock(400, 400), NVML_SUCCESS);
  ASSERT_TRUE(node_->inject(0, {FaultKind::kReload, 1}));
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), -NVML_ERROR_UNINITIALIZED);
  EXPECT_EQ(lock(400, 400), NVML_ERROR_UNINITIALIZED);
  EXPECT_EQ(nvml_("nvmlShutdown"), NVML_SUCCESS);
  EXPECT_EQ(nvml_("nvmlInit_v2"), NVML_ERROR_DRIVER_NOT_LOADED);
  node_->advance_time(Seconds(1));
  EXPECT_EQ(nvml_("nvmlInit_v2"), NVML_SUCCESS);
  ASSERT_EQ(nvml_("nvmlDeviceGetHandleByIndex_v2", 0U, &gpu_), NVML_SUCCESS);
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), 30'000);
  EXPECT_EQ(node_->observe(0)->locked, std::nullopt);
}

TEST_F(Nvml, StartIsCountedAndNeedsANode) {
  EXPECT_EQ(nvml_("nvmlInitWithFlags", 0U), NVML_SUCCESS);
  EXPECT_EQ(nvml_("nvmlShutdown"), NVML_SUCCESS);
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), 30'000);
  EXPECT_EQ(nvml_("nvmlShutdown"), NVML_SUCCESS);
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), -NVML_ERROR_UNINITIALIZED);
  EXPECT_EQ(nvml_("nvmlShutdown"), NVML_ERROR_UNINITIALIZED);
  ::setenv(kEnvironment, "/nonexistent", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(nvml_("nvmlInit_v2"), NVML_ERROR_DRIVER_NOT_LOADED);
  ::unsetenv(kEnvironment);  // NOLINT(concurrency-mt-unsafe): one thread
  EXPECT_EQ(nvml_("nvmlInit_v2"), NVML_ERROR_DRIVER_NOT_LOADED);
}

TEST_F(Nvml, NullAndForeignPointersAreRefused) {
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", nullptr), -NVML_ERROR_INVALID_ARGUMENT);
  int stranger = 0;
  EXPECT_EQ(get("nvmlDeviceGetPowerUsage", reinterpret_cast<nvmlDevice_t>(&stranger)),
            -NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(nvml_("nvmlDeviceGetPowerUsage", gpu_, static_cast<unsigned*>(nullptr)),
            NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(nvml_("nvmlDeviceGetName", gpu_, static_cast<char*>(nullptr), 96U), NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(nvml_("nvmlDeviceGetHandleByUUID", static_cast<const char*>(nullptr), &gpu_),
            NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(nvml_("nvmlDeviceGetCount_v2", static_cast<unsigned*>(nullptr)), NVML_ERROR_INVALID_ARGUMENT);
}

TEST_F(Nvml, ThreadsMayCallAtTheSameTime) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 500; ++i) {
        const unsigned mhz = 200 * (1 + (i + t) % 5);
        EXPECT_EQ(lock(mhz, mhz), NVML_SUCCESS);
        EXPECT_EQ(get("nvmlDeviceGetPowerUsage", gpu_), 30'000);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(*node_->history_count(0), 2000U);
}

TEST(NvmlOldDriver, LacksWhatCameLater) {
  const Library old(PERSEUS_SIM_OLD_LIBRARY);
  ASSERT_TRUE(old.loaded());
  EXPECT_TRUE(old.has("nvmlDeviceSetGpuLockedClocks"));
  EXPECT_TRUE(old.has("nvmlDeviceGetCurrentClocksThrottleReasons"));
  EXPECT_FALSE(old.has("nvmlDeviceGetCurrentClocksEventReasons"));
  EXPECT_FALSE(old.has("nvmlDeviceGetComputeRunningProcesses_v3"));
  EXPECT_FALSE(old.has("nvmlDeviceGetTemperatureV"));
  EXPECT_FALSE(old.has("nvmlDeviceGetFieldValues"));
}

}  // namespace
}  // namespace perseus::simgpu
