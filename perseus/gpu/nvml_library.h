// SPDX-License-Identifier: Apache-2.0
//
// NVML as one version of it offers itself: the functions that are there, under the newest name that is there.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto nvml, NvmlLibrary::open("libnvidia-ml.so.1"));
//   if (nvml->api().energy) ...;        // this driver has the counter
//
// Private to the NVML backend.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>

#include "perseus/core/result.h"
#include "perseus/gpu/nvml_abi.h"
#include "perseus/gpu/shared_library.h"

namespace perseus::gpu {

/// A function of the library, or its absence. `name` is the one it was found under; if it is absent, the
/// newest name that was looked for.
template <class F>
struct NvmlFunction {
  const char* name = "";
  F* call = nullptr;
  explicit operator bool() const { return call != nullptr; }
};

/// All functions that Perseus calls. Those of the first group are always there; the rest depends on the
/// driver.
struct NvmlApi {
  NvmlFunction<nvml::Init> init;
  NvmlFunction<nvml::Shutdown> shutdown;
  NvmlFunction<nvml::GetText> driver_version;
  NvmlFunction<nvml::GetCount> count;
  NvmlFunction<nvml::GetHandleByIndex> handle_by_index;
  NvmlFunction<nvml::GetDeviceText> uuid;
  NvmlFunction<nvml::GetDeviceText> product_name;

  NvmlFunction<nvml::ErrorString> error_string;
  NvmlFunction<nvml::GetPciInfo> pci_info;
  NvmlFunction<nvml::GetMemoryClocks> memory_clocks;
  NvmlFunction<nvml::GetGraphicsClocks> graphics_clocks;
  NvmlFunction<nvml::SetLockedClocks> set_locked_clocks;
  NvmlFunction<nvml::ResetLockedClocks> reset_locked_clocks;
  NvmlFunction<nvml::GetClock> clock;
  NvmlFunction<nvml::GetUnsigned> power_usage;
  NvmlFunction<nvml::GetFieldValues> field_values;
  NvmlFunction<nvml::GetUnsigned> enforced_power_limit;
  NvmlFunction<nvml::GetUnsignedLongLong> energy;
  NvmlFunction<nvml::GetTemperatureV> temperature_v;
  NvmlFunction<nvml::GetTemperature> temperature;
  NvmlFunction<nvml::GetUnsignedLongLong> reasons;
  NvmlFunction<nvml::GetUtilization> utilization;
  NvmlFunction<nvml::GetProcesses> processes;
  NvmlFunction<nvml::GetProcessesV1> processes_v1;
  NvmlFunction<nvml::GetProcesses> mps_processes;
  NvmlFunction<nvml::GetMigMode> mig_mode;
  NvmlFunction<nvml::GetVirtualizationMode> virtualization_mode;
  NvmlFunction<nvml::GetComputeCapability> compute_capability;
};

/// A loaded and initialised NVML. The destructor shuts it down and unloads it, so that the process holds no
/// file descriptor of the driver any more. The functions may be called by several threads.
class NvmlLibrary {
 public:
  /// kNotFound: no such library; kUnsupported: it lacks a function without which nothing goes; kDriver,
  /// kPermission: it does not start, with its own words.
  [[nodiscard]] static core::Result<std::unique_ptr<NvmlLibrary>> open(const std::string& path);
  NvmlLibrary(const NvmlLibrary&) = delete;
  NvmlLibrary& operator=(const NvmlLibrary&) = delete;
  ~NvmlLibrary();

  [[nodiscard]] const NvmlApi& api() const { return api_; }
  [[nodiscard]] const std::string& path() const { return library_.path(); }
  /// As the driver writes it; "unknown" where it does not say.
  [[nodiscard]] const std::string& driver_version() const { return driver_version_; }
  /// Success, or the error that `code` of function `name` stands for: "SUBJECT: NAME: driver's words (code
  /// N)" and, where there is something to do, what.
  [[nodiscard]] core::Status check(nvml::Return code, const char* name, const std::string& subject) const;

 private:
  explicit NvmlLibrary(SharedLibrary library);
  [[nodiscard]] core::Status require() const;
  [[nodiscard]] core::Status start();
  template <class F>
  void find(NvmlFunction<F>& function, std::initializer_list<const char*> newest_first);

  SharedLibrary library_;
  NvmlApi api_;
  std::string driver_version_;
  bool started_ = false;
};

/// What an NVML return code means to Perseus. `device_call`: the function was given a handle that has worked.
[[nodiscard]] core::ErrorCode nvml_error_code(nvml::Return code, bool device_call);

}  // namespace perseus::gpu
