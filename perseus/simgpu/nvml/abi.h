// SPDX-License-Identifier: Apache-2.0
//
// NVML's binary interface as far as the simulated driver speaks it: our own declarations of public facts
// (NVIDIA's NVML API reference; sizes and values as `nvidia-ml-py` 13.615 uses them). Names are NVML's, so
// that they can be looked up there.
#pragma once

#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

extern "C" {

struct nvmlDevice_st;
using nvmlDevice_t = nvmlDevice_st*;

enum nvmlReturn_t : int {
  NVML_SUCCESS = 0,
  NVML_ERROR_UNINITIALIZED = 1,
  NVML_ERROR_INVALID_ARGUMENT = 2,
  NVML_ERROR_NOT_SUPPORTED = 3,
  NVML_ERROR_NO_PERMISSION = 4,
  NVML_ERROR_ALREADY_INITIALIZED = 5,
  NVML_ERROR_NOT_FOUND = 6,
  NVML_ERROR_INSUFFICIENT_SIZE = 7,
  NVML_ERROR_INSUFFICIENT_POWER = 8,
  NVML_ERROR_DRIVER_NOT_LOADED = 9,
  NVML_ERROR_TIMEOUT = 10,
  NVML_ERROR_IRQ_ISSUE = 11,
  NVML_ERROR_LIBRARY_NOT_FOUND = 12,
  NVML_ERROR_FUNCTION_NOT_FOUND = 13,
  NVML_ERROR_CORRUPTED_INFOROM = 14,
  NVML_ERROR_GPU_IS_LOST = 15,
  NVML_ERROR_RESET_REQUIRED = 16,
  NVML_ERROR_OPERATING_SYSTEM = 17,
  NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
  NVML_ERROR_IN_USE = 19,
  NVML_ERROR_MEMORY = 20,
  NVML_ERROR_NO_DATA = 21,
  NVML_ERROR_VGPU_ECC_NOT_SUPPORTED = 22,
  NVML_ERROR_INSUFFICIENT_RESOURCES = 23,
  NVML_ERROR_FREQ_NOT_SUPPORTED = 24,
  NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
  NVML_ERROR_DEPRECATED = 26,
  NVML_ERROR_NOT_READY = 27,
  NVML_ERROR_GPU_NOT_FOUND = 28,
  NVML_ERROR_INVALID_STATE = 29,
  NVML_ERROR_UNKNOWN = 999,
};

enum nvmlClockType_t : unsigned {
  NVML_CLOCK_GRAPHICS = 0,
  NVML_CLOCK_SM = 1,
  NVML_CLOCK_MEM = 2,
  NVML_CLOCK_VIDEO = 3,
};

enum nvmlClockId_t : unsigned {
  NVML_CLOCK_ID_CURRENT = 0,
  NVML_CLOCK_ID_APP_CLOCK_TARGET = 1,
  NVML_CLOCK_ID_APP_CLOCK_DEFAULT = 2,
  NVML_CLOCK_ID_CUSTOMER_BOOST_MAX = 3,
};

/// Special values of nvmlDeviceSetGpuLockedClocks.
inline constexpr unsigned NVML_CLOCK_LIMIT_ID_TDP = 0xFFFFFF01;
inline constexpr unsigned NVML_CLOCK_LIMIT_ID_UNLIMITED = 0xFFFFFF02;

inline constexpr unsigned NVML_TEMPERATURE_GPU = 0;
enum nvmlTemperatureThresholds_t : unsigned {
  NVML_TEMPERATURE_THRESHOLD_SHUTDOWN = 0,
  NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1,
  NVML_TEMPERATURE_THRESHOLD_MEM_MAX = 2,
  NVML_TEMPERATURE_THRESHOLD_GPU_MAX = 3,
};

/// nvmlDeviceGetFieldValues.
inline constexpr unsigned NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION = 83;
inline constexpr unsigned NVML_FI_DEV_POWER_AVERAGE = 185;
inline constexpr unsigned NVML_FI_DEV_POWER_INSTANT = 186;
inline constexpr unsigned NVML_FI_DEV_POWER_MIN_LIMIT = 187;
inline constexpr unsigned NVML_FI_DEV_POWER_MAX_LIMIT = 188;
inline constexpr unsigned NVML_FI_DEV_POWER_DEFAULT_LIMIT = 189;
inline constexpr unsigned NVML_FI_DEV_POWER_CURRENT_LIMIT = 190;
inline constexpr unsigned NVML_POWER_SCOPE_GPU = 0;
enum nvmlValueType_t : unsigned {
  NVML_VALUE_TYPE_UNSIGNED_INT = 1,
  NVML_VALUE_TYPE_UNSIGNED_LONG_LONG = 3,
};

inline constexpr unsigned NVML_BRAND_TESLA = 2;
inline constexpr unsigned NVML_BRAND_NVIDIA = 14;
inline constexpr unsigned NVML_GPU_VIRTUALIZATION_MODE_NONE = 0;
inline constexpr unsigned NVML_GPU_VIRTUALIZATION_MODE_VGPU = 2;

union nvmlValue_t {
  double dVal;
  unsigned int uiVal;
  unsigned long ulVal;
  unsigned long long ullVal;
  long long sllVal;
};

struct nvmlFieldValue_t {
  unsigned int fieldId;
  unsigned int scopeId;
  long long timestamp;  // microseconds since 1970
  long long latencyUsec;
  nvmlValueType_t valueType;
  nvmlReturn_t nvmlReturn;
  nvmlValue_t value;
};

struct nvmlPciInfo_t {
  char busIdLegacy[16];
  unsigned int domain;
  unsigned int bus;
  unsigned int device;
  unsigned int pciDeviceId;
  unsigned int pciSubSystemId;
  char busId[32];
};

/// What nvmlDeviceGetPciInfo and ..._v2 fill in.
struct nvmlPciInfo_v2_t {
  char busId[16];
  unsigned int domain;
  unsigned int bus;
  unsigned int device;
  unsigned int pciDeviceId;
  unsigned int pciSubSystemId;
  unsigned int reserved[4];
};

struct nvmlMemory_t {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

struct nvmlMemory_v2_t {
  unsigned int version;
  unsigned long long total;
  unsigned long long reserved;
  unsigned long long free;
  unsigned long long used;
};

struct nvmlUtilization_t {
  unsigned int gpu;
  unsigned int memory;
};

struct nvmlProcessInfo_v1_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;
};

/// Also ..._v3.
struct nvmlProcessInfo_v2_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId;
  unsigned int computeInstanceId;
};

struct nvmlTemperature_v1_t {
  unsigned int version;
  unsigned int sensorType;
  int temperature;
};

}  // extern "C"

static_assert(sizeof(nvmlFieldValue_t) == 40);
static_assert(sizeof(nvmlPciInfo_t) == 68 && sizeof(nvmlPciInfo_v2_t) == 52);
static_assert(sizeof(nvmlMemory_t) == 24 && sizeof(nvmlMemory_v2_t) == 40);
static_assert(sizeof(nvmlProcessInfo_v1_t) == 16 && sizeof(nvmlProcessInfo_v2_t) == 24);
static_assert(sizeof(nvmlTemperature_v1_t) == 12);

/// The version field of a struct: its size and its number.
template <class T>
constexpr unsigned nvml_struct_version(unsigned number) {
  return static_cast<unsigned>(sizeof(T)) | number << 24U;
}

// NOLINTEND(readability-identifier-naming)
