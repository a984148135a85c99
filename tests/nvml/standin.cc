// SPDX-License-Identifier: Apache-2.0
#include "tests/nvml/standin.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "perseus/gpu/nvml_abi.h"

namespace nvml = perseus::gpu::nvml;
using perseus::tests::Standin;
using perseus::tests::StandinGpu;

extern "C" Standin* standin() {
  static Standin state;
  return &state;
}

namespace {

constexpr std::size_t kGpusPerGeneration = 16;
constexpr std::size_t kGenerations = 4096;  // more than any test starts

/// A handle is the address of one of these bytes: one for each GPU and start, so that an earlier start's is
/// known.
std::array<char, kGpusPerGeneration * kGenerations> handles;

std::size_t number_of(nvml::Handle handle) {
  return static_cast<std::size_t>(static_cast<char*>(handle) - handles.data());
}

/// Notes the call; gives the code that it is to fail with, or success.
nvml::Return begin(const char* function) {
  Standin& s = *standin();
  std::function<void(const std::string&)> hook;
  {
    const std::lock_guard lock(s.mutex);
    s.calls.emplace_back(function);
    hook = s.on_call;
  }
  if (hook) hook(function);
  const std::lock_guard lock(s.mutex);
  const auto failure = s.failures.find(std::string_view(function));
  if (failure == s.failures.end() || failure->second.times == 0) return nvml::kSuccess;
  if (failure->second.times > 0) --failure->second.times;
  return failure->second.code;
}

StandinGpu* find(nvml::Handle handle) {
  Standin& s = *standin();
  if (handle == nullptr) return nullptr;
  const std::size_t number = number_of(handle);
  const std::size_t index = number % kGpusPerGeneration;
  return number / kGpusPerGeneration == s.generation && index < s.gpus ? &s.gpu.at(index) : nullptr;
}

/// The frame of every function with a handle.
template <class Work>
nvml::Return with_gpu(const char* function, nvml::Handle handle, Work&& work) {
  if (const auto code = begin(function); code != nvml::kSuccess) return code;
  const std::lock_guard lock(standin()->mutex);
  if (standin()->started == 0) return nvml::kUninitialized;
  StandinGpu* gpu = find(handle);
  return gpu == nullptr ? nvml::kInvalidArgument : work(*gpu);
}

/// Copies as strncpy does: a text as long as the buffer has no end.
nvml::Return copy(const std::string& text, char* to, unsigned length) {
  std::fill_n(to, length, '\0');
  std::copy_n(text.begin(), std::min<std::size_t>(length, text.size()), to);
  return nvml::kSuccess;
}

template <class T, class Fill>
nvml::Return give_list(std::size_t size, unsigned* count, T* items, Fill&& fill) {
  const Standin& s = *standin();
  const unsigned room = *count;
  if (s.lists_lie) {
    *count = room + 1;
    return nvml::kSuccess;
  }
  if (size > room || s.lists_grow) {
    *count = s.lists_grow ? room : static_cast<unsigned>(size);
    return nvml::kInsufficientSize;
  }
  for (unsigned i = 0; i < size; ++i) fill(items[i], i);
  *count = static_cast<unsigned>(size);
  return nvml::kSuccess;
}

nvml::Return give_clocks(const std::vector<unsigned>& clocks, unsigned* count, unsigned* items) {
  return give_list(clocks.size(), count, items, [&](unsigned& item, unsigned i) { item = clocks[i]; });
}

template <class Info>
nvml::Return give_processes(const std::vector<unsigned>& pids, unsigned* count, Info* items) {
  return give_list(pids.size(), count, items, [&](Info& item, unsigned i) { item.pid = pids[i]; });
}

nvml::Return start(const char* function) {
  if (const auto code = begin(function); code != nvml::kSuccess) return code;
  Standin& s = *standin();
  const std::lock_guard lock(s.mutex);
  if (s.started++ == 0) {
    ++s.generation;
    s.file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  return nvml::kSuccess;
}

nvml::Return give_count(const char* function, unsigned* count) {
  if (const auto code = begin(function); code != nvml::kSuccess) return code;
  const std::lock_guard lock(standin()->mutex);
  *count = standin()->gpus;
  return nvml::kSuccess;
}

nvml::Return give_handle(const char* function, unsigned index, nvml::Handle* handle) {
  if (const auto code = begin(function); code != nvml::kSuccess) return code;
  const std::lock_guard lock(standin()->mutex);
  const std::string one = std::string(function) + "#" + std::to_string(index);
  const auto failure = standin()->failures.find(one);
  if (failure != standin()->failures.end()) return failure->second.code;
  *handle = &handles.at(standin()->generation * kGpusPerGeneration + index);
  return nvml::kSuccess;
}

}  // namespace

// The names are NVIDIA's. NOLINTBEGIN(readability-identifier-naming)
extern "C" {

nvml::Return nvmlShutdown() {
  if (const auto code = begin("nvmlShutdown"); code != nvml::kSuccess) return code;
  Standin& s = *standin();
  const std::lock_guard lock(s.mutex);
  if (s.started == 0) return nvml::kUninitialized;
  if (--s.started == 0 && s.file >= 0) {
    ::close(s.file);
    s.file = -1;
  }
  return nvml::kSuccess;
}

nvml::Return nvmlSystemGetDriverVersion(char* version, unsigned length) {
  if (const auto code = begin("nvmlSystemGetDriverVersion"); code != nvml::kSuccess) return code;
  const std::lock_guard lock(standin()->mutex);
  return copy(standin()->driver_version, version, length);
}

nvml::Return nvmlDeviceGetName(nvml::Handle device, char* name, unsigned length) {
  return with_gpu("nvmlDeviceGetName", device, [&](StandinGpu& gpu) { return copy(gpu.name, name, length); });
}

nvml::Return nvmlDeviceGetSupportedMemoryClocks(nvml::Handle device, unsigned* count, unsigned* clocks) {
  return with_gpu("nvmlDeviceGetSupportedMemoryClocks", device,
                  [&](StandinGpu& gpu) { return give_clocks(gpu.memory_clocks, count, clocks); });
}

nvml::Return nvmlDeviceGetSupportedGraphicsClocks(nvml::Handle device, unsigned memory, unsigned* count,
                                                  unsigned* clocks) {
  return with_gpu("nvmlDeviceGetSupportedGraphicsClocks", device, [&](StandinGpu& gpu) {
    // At a lower memory clock there are fewer of them: asking for the wrong one shows.
    if (memory != std::ranges::max(gpu.memory_clocks)) return give_clocks({405}, count, clocks);
    return give_clocks(gpu.graphics_clocks, count, clocks);
  });
}

nvml::Return nvmlDeviceGetClockInfo(nvml::Handle device, int type, unsigned* mhz) {
  return with_gpu("nvmlDeviceGetClockInfo", device, [&](StandinGpu& gpu) {
    if (type != nvml::kClockSm) return nvml::kInvalidArgument;
    *mhz = gpu.locked_max != 0 ? gpu.locked_max : gpu.sm_clock;
    return nvml::kSuccess;
  });
}

nvml::Return nvmlDeviceGetPowerUsage(nvml::Handle device, unsigned* power) {
  return with_gpu("nvmlDeviceGetPowerUsage", device,
                  [&](StandinGpu& gpu) { return *power = gpu.power_mw, nvml::kSuccess; });
}

nvml::Return nvmlDeviceGetEnforcedPowerLimit(nvml::Handle device, unsigned* limit) {
  return with_gpu("nvmlDeviceGetEnforcedPowerLimit", device,
                  [&](StandinGpu& gpu) { return *limit = gpu.limit_mw, nvml::kSuccess; });
}

nvml::Return nvmlDeviceGetUtilizationRates(nvml::Handle device, nvml::Utilization* utilization) {
  return with_gpu("nvmlDeviceGetUtilizationRates", device,
                  [&](StandinGpu& gpu) { return utilization->gpu = gpu.utilization, nvml::kSuccess; });
}

#ifndef STANDIN_BROKEN
nvml::Return nvmlDeviceGetUUID(nvml::Handle device, char* uuid, unsigned length) {
  return with_gpu("nvmlDeviceGetUUID", device, [&](StandinGpu& gpu) { return copy(gpu.uuid, uuid, length); });
}
#endif

// What CUDA 13 marks as deprecated.
#ifndef STANDIN_FUTURE
nvml::Return nvmlDeviceGetCurrentClocksThrottleReasons(nvml::Handle device, unsigned long long* reasons) {
  return with_gpu("nvmlDeviceGetCurrentClocksThrottleReasons", device,
                  [&](StandinGpu& gpu) { return *reasons = gpu.reasons, nvml::kSuccess; });
}

nvml::Return nvmlDeviceGetTemperature(nvml::Handle device, int sensor, unsigned* celsius) {
  return with_gpu("nvmlDeviceGetTemperature", device, [&](StandinGpu& gpu) {
    if (sensor != nvml::kTemperatureGpu) return nvml::kInvalidArgument;
    *celsius = static_cast<unsigned>(gpu.temperature);
    return nvml::kSuccess;
  });
}
#endif

#ifdef STANDIN_OLD

nvml::Return nvmlInit() {
  return start("nvmlInit");
}
nvml::Return nvmlDeviceGetCount(unsigned* count) {
  return give_count("nvmlDeviceGetCount", count);
}
nvml::Return nvmlDeviceGetHandleByIndex(unsigned index, nvml::Handle* handle) {
  return give_handle("nvmlDeviceGetHandleByIndex", index, handle);
}
nvml::Return nvmlDeviceGetPciInfo_v2(nvml::Handle device, void* info) {
  return with_gpu("nvmlDeviceGetPciInfo_v2", device, [&](StandinGpu& gpu) {
    std::memset(info, 0, 52);  // the older structure is that long
    return copy(gpu.bus_id.substr(4), static_cast<char*>(info), nvml::kBusIdLegacyBuffer);
  });
}
nvml::Return nvmlDeviceGetComputeRunningProcesses(nvml::Handle device, unsigned* count,
                                                  nvml::ProcessInfoV1* infos) {
  return with_gpu("nvmlDeviceGetComputeRunningProcesses", device,
                  [&](StandinGpu& gpu) { return give_processes(gpu.processes, count, infos); });
}

#else

nvml::Return nvmlInit_v2() {
  return start("nvmlInit_v2");
}
const char* nvmlErrorString(nvml::Return code) {
  switch (code) {
    case nvml::kNoPermission:
      return "Insufficient Permissions";
    case nvml::kGpuIsLost:
      return "GPU is lost";
    case nvml::kNotSupported:
      return "Not Supported";
    default:
      return "Unknown Error";
  }
}
nvml::Return nvmlDeviceGetCount_v2(unsigned* count) {
  return give_count("nvmlDeviceGetCount_v2", count);
}
nvml::Return nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml::Handle* handle) {
  return give_handle("nvmlDeviceGetHandleByIndex_v2", index, handle);
}
nvml::Return nvmlDeviceGetPciInfo_v3(nvml::Handle device, nvml::PciInfo* info) {
  return with_gpu("nvmlDeviceGetPciInfo_v3", device,
                  [&](StandinGpu& gpu) { return copy(gpu.bus_id, info->bus_id, nvml::kBusIdBuffer); });
}
nvml::Return nvmlDeviceSetGpuLockedClocks(nvml::Handle device, unsigned min, unsigned max) {
  return with_gpu("nvmlDeviceSetGpuLockedClocks", device, [&](StandinGpu& gpu) {
    gpu.locked_min = min;
    gpu.locked_max = max;
    return nvml::kSuccess;
  });
}
nvml::Return nvmlDeviceResetGpuLockedClocks(nvml::Handle device) {
  return with_gpu("nvmlDeviceResetGpuLockedClocks", device, [&](StandinGpu& gpu) {
    gpu.locked_min = gpu.locked_max = 0;
    return nvml::kSuccess;
  });
}
nvml::Return nvmlDeviceGetFieldValues(nvml::Handle device, int count, nvml::FieldValue* values) {
  return with_gpu("nvmlDeviceGetFieldValues", device, [&](StandinGpu& gpu) {
    for (nvml::FieldValue* v = values; v != values + count; ++v) {
      v->result = v->field == nvml::kFieldPowerInstant   ? gpu.instant_code
                  : v->field == nvml::kFieldPowerAverage ? gpu.average_code
                                                         : nvml::kInvalidArgument;
      v->value_type = gpu.value_type;
      v->value.as_unsigned_long_long = 0;
      v->value.as_unsigned = gpu.power_mw + (v->field == nvml::kFieldPowerAverage ? 1'000 : 0);
    }
    return nvml::kSuccess;
  });
}
nvml::Return nvmlDeviceGetTotalEnergyConsumption(nvml::Handle device, unsigned long long* energy) {
  return with_gpu("nvmlDeviceGetTotalEnergyConsumption", device,
                  [&](StandinGpu& gpu) { return *energy = gpu.energy_mj, nvml::kSuccess; });
}
nvml::Return nvmlDeviceGetTemperatureV(nvml::Handle device, nvml::Temperature* temperature) {
  return with_gpu("nvmlDeviceGetTemperatureV", device, [&](StandinGpu& gpu) {
    if (temperature->version != 0x0100000CU || temperature->sensor != 0)
      return nvml::kArgumentVersionMismatch;
    temperature->celsius = gpu.temperature;
    return nvml::kSuccess;
  });
}
nvml::Return nvmlDeviceGetCurrentClocksEventReasons(nvml::Handle device, unsigned long long* reasons) {
  return with_gpu("nvmlDeviceGetCurrentClocksEventReasons", device,
                  [&](StandinGpu& gpu) { return *reasons = gpu.reasons, nvml::kSuccess; });
}
nvml::Return nvmlDeviceGetComputeRunningProcesses_v2(nvml::Handle device, unsigned* count,
                                                     nvml::ProcessInfo* infos) {
  return with_gpu("nvmlDeviceGetComputeRunningProcesses_v2", device,
                  [&](StandinGpu& gpu) { return give_processes(gpu.processes, count, infos); });
}
nvml::Return nvmlDeviceGetComputeRunningProcesses_v3(nvml::Handle device, unsigned* count,
                                                     nvml::ProcessInfo* infos) {
  return with_gpu("nvmlDeviceGetComputeRunningProcesses_v3", device, [&](StandinGpu& gpu) {
    if (standin()->driver_version == "535.54.03")
      return nvml::kUnknown;  // what it writes is not what is declared
    return give_processes(gpu.processes, count, infos);
  });
}
nvml::Return nvmlDeviceGetMPSComputeRunningProcesses_v3(nvml::Handle device, unsigned* count,
                                                        nvml::ProcessInfo* infos) {
  return with_gpu("nvmlDeviceGetMPSComputeRunningProcesses_v3", device,
                  [&](StandinGpu& gpu) { return give_processes(gpu.mps_processes, count, infos); });
}
nvml::Return nvmlDeviceGetMigMode(nvml::Handle device, unsigned* current, unsigned* pending) {
  return with_gpu("nvmlDeviceGetMigMode", device,
                  [&](StandinGpu& gpu) { return *current = *pending = gpu.mig, nvml::kSuccess; });
}
nvml::Return nvmlDeviceGetVirtualizationMode(nvml::Handle device, int* mode) {
  return with_gpu("nvmlDeviceGetVirtualizationMode", device,
                  [&](StandinGpu& gpu) { return *mode = gpu.virtualization, nvml::kSuccess; });
}
nvml::Return nvmlDeviceGetCudaComputeCapability(nvml::Handle device, int* major, int* minor) {
  return with_gpu("nvmlDeviceGetCudaComputeCapability", device, [&](StandinGpu& gpu) {
    *major = gpu.capability_major;
    *minor = gpu.capability_minor;
    return nvml::kSuccess;
  });
}

#endif  // STANDIN_OLD

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
