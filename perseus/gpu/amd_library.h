// SPDX-License-Identifier: Apache-2.0
//
// AMD SMI as one version of it offers itself. Private to the AMD backend.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "perseus/core/result.h"
#include "perseus/gpu/amd_smi_abi.h"
#include "perseus/gpu/shared_library.h"

namespace perseus::gpu {

/// A function of the library, or its absence.
template <class F>
struct AmdFunction {
  const char* name = "";
  F* call = nullptr;
  explicit operator bool() const { return call != nullptr; }
};

/// All functions that Perseus calls; those of the first group are always there.
struct AmdApi {
  AmdFunction<amd::Init> init{"amdsmi_init"};
  AmdFunction<amd::ShutDown> shut_down{"amdsmi_shut_down"};
  AmdFunction<amd::GetVersion> version{"amdsmi_get_lib_version"};
  AmdFunction<amd::GetSockets> sockets{"amdsmi_get_socket_handles"};
  AmdFunction<amd::GetProcessors> processors{"amdsmi_get_processor_handles"};
  AmdFunction<amd::GetProcessorType> processor_type{"amdsmi_get_processor_type"};
  AmdFunction<amd::GetUuid> uuid{"amdsmi_get_gpu_device_uuid"};

  AmdFunction<amd::StatusText> status_text{"amdsmi_status_code_to_string"};
  AmdFunction<amd::GetBdf> bdf{"amdsmi_get_gpu_device_bdf"};
  AmdFunction<amd::GetStructure> asic_info{"amdsmi_get_gpu_asic_info"};
  AmdFunction<amd::GetFrequencies> frequencies{"amdsmi_get_clk_freq"};
  AmdFunction<amd::GetClockInfo> clock_info{"amdsmi_get_clock_info"};
  AmdFunction<amd::SetClockLimit> set_clock_limit{"amdsmi_set_gpu_clk_limit"};
  AmdFunction<amd::SetPerfLevel> set_perf_level{"amdsmi_set_gpu_perf_level"};
  AmdFunction<amd::GetStructure> power_info{"amdsmi_get_power_info"};
  AmdFunction<amd::GetEnergy> energy{"amdsmi_get_energy_count"};
  AmdFunction<amd::GetTemperature> temperature{"amdsmi_get_temp_metric"};
  AmdFunction<amd::GetUsage> usage{"amdsmi_get_gpu_activity"};
  AmdFunction<amd::GetPowerCap> power_cap{"amdsmi_get_power_cap_info"};
  AmdFunction<amd::GetProcesses> processes{"amdsmi_get_gpu_process_list"};
  AmdFunction<amd::GetVirtualization> virtualization{"amdsmi_get_gpu_virtualization_mode"};
};

/// A loaded and initialised AMD SMI; the destructor shuts it down and unloads it.
class AmdLibrary {
 public:
  /// kNotFound: no such library; kUnsupported: a version whose structures we do not know, or no AMD SMI;
  /// kDriver, kPermission: it does not start.
  [[nodiscard]] static core::Result<std::unique_ptr<AmdLibrary>> open(const std::string& path);
  AmdLibrary(const AmdLibrary&) = delete;
  AmdLibrary& operator=(const AmdLibrary&) = delete;
  ~AmdLibrary();

  [[nodiscard]] const AmdApi& api() const { return api_; }
  [[nodiscard]] const amd::Layout& layout() const { return *layout_; }
  [[nodiscard]] const std::string& path() const { return library_.path(); }
  /// "26.1.0"
  [[nodiscard]] const std::string& version() const { return version_; }
  /// Whether calls may come from several threads at a time: since ROCm 7.2 (RELIABILITY.md 6).
  [[nodiscard]] bool is_thread_safe() const { return thread_safe_; }
  /// Success, or the error that `status` of function `name` stands for.
  [[nodiscard]] core::Status check(amd::Status status, const char* name, const std::string& subject) const;

 private:
  explicit AmdLibrary(SharedLibrary library);
  [[nodiscard]] core::Status require() const;
  [[nodiscard]] core::Status recognise();
  template <class F>
  void find(AmdFunction<F>& function);

  SharedLibrary library_;
  AmdApi api_;
  const amd::Layout* layout_ = nullptr;
  std::string version_;
  bool thread_safe_ = false;
  bool started_ = false;
};

/// What an AMD SMI status means to Perseus. `device_call`: it was about a processor that has worked.
[[nodiscard]] core::ErrorCode amd_error_code(amd::Status status, bool device_call);

}  // namespace perseus::gpu
