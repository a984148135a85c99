// SPDX-License-Identifier: Apache-2.0
//
// What we use of NVML's binary interface, declared by ourselves so that no vendor header is needed to build.
// Source of every name, number and layout: NVIDIA, "NVML API Reference Guide"
// (docs.nvidia.com/deploy/nvml-api), API version 13, and the older versions' names that it marks as
// deprecated or superseded. tests/nvml/ and the simulated driver implement the same interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace perseus::gpu::nvml {

/// nvmlReturn_t. An enum of the ABI: other values may arrive, so it is kept as an int.
using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kUninitialized = 1;
inline constexpr Return kInvalidArgument = 2;
inline constexpr Return kNotSupported = 3;
inline constexpr Return kNoPermission = 4;
inline constexpr Return kNotFound = 6;
inline constexpr Return kInsufficientSize = 7;
inline constexpr Return kDriverNotLoaded = 9;
inline constexpr Return kTimeout = 10;
inline constexpr Return kFunctionNotFound = 13;
inline constexpr Return kGpuIsLost = 15;
inline constexpr Return kResetRequired = 16;
inline constexpr Return kOperatingSystem = 17;  ///< the system or a cgroup bars the process from the device
inline constexpr Return kLibRmVersionMismatch = 18;
inline constexpr Return kFreqNotSupported = 24;
inline constexpr Return kArgumentVersionMismatch = 25;
inline constexpr Return kDeprecated = 26;
inline constexpr Return kGpuNotFound = 28;
inline constexpr Return kUnknown = 999;

/// nvmlDevice_t: an opaque pointer.
using Handle = void*;

inline constexpr unsigned kUuidBuffer = 96;           ///< NVML_DEVICE_UUID_V2_BUFFER_SIZE
inline constexpr unsigned kNameBuffer = 96;           ///< NVML_DEVICE_NAME_V2_BUFFER_SIZE
inline constexpr unsigned kDriverVersionBuffer = 80;  ///< NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
inline constexpr unsigned kBusIdLegacyBuffer = 16;    ///< NVML_DEVICE_PCI_BUS_ID_BUFFER_V2_SIZE
inline constexpr unsigned kBusIdBuffer = 32;          ///< NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE

/// nvmlPciInfo_t as of nvmlDeviceGetPciInfo_v3. Earlier versions share its first six members and are smaller.
struct PciInfo {
  char bus_id_legacy[kBusIdLegacyBuffer];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[kBusIdBuffer];
};
static_assert(sizeof(PciInfo) == 68);

/// nvmlClockType_t
inline constexpr int kClockSm = 1;
/// nvmlTemperatureSensors_t
inline constexpr int kTemperatureGpu = 0;

/// nvmlTemperature_v1_t, of nvmlDeviceGetTemperatureV.
struct Temperature {
  unsigned version;
  int sensor;
  int celsius;
};
/// NVML_STRUCT_VERSION(Temperature, 1): the size, and the version from bit 24 on.
inline constexpr unsigned kTemperatureVersion1 = sizeof(Temperature) | (1U << 24U);

/// nvmlUtilization_t, per cent
struct Utilization {
  unsigned gpu;
  unsigned memory;
};

/// nvmlProcessInfo_v1_t, of nvmlDeviceGetComputeRunningProcesses without a suffix.
struct ProcessInfoV1 {
  unsigned pid;
  unsigned long long used_memory;
};
/// nvmlProcessInfo_v2_t, of the functions with _v2 and _v3.
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance;
  unsigned compute_instance;
};
static_assert(sizeof(ProcessInfoV1) == 16 && sizeof(ProcessInfo) == 24);

/// nvmlValueType_t
inline constexpr int kValueDouble = 0;
inline constexpr int kValueUnsignedInt = 1;
inline constexpr int kValueUnsignedLong = 2;
inline constexpr int kValueUnsignedLongLong = 3;

/// nvmlValue_t
union Value {
  double as_double;
  unsigned as_unsigned;
  unsigned long as_unsigned_long;
  unsigned long long as_unsigned_long_long;
};

/// nvmlFieldValue_t, of nvmlDeviceGetFieldValues.
struct FieldValue {
  unsigned field;
  unsigned scope;  ///< 0: the GPU itself (NVML_POWER_SCOPE_GPU)
  long long timestamp_us;
  long long latency_us;
  int value_type;
  Return result;
  Value value;
};
static_assert(sizeof(FieldValue) == 40 && std::is_trivially_copyable_v<FieldValue>);

inline constexpr unsigned kFieldPowerAverage = 185;  ///< NVML_FI_DEV_POWER_AVERAGE, over 1 s
inline constexpr unsigned kFieldPowerInstant = 186;  ///< NVML_FI_DEV_POWER_INSTANT

/// nvmlGpuVirtualizationMode_t
inline constexpr int kVirtualizationNone = 0;
inline constexpr int kVirtualizationPassthrough = 1;
inline constexpr int kVirtualizationVgpu = 2;
inline constexpr int kVirtualizationHostVgpu = 3;
inline constexpr int kVirtualizationHostVsga = 4;

inline constexpr unsigned kMigEnabled = 1;  ///< NVML_DEVICE_MIG_ENABLE

// Function types, by what they are for.
using Init = Return();
using Shutdown = Return();
using ErrorString = const char*(Return);
using GetText = Return(char* text, unsigned length);
using GetCount = Return(unsigned* count);
using GetHandleByIndex = Return(unsigned index, Handle* device);
using GetDeviceText = Return(Handle device, char* text, unsigned length);
using GetPciInfo = Return(Handle device, PciInfo* info);
using GetMemoryClocks = Return(Handle device, unsigned* count, unsigned* clocks_mhz);
using GetGraphicsClocks = Return(Handle device, unsigned memory_mhz, unsigned* count, unsigned* clocks_mhz);
using SetLockedClocks = Return(Handle device, unsigned min_mhz, unsigned max_mhz);
using ResetLockedClocks = Return(Handle device);
using GetClock = Return(Handle device, int type, unsigned* mhz);
using GetUnsigned = Return(Handle device, unsigned* value);
using GetUnsignedLongLong = Return(Handle device, unsigned long long* value);
using GetFieldValues = Return(Handle device, int count, FieldValue* values);
using GetTemperature = Return(Handle device, int sensor, unsigned* celsius);
using GetTemperatureV = Return(Handle device, Temperature* temperature);
using GetUtilization = Return(Handle device, Utilization* utilization);
using GetProcessesV1 = Return(Handle device, unsigned* count, ProcessInfoV1* infos);
using GetProcesses = Return(Handle device, unsigned* count, ProcessInfo* infos);
using GetMigMode = Return(Handle device, unsigned* current, unsigned* pending);
using GetVirtualizationMode = Return(Handle device, int* mode);
using GetComputeCapability = Return(Handle device, int* major, int* minor);

}  // namespace perseus::gpu::nvml
