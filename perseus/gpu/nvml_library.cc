// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/nvml_library.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "perseus/gpu/device_text.h"

namespace perseus::gpu {

using core::ErrorCode;

ErrorCode nvml_error_code(nvml::Return code, bool device_call) {
  switch (code) {
    case nvml::kNotSupported:
    case nvml::kFunctionNotFound:
    case nvml::kFreqNotSupported:
    case nvml::kArgumentVersionMismatch:
    case nvml::kDeprecated:
      return ErrorCode::kUnsupported;
    case nvml::kNoPermission:
    case nvml::kOperatingSystem:
      return ErrorCode::kPermission;
    case nvml::kGpuIsLost:
    case nvml::kResetRequired:
      return ErrorCode::kDeviceLost;
    case nvml::kNotFound:
    case nvml::kGpuNotFound:
      // A handle was good before: the GPU behind it has gone.
      return device_call ? ErrorCode::kDeviceLost : ErrorCode::kNotFound;
    default:
      // Among them "uninitialised", "driver not loaded", "version mismatch" and "invalid argument" (a handle
      // from before a reload): all pass when the library is opened again.
      return ErrorCode::kDriver;
  }
}

namespace {

/// Drivers 535.43 to 535.86 write 32 bytes per process in the _v3 functions where 24 are declared, before and
/// after; 535.98 took the _v3 functions away again (nvidia-settings, nvml.h of those versions; nvitop, pull
/// requests 79 and 89). Their _v2 functions are sound.
bool has_wide_process_lists(std::string_view driver_version) {
  constexpr std::string_view kBranch = "535.";
  constexpr int kSoundAgain = 98;
  if (!driver_version.starts_with(kBranch)) return false;
  driver_version.remove_prefix(kBranch.size());
  int minor = kSoundAgain;
  std::from_chars(driver_version.data(), driver_version.data() + driver_version.size(), minor);
  return minor < kSoundAgain;
}

}  // namespace

template <class F>
void NvmlLibrary::find(NvmlFunction<F>& function, std::initializer_list<const char*> newest_first) {
  function = {*newest_first.begin(), nullptr};
  for (const char* name : newest_first) {
    if (auto* call = library_.function<F>(name); call != nullptr) {
      function = {name, call};
      return;
    }
  }
}

NvmlLibrary::NvmlLibrary(SharedLibrary library) : library_(std::move(library)) {
  find(api_.init, {"nvmlInit_v2", "nvmlInit"});
  find(api_.shutdown, {"nvmlShutdown"});
  find(api_.driver_version, {"nvmlSystemGetDriverVersion"});
  find(api_.count, {"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"});
  find(api_.handle_by_index, {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"});
  find(api_.uuid, {"nvmlDeviceGetUUID"});
  find(api_.product_name, {"nvmlDeviceGetName"});
  find(api_.error_string, {"nvmlErrorString"});
  // The older ones fill a shorter structure with the same beginning.
  find(api_.pci_info, {"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"});
  find(api_.memory_clocks, {"nvmlDeviceGetSupportedMemoryClocks"});
  find(api_.graphics_clocks, {"nvmlDeviceGetSupportedGraphicsClocks"});
  find(api_.set_locked_clocks, {"nvmlDeviceSetGpuLockedClocks"});
  find(api_.reset_locked_clocks, {"nvmlDeviceResetGpuLockedClocks"});
  find(api_.clock, {"nvmlDeviceGetClockInfo"});
  find(api_.power_usage, {"nvmlDeviceGetPowerUsage"});
  find(api_.field_values, {"nvmlDeviceGetFieldValues"});
  find(api_.enforced_power_limit, {"nvmlDeviceGetEnforcedPowerLimit"});
  find(api_.energy, {"nvmlDeviceGetTotalEnergyConsumption"});
  // Deprecated in CUDA 13 (nvml.h 13.0): nvmlDeviceGetTemperature and ...ThrottleReasons.
  find(api_.temperature_v, {"nvmlDeviceGetTemperatureV"});
  find(api_.temperature, {"nvmlDeviceGetTemperature"});
  find(api_.reasons, {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
  find(api_.utilization, {"nvmlDeviceGetUtilizationRates"});
  find(api_.processes,
       {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"});
  find(api_.processes_v1, {"nvmlDeviceGetComputeRunningProcesses"});
  find(api_.mps_processes,
       {"nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2"});
  find(api_.mig_mode, {"nvmlDeviceGetMigMode"});
  find(api_.virtualization_mode, {"nvmlDeviceGetVirtualizationMode"});
  find(api_.compute_capability, {"nvmlDeviceGetCudaComputeCapability"});
}

core::Result<std::unique_ptr<NvmlLibrary>> NvmlLibrary::open(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(auto library, SharedLibrary::open(path));
  std::unique_ptr<NvmlLibrary> nvml(new NvmlLibrary(std::move(library)));
  PERSEUS_RETURN_IF_ERROR(nvml->require());
  PERSEUS_RETURN_IF_ERROR(nvml->start());
  return nvml;
}

core::Status NvmlLibrary::require() const {
  const std::array<std::pair<const char*, bool>, 7> needed = {{
      {api_.init.name, bool{api_.init}},
      {api_.shutdown.name, bool{api_.shutdown}},
      {api_.driver_version.name, bool{api_.driver_version}},
      {api_.count.name, bool{api_.count}},
      {api_.handle_by_index.name, bool{api_.handle_by_index}},
      {api_.uuid.name, bool{api_.uuid}},
      {api_.product_name.name, bool{api_.product_name}},
  }};
  for (const auto& [name, there] : needed) {
    if (there) continue;
    return core::fail(
        ErrorCode::kUnsupported,
        fmt::format("{}: this library has no function {}, so it is no NVML that Perseus can use", path(),
                    name));
  }
  return {};
}

core::Status NvmlLibrary::start() {
  PERSEUS_RETURN_IF_ERROR(check(api_.init.call(), api_.init.name, path()));
  started_ = true;
  std::array<char, nvml::kDriverVersionBuffer> version{};
  const auto code = api_.driver_version.call(version.data(), nvml::kDriverVersionBuffer);
  driver_version_ = code == nvml::kSuccess ? printable(version.data(), version.size()) : "unknown";
  if (has_wide_process_lists(driver_version_)) {
    find(api_.processes, {"nvmlDeviceGetComputeRunningProcesses_v2"});
    find(api_.mps_processes, {"nvmlDeviceGetMPSComputeRunningProcesses_v2"});
  }
  return {};
}

NvmlLibrary::~NvmlLibrary() {
  if (started_) api_.shutdown.call();
}

core::Status NvmlLibrary::check(nvml::Return code, const char* name, const std::string& subject) const {
  if (code == nvml::kSuccess) return {};
  const char* words = api_.error_string ? api_.error_string.call(code) : nullptr;
  const ErrorCode meaning = nvml_error_code(code, subject != path());
  constexpr std::size_t kLongestWords = 200;  // bytes; NVML's own are shorter than 100
  std::string text =
      fmt::format("{}: {}: {} (NVML error {})", subject, name,
                  words != nullptr ? printable(words, kLongestWords) : "no words for it", code);
  if (meaning == ErrorCode::kPermission && code == nvml::kNoPermission) {
    text += "; let `perseus agent` do it, which runs with the right to";
  } else if (code == nvml::kOperatingSystem) {
    text += "; the system or a cgroup bars this process from the GPU's device file";
  } else if (code == nvml::kLibRmVersionMismatch) {
    text += "; the driver was upgraded without a reload: reload it or reboot";
  } else if (code == nvml::kResetRequired) {
    text += "; the GPU must be reset";
  }
  return core::fail(meaning, std::move(text));
}

}  // namespace perseus::gpu
