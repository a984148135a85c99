// SPDX-License-Identifier: Apache-2.0
#include "tests/amd_smi/standin.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <thread>

using perseus::tests::AmdStandin;
using perseus::tests::AmdStandinGpu;

// The structures as AMD declares them. What is not used here is left as room of the right size.
namespace {

using Status = std::uint32_t;
constexpr Status kSuccess = 0;
constexpr Status kInvalid = 1;
constexpr Status kOutOfResources = 15;
constexpr Status kNotFound = 31;
constexpr Status kNotInitialised = 32;

#if STANDIN_VERSION == 24
struct LibraryVersion {
  std::uint32_t year, major, minor, release;
  const char* build;
};
struct PowerInfo {
  std::uint32_t current_socket_power;
  std::uint32_t average_socket_power;
  std::uint32_t gfx_voltage;
  std::uint32_t soc_voltage;
  std::uint32_t mem_voltage;
  std::uint32_t power_limit;
  std::uint32_t reserved[11];
};
constexpr std::size_t kNameLength = 32;
constexpr std::size_t kProcessReserved = 4;
#else
struct LibraryVersion {
  std::uint32_t major, minor, release;
  const char* build;
};
struct PowerInfo {
  std::uint64_t socket_power;
  std::uint32_t current_socket_power;
  std::uint32_t average_socket_power;
  std::uint64_t gfx_voltage;
  std::uint64_t soc_voltage;
  std::uint64_t mem_voltage;
  std::uint32_t power_limit;
  std::uint64_t reserved[18];
};
constexpr std::size_t kNameLength = 256;
constexpr std::size_t kProcessReserved = 12;
#endif

struct ProcessInfo {
  char name[kNameLength];
  std::uint32_t pid;
  std::uint64_t mem;
  struct {
    std::uint64_t gfx, enc;
    std::uint32_t reserved[12];
  } engine_usage;
  struct {
    std::uint64_t gtt_mem, cpu_mem, vram_mem;
    std::uint32_t reserved[10];
  } memory_usage;
  char container_name[kNameLength];
  std::uint32_t reserved[kProcessReserved];
};

struct Frequencies {
  bool has_deep_sleep;
  std::uint32_t num_supported;
  std::uint32_t current;
  std::uint64_t frequency[33];
};

struct ClockInfo {
  std::uint32_t clk, min_clk, max_clk;
  std::uint8_t clk_locked, clk_deep_sleep;
  std::uint32_t reserved[4];
};

struct EngineUsage {
  std::uint32_t gfx_activity, umc_activity, mm_activity;
  std::uint32_t reserved[13];
};

struct PowerCapInfo {
  std::uint64_t power_cap, default_power_cap, dpm_cap, min_power_cap, max_power_cap;
  std::uint64_t reserved[3];
};

}  // namespace

extern "C" AmdStandin* amd_standin() {
  static AmdStandin state;
  return &state;
}

