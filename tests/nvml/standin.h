// SPDX-License-Identifier: Apache-2.0
//
// A library with NVML's ABI whose every answer a test decides: failures, races in the count protocol, strings
// without an end, handles that a reload made stale. It is built in four ages:
//
//   current  as CUDA 13 has it: new and old names
//   old      of about driver 390: old names only, no locked clocks, no energy counter, no MIG
//   future   without the names that CUDA 13 marks as deprecated
//   broken   without nvmlDeviceGetUUID
//
// A test loads it with dlopen, calls `standin()` for its state, and opens a backend on the same path.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace perseus::tests {

struct StandinGpu {
  std::string uuid;
  std::string name = "NVIDIA A100-SXM4-80GB";
  std::string bus_id;
  std::vector<unsigned> memory_clocks = {1215, 1593};
  std::vector<unsigned> graphics_clocks = {1410, 1395, 1395, 210, 0};
  unsigned locked_min = 0;  ///< 0: not locked
  unsigned locked_max = 0;
  unsigned sm_clock = 1410;
  unsigned power_mw = 90'500;
  int instant_code = 0;  ///< of NVML_FI_DEV_POWER_INSTANT
  int average_code = 3;  ///< of NVML_FI_DEV_POWER_AVERAGE; an A100 does not have it
  int value_type = 1;
  unsigned long long energy_mj = 5'000;
  int temperature = 41;
  unsigned long long reasons = 0;
  unsigned utilization = 25;
  unsigned limit_mw = 400'000;
  std::vector<unsigned> processes;
  std::vector<unsigned> mps_processes;
  unsigned mig = 0;
  int virtualization = 0;
  int capability_major = 8;
  int capability_minor = 0;
};

struct StandinFailure {
  int code = 0;
  int times = -1;  ///< below 0: always
};

/// All of it is guarded by `mutex`, which each function of the library holds while it works; `on_call` runs
/// without it.
struct Standin {
  std::mutex mutex;
  unsigned gpus = 2;
  std::array<StandinGpu, 4> gpu;
  std::map<std::string, StandinFailure, std::less<>> failures;  ///< by function
  std::function<void(const std::string& function)> on_call;     ///< before each call
  std::string driver_version = "535.104.05";
  std::vector<std::string> calls;  ///< all functions in their order
  int started = 0;                 ///< nvmlInit less nvmlShutdown
  unsigned generation = 0;         ///< moves on with each start: handles of an earlier one are stale
  int file = -1;                   ///< open while started, like the driver's device files
  bool lists_lie = false;          ///< lists claim more items than there was room for
  bool lists_grow = false;         ///< lists are never satisfied with the room that they get

  Standin() {
    for (unsigned i = 0; i < gpu.size(); ++i) {
      gpu[i].uuid = "GPU-00000000-0000-0000-0000-00000000000" + std::to_string(i);
      gpu[i].bus_id = "00000000:0" + std::to_string(i) + ":00.0";
    }
  }
};

/// The name of the function in the library that gives the state: `Standin* standin()`.
inline constexpr const char* kStandinFunction = "standin";

}  // namespace perseus::tests
