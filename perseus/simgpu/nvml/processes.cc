// SPDX-License-Identifier: Apache-2.0
//
// Which processes use a GPU.
#include "perseus/simgpu/nvml/session.h"

using namespace perseus::simgpu;        // NOLINT(google-build-using-namespace): functions of C linkage only
using namespace perseus::simgpu::nvml;  // NOLINT(google-build-using-namespace)

namespace {

void fill(nvmlProcessInfo_v1_t& info, const Process& process) {
  info = {static_cast<unsigned>(process.pid), process.memory_bytes};
}
void fill(nvmlProcessInfo_v2_t& info, const Process& process) {
  // No MIG instance: all bits set.
  info = {static_cast<unsigned>(process.pid), process.memory_bytes, ~0U, ~0U};
}

/// NVML's protocol: with too little room the number is given and NVML_ERROR_INSUFFICIENT_SIZE.
template <class Info>
nvmlReturn_t list_processes(nvmlDevice_t device, unsigned* count, Info* infos) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    const auto processes = node.processes(index);
    if (!processes) return NVML_ERROR_TIMEOUT;
    const unsigned room = *count;
    *count = static_cast<unsigned>(processes->size());
    if (*count == 0) return NVML_SUCCESS;
    if (room < *count || infos == nullptr) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (std::size_t i = 0; i < processes->size(); ++i) fill(infos[i], (*processes)[i]);
    return NVML_SUCCESS;
  });
}

/// Simulated computations are compute processes: there are no graphics ones.
nvmlReturn_t no_processes(nvmlDevice_t device, unsigned* count) {
  return reading_call(device, [&](Node& /*node*/, std::uint32_t /*index*/) { return give(count, 0U); });
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

PERSEUS_NVML nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned* count,
                                                  nvmlProcessInfo_v1_t* infos) {
  return list_processes(device, count, infos);
}
PERSEUS_NVML nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned* count,
                                                     nvmlProcessInfo_v2_t* infos) {
  return list_processes(device, count, infos);
}
PERSEUS_NVML nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned* count,
                                                     nvmlProcessInfo_v2_t* infos) {
  return list_processes(device, count, infos);
}
PERSEUS_NVML nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned* count,
                                                   nvmlProcessInfo_v1_t* /*infos*/) {
  return no_processes(device, count);
}
PERSEUS_NVML nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned* count,
                                                      nvmlProcessInfo_v2_t* /*infos*/) {
  return no_processes(device, count);
}
PERSEUS_NVML nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned* count,
                                                      nvmlProcessInfo_v2_t* /*infos*/) {
  return no_processes(device, count);
}

// NOLINTEND(readability-identifier-naming)
