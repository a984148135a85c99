// SPDX-License-Identifier: Apache-2.0
//
// What we use of AMD SMI's binary interface, declared by ourselves. Source: AMD, "AMD SMI C++ API reference"
// (rocm.docs.amd.com/projects/amdsmi) and the header amdsmi.h of ROCm 6.3, 6.4, 7.0 and 7.1, which differ.
// Where a structure changed, only what is at the same place in a known version is read, out of a buffer that
// is larger than any of them. Nothing of this was tried on hardware; tests/amd_smi/ has the same interface.
#pragma once

#include <cstddef>
#include <cstdint>

namespace perseus::gpu::amd {

/// amdsmi_status_t; kept as a number, since other values may arrive.
using Status = std::uint32_t;
inline constexpr Status kSuccess = 0;
inline constexpr Status kInvalid = 1;
inline constexpr Status kNotSupported = 2;
inline constexpr Status kNotYetImplemented = 3;
inline constexpr Status kNoPermission = 10;
inline constexpr Status kOutOfResources = 15;  ///< also: a list has more items than there was room for
inline constexpr Status kNotFound = 31;
inline constexpr Status kNotInitialised = 32;
inline constexpr Status kDriverNotLoaded = 34;
inline constexpr Status kNoData = 40;
inline constexpr Status kSettingUnavailable = 55;

/// amdsmi_socket_handle and amdsmi_processor_handle: opaque pointers.
using Handle = void*;

inline constexpr std::uint64_t kInitGpus = 2;        ///< AMDSMI_INIT_AMD_GPUS
inline constexpr std::uint32_t kProcessorGpu = 1;    ///< AMDSMI_PROCESSOR_TYPE_AMD_GPU
inline constexpr std::uint32_t kClockGraphics = 0;   ///< AMDSMI_CLK_TYPE_GFX
inline constexpr std::uint32_t kLimitMin = 0;        ///< CLK_LIMIT_MIN
inline constexpr std::uint32_t kLimitMax = 1;        ///< CLK_LIMIT_MAX
inline constexpr std::uint32_t kPerfLevelAuto = 0;   ///< AMDSMI_DEV_PERF_LEVEL_AUTO
inline constexpr std::uint32_t kSensorEdge = 0;      ///< AMDSMI_TEMPERATURE_TYPE_EDGE
inline constexpr std::uint32_t kSensorHotspot = 1;   ///< AMDSMI_TEMPERATURE_TYPE_HOTSPOT
inline constexpr std::uint32_t kTemperatureNow = 0;  ///< AMDSMI_TEMP_CURRENT
inline constexpr std::uint32_t kModeUnknown = 0;     ///< amdsmi_virtualization_mode_t
inline constexpr std::uint32_t kModeBareMetal = 1;
inline constexpr unsigned kUuidBuffer = 64;  ///< AMDSMI_GPU_UUID_SIZE is 38

/// A value that this product does not report: all bits set, in 16 or 32 of them (amdsmi.h: "UINT32_MAX").
[[nodiscard]] constexpr bool is_absent(std::uint32_t value) {
  return value == 0xFFFF || value == 0xFFFF'FFFF;
}

/// amdsmi_version_t, 24 bytes in all versions: {year, major, minor, release} up to ROCm 6, {major, minor,
/// release} since ROCm 7, then a pointer to a text.
struct Version {
  std::uint32_t number[4];
  const char* build;
};
static_assert(sizeof(Version) == 24);

/// amdsmi_bdf_t as its 64 bits: function 3, device 5, bus 8, domain 48.
using Bdf = std::uint64_t;

/// amdsmi_frequencies_t, the same from ROCm 6.3 on.
struct Frequencies {
  bool has_deep_sleep;
  std::uint32_t supported;
  std::uint32_t current;  ///< an index
  std::uint64_t hertz[33];
};
static_assert(sizeof(Frequencies) == 280);

/// amdsmi_clk_info_t, the same from ROCm 6.3 on.
struct ClockInfo {
  std::uint32_t mhz;
  std::uint32_t min_mhz;
  std::uint32_t max_mhz;
  std::uint8_t locked;
  std::uint8_t deep_sleep;
  std::uint32_t reserved[4];
};
static_assert(sizeof(ClockInfo) == 32);

/// amdsmi_engine_usage_t, per cent.
struct EngineUsage {
  std::uint32_t graphics;
  std::uint32_t memory;
  std::uint32_t multimedia;
  std::uint32_t reserved[13];
};
static_assert(sizeof(EngineUsage) == 64);

/// amdsmi_power_cap_info_t
struct PowerCap {
  std::uint64_t cap;
  std::uint64_t default_cap;
  std::uint64_t dpm_cap;
  std::uint64_t min_cap;
  std::uint64_t max_cap;
  std::uint64_t reserved[3];
};
static_assert(sizeof(PowerCap) == 64);

/// Room for a structure of any version; larger than all that are used.
struct alignas(8) AnyStructure {
  std::byte bytes[4096];
};

/// Where things are in the structures that changed.
struct Layout {
  std::size_t current_power;  ///< amdsmi_power_info_t::current_socket_power, W
  std::size_t average_power;  ///< amdsmi_power_info_t::average_socket_power, W
  std::size_t process_size;   ///< sizeof(amdsmi_proc_info_t)
  std::size_t process_pid;    ///< amdsmi_proc_info_t::pid
};
/// Version 24.7, ROCm 6.3.
inline constexpr Layout kRocm63{
    .current_power = 0, .average_power = 4, .process_size = 224, .process_pid = 32};
/// Versions 25.x (ROCm 6.4) and 26.x (ROCm 7.0 to 7.2): names of 256 bytes, and socket_power before the two.
inline constexpr Layout kRocm64{
    .current_power = 8, .average_power = 12, .process_size = 704, .process_pid = 256};

using Init = Status(std::uint64_t flags);
using ShutDown = Status();
using GetVersion = Status(Version* version);
using StatusText = Status(Status status, const char** text);
using GetSockets = Status(std::uint32_t* count, Handle* sockets);
using GetProcessors = Status(Handle socket, std::uint32_t* count, Handle* processors);
using GetProcessorType = Status(Handle processor, std::uint32_t* type);
using GetUuid = Status(Handle processor, unsigned* length, char* uuid);
using GetBdf = Status(Handle processor, Bdf* bdf);
using GetStructure = Status(Handle processor, AnyStructure* structure);
using GetFrequencies = Status(Handle processor, std::uint32_t clock, Frequencies* frequencies);
using GetClockInfo = Status(Handle processor, std::uint32_t clock, ClockInfo* info);
using SetClockLimit = Status(Handle processor, std::uint32_t clock, std::uint32_t limit, std::uint64_t mhz);
using SetPerfLevel = Status(Handle processor, std::uint32_t level);
using GetEnergy = Status(Handle processor, std::uint64_t* accumulator, float* resolution_uj,
                         std::uint64_t* timestamp_ns);
using GetTemperature = Status(Handle processor, std::uint32_t sensor, std::uint32_t metric,
                              std::int64_t* temperature);
using GetUsage = Status(Handle processor, EngineUsage* usage);
using GetPowerCap = Status(Handle processor, std::uint32_t sensor, PowerCap* cap);
using GetProcesses = Status(Handle processor, std::uint32_t* count, std::byte* processes);
using GetVirtualization = Status(Handle processor, std::uint32_t* mode);

}  // namespace perseus::gpu::amd