namespace {

/// Counts who is inside and fails when told to.
class Visit {
 public:
  explicit Visit(std::string_view function) {
    AmdStandin& s = *amd_standin();
    if (s.inside.fetch_add(1) > 0) s.overlapped = true;
    std::this_thread::yield();  // gives a second caller the time to be noticed
    const std::lock_guard lock(s.mutex);
    const auto failure = s.failures.find(function);
    if (failure == s.failures.end() || failure->second.second == 0) return;
    if (failure->second.second > 0) --failure->second.second;
    status_ = failure->second.first;
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() { amd_standin()->inside.fetch_sub(1); }
  [[nodiscard]] Status status() const { return status_; }

 private:
  Status status_ = kSuccess;
};

AmdStandinGpu* find(void* handle) {
  for (auto& socket : amd_standin()->sockets) {
    for (auto& gpu : socket) {
      if (&gpu == handle) return &gpu;
    }
  }
  return nullptr;
}

template <class Work>
Status with_gpu(std::string_view function, void* handle, Work&& work) {
  const Visit visit(function);
  if (visit.status() != kSuccess) return visit.status();
  const std::lock_guard lock(amd_standin()->mutex);
  if (amd_standin()->started == 0) return kNotInitialised;
  AmdStandinGpu* gpu = find(handle);
  return gpu == nullptr ? kNotFound : work(*gpu);
}

}  // namespace

extern "C" {

Status amdsmi_init(std::uint64_t flags) {
  const Visit visit("amdsmi_init");
  if (visit.status() != kSuccess) return visit.status();
  if (flags != 2) return kInvalid;
  const std::lock_guard lock(amd_standin()->mutex);
  ++amd_standin()->started;
  return kSuccess;
}

Status amdsmi_shut_down() {
  const Visit visit("amdsmi_shut_down");
  const std::lock_guard lock(amd_standin()->mutex);
  --amd_standin()->started;
  return kSuccess;
}

Status amdsmi_get_lib_version(LibraryVersion* version) {
  const Visit visit("amdsmi_get_lib_version");
  const std::lock_guard lock(amd_standin()->mutex);
  const auto* n = amd_standin()->version;
#if STANDIN_VERSION == 24
  version->year = 24;
  version->major = 7;
  version->minor = 0;
#else
  version->major = n[0];
  version->minor = n[1];
#endif
  version->release = n[2];
  version->build = "stand-in";
  return visit.status();
}

Status amdsmi_status_code_to_string(Status status, const char** text) {
  *text = status == 10 ? "AMDSMI_STATUS_NO_PERM: Permission Denied" : "AMDSMI_STATUS: some words";
  return kSuccess;
}

Status amdsmi_get_socket_handles(std::uint32_t* count, void** sockets) {
  const Visit visit("amdsmi_get_socket_handles");
  if (visit.status() != kSuccess) return visit.status();
  const std::lock_guard lock(amd_standin()->mutex);
  auto& all = amd_standin()->sockets;
  const auto room = sockets == nullptr ? 0U : *count;
  *count =
      static_cast<std::uint32_t>(sockets == nullptr ? all.size() : std::min<std::size_t>(room, all.size()));
  for (std::uint32_t i = 0; i < *count && sockets != nullptr; ++i) sockets[i] = &all[i];
  return kSuccess;
}

Status amdsmi_get_processor_handles(void* socket, std::uint32_t* count, void** processors) {
  const Visit visit("amdsmi_get_processor_handles");
  if (visit.status() != kSuccess) return visit.status();
  const std::lock_guard lock(amd_standin()->mutex);
  auto& gpus = *static_cast<std::vector<AmdStandinGpu>*>(socket);
  const auto room = processors == nullptr ? 0U : *count;
  *count = static_cast<std::uint32_t>(processors == nullptr ? gpus.size()
                                                            : std::min<std::size_t>(room, gpus.size()));
  for (std::uint32_t i = 0; i < *count && processors != nullptr; ++i) processors[i] = &gpus[i];
  return kSuccess;
}

Status amdsmi_get_processor_type(void* processor, std::uint32_t* type) {
  return with_gpu("amdsmi_get_processor_type", processor,
                  [&](AmdStandinGpu&) { return *type = 1, kSuccess; });
}

Status amdsmi_get_gpu_device_uuid(void* processor, unsigned* length, char* uuid) {
  return with_gpu("amdsmi_get_gpu_device_uuid", processor, [&](AmdStandinGpu& gpu) {
    if (*length < 38) return kInvalid;
    std::memcpy(uuid, gpu.uuid.c_str(), gpu.uuid.size() + 1);
    return kSuccess;
  });
}

Status amdsmi_get_gpu_device_bdf(void* processor, std::uint64_t* bdf) {
  return with_gpu("amdsmi_get_gpu_device_bdf", processor,
                  [&](AmdStandinGpu& gpu) { return *bdf = gpu.bdf, kSuccess; });
}

Status amdsmi_get_gpu_asic_info(void* processor, char* info) {
  return with_gpu("amdsmi_get_gpu_asic_info", processor, [&](AmdStandinGpu& gpu) {
    std::memcpy(info, gpu.name.c_str(), gpu.name.size() + 1);
    return kSuccess;
  });
}

Status amdsmi_get_clk_freq(void* processor, std::uint32_t clock, Frequencies* frequencies) {
  return with_gpu("amdsmi_get_clk_freq", processor, [&](AmdStandinGpu& gpu) {
    if (clock != 0) return kInvalid;
    frequencies->num_supported = static_cast<std::uint32_t>(gpu.levels_hz.size());
    frequencies->current = gpu.current_level;
    std::copy_n(gpu.levels_hz.begin(), std::min<std::size_t>(33, gpu.levels_hz.size()),
                frequencies->frequency);
    return kSuccess;
  });
}

Status amdsmi_get_clock_info(void* processor, std::uint32_t, ClockInfo* info) {
  return with_gpu("amdsmi_get_clock_info", processor, [&](AmdStandinGpu& gpu) {
    info->clk = 99;
    info->min_clk = static_cast<std::uint32_t>(gpu.min_mhz);
    info->max_clk = static_cast<std::uint32_t>(gpu.max_mhz);
    return kSuccess;
  });
}

Status amdsmi_set_gpu_clk_limit(void* processor, std::uint32_t clock, std::uint32_t limit,
                                std::uint64_t mhz) {
  return with_gpu(limit == 0 ? "amdsmi_set_gpu_clk_limit min" : "amdsmi_set_gpu_clk_limit max", processor,
                  [&](AmdStandinGpu& gpu) {
                    if (clock != 0 || limit > 1 || mhz < gpu.low_mhz || mhz > gpu.high_mhz) return kInvalid;
                    if (limit == 0 ? mhz > gpu.max_mhz : mhz < gpu.min_mhz) return kInvalid;
                    (limit == 0 ? gpu.min_mhz : gpu.max_mhz) = mhz;
                    amd_standin()->settings.push_back((limit == 0 ? "min " : "max ") + std::to_string(mhz));
                    return kSuccess;
                  });
}

Status amdsmi_set_gpu_perf_level(void* processor, std::uint32_t level) {
  return with_gpu("amdsmi_set_gpu_perf_level", processor, [&](AmdStandinGpu& gpu) {
    if (level != 0) return kInvalid;
    gpu.min_mhz = gpu.low_mhz;
    gpu.max_mhz = gpu.high_mhz;
    amd_standin()->settings.emplace_back("auto");
    return kSuccess;
  });
}

Status amdsmi_get_power_info(void* processor, PowerInfo* info) {
  return with_gpu("amdsmi_get_power_info", processor, [&](AmdStandinGpu& gpu) {
    info->current_socket_power = gpu.current_power_w;
    info->average_socket_power = gpu.average_power_w;
    return kSuccess;
  });
}

Status amdsmi_get_energy_count(void* processor, std::uint64_t* accumulator, float* resolution,
                               std::uint64_t* timestamp) {
  return with_gpu("amdsmi_get_energy_count", processor, [&](AmdStandinGpu& gpu) {
    *accumulator = static_cast<std::uint64_t>(gpu.energy_j() * 1e6 / static_cast<double>(gpu.resolution_uj));
    *resolution = gpu.resolution_uj;
    *timestamp = 0;
    return kSuccess;
  });
}

Status amdsmi_get_temp_metric(void* processor, std::uint32_t sensor, std::uint32_t metric,
                              std::int64_t* value) {
  return with_gpu(sensor == 1 ? "amdsmi_get_temp_metric hotspot" : "amdsmi_get_temp_metric edge", processor,
                  [&](AmdStandinGpu& gpu) {
                    if (metric != 0) return kInvalid;
                    *value = sensor == 1 ? gpu.hotspot : gpu.edge;
                    return kSuccess;
                  });
}

Status amdsmi_get_gpu_activity(void* processor, EngineUsage* usage) {
  return with_gpu("amdsmi_get_gpu_activity", processor,
                  [&](AmdStandinGpu& gpu) { return usage->gfx_activity = gpu.busy, kSuccess; });
}

Status amdsmi_get_power_cap_info(void* processor, std::uint32_t sensor, PowerCapInfo* info) {
  return with_gpu("amdsmi_get_power_cap_info", processor, [&](AmdStandinGpu& gpu) {
    if (sensor != 0) return kInvalid;
    info->power_cap = gpu.cap;
    return kSuccess;
  });
}

Status amdsmi_get_gpu_process_list(void* processor, std::uint32_t* count, ProcessInfo* list) {
  return with_gpu("amdsmi_get_gpu_process_list", processor, [&](AmdStandinGpu& gpu) {
    const std::uint32_t room = *count;
    *count = static_cast<std::uint32_t>(gpu.processes.size());
    for (std::uint32_t i = 0; i < std::min(room, *count); ++i) list[i].pid = gpu.processes[i];
    return *count > room ? kOutOfResources : kSuccess;
  });
}

#if STANDIN_VERSION != 24
Status amdsmi_get_gpu_virtualization_mode(void* processor, std::uint32_t* mode) {
  return with_gpu("amdsmi_get_gpu_virtualization_mode", processor,
                  [&](AmdStandinGpu& gpu) { return *mode = gpu.virtualization, kSuccess; });
}
#endif

}  // extern "C"
