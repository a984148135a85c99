// SPDX-License-Identifier: Apache-2.0
//
// Power, energy, temperature, load and memory.
#include <chrono>
#include <cmath>
#include <span>

#include "perseus/simgpu/nvml/session.h"

using namespace perseus::simgpu;        // NOLINT(google-build-using-namespace): functions of C linkage only
using namespace perseus::simgpu::nvml;  // NOLINT(google-build-using-namespace)

namespace {

unsigned milliwatts(perseus::core::Watts power) {
  return static_cast<unsigned>(std::llround(power.value() * 1e3));
}
unsigned long long millijoules(perseus::core::Joules energy) {
  return static_cast<unsigned long long>(std::llround(energy.value() * 1e3));
}

// What the driver itself takes of the memory. Assumed.
constexpr unsigned long long kReservedBytes = 512ULL << 20U;

/// Memory that is in use by processes, and all there is.
struct MemoryUse {
  unsigned long long total = 0;
  unsigned long long used = 0;
};

nvmlReturn_t memory_use(Node& node, std::uint32_t index, MemoryUse& use) {
  const auto spec = node.spec(index);
  const auto processes = node.processes(index);
  if (!spec || !processes) return NVML_ERROR_TIMEOUT;
  use.total = spec->memory_bytes;
  for (const Process& process : *processes) use.used += process.memory_bytes;
  use.used = std::min(use.used, use.total - std::min(use.total, kReservedBytes));
  return NVML_SUCCESS;
}

void give_field(nvmlFieldValue_t& field, unsigned value) {
  field.valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
  field.value.uiVal = value;
}

/// One field of what was seen.
nvmlReturn_t read_field(const Observation& seen, const GpuSpec& spec, nvmlFieldValue_t& field) {
  if (field.scopeId != NVML_POWER_SCOPE_GPU) return NVML_ERROR_NOT_SUPPORTED;
  switch (field.fieldId) {
    case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
      if (nvml::has_fault(seen, FaultKind::kNoEnergyCounter)) return NVML_ERROR_NOT_SUPPORTED;
      field.valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
      field.value.ullVal = millijoules(seen.counter);
      return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_AVERAGE:
      give_field(field, milliwatts(seen.average_power));
      return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_INSTANT:
      give_field(field, milliwatts(seen.power));
      return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_MIN_LIMIT:
      give_field(field, milliwatts(spec.least_power_limit));
      return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_MAX_LIMIT:
    case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
      give_field(field, milliwatts(spec.power_limit));
      return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_CURRENT_LIMIT:
      give_field(field, milliwatts(seen.enforced_power_limit));
      return NVML_SUCCESS;
    default:
      return NVML_ERROR_NOT_SUPPORTED;
  }
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

PERSEUS_NVML nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned* milliwatt) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto seen = node.observe(index);
    const auto spec = node.spec(index);
    if (!seen || !spec) return NVML_ERROR_TIMEOUT;
    return give(milliwatt, milliwatts(spec->power_usage_is_average ? seen->average_power : seen->power));
  });
}

PERSEUS_NVML nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long* millijoule) {
  return observing_call(device, [&](const Observation& seen) {
    if (nvml::has_fault(seen, FaultKind::kNoEnergyCounter)) return NVML_ERROR_NOT_SUPPORTED;
    return give(millijoule, millijoules(seen.counter));
  });
}

PERSEUS_NVML nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t* values) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    if (count < 1 || values == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    const auto seen = node.observe(index);
    const auto spec = node.spec(index);
    if (!seen || !spec) return NVML_ERROR_TIMEOUT;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    for (nvmlFieldValue_t& field : std::span(values, static_cast<std::size_t>(count))) {
      field.timestamp = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
      field.latencyUsec = 0;
      field.value = {};
      field.nvmlReturn = read_field(*seen, *spec, field);
    }
    return NVML_SUCCESS;
  });
}

PERSEUS_NVML nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned* celsius) {
  return observing_call(device, [&](const Observation& seen) {
    if (sensor != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
    return give(celsius, static_cast<unsigned>(std::max(0L, std::lround(seen.temperature.value()))));
  });
}

PERSEUS_NVML nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t* temperature) {
  return observing_call(device, [&](const Observation& seen) {
    if (temperature == nullptr || temperature->sensorType != NVML_TEMPERATURE_GPU)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != nvml_struct_version<nvmlTemperature_v1_t>(1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    temperature->temperature = static_cast<int>(std::lround(seen.temperature.value()));
    return NVML_SUCCESS;
  });
}

PERSEUS_NVML nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t which,
                                               unsigned* celsius) {
  return spec_call(device, [&](const GpuSpec& spec) {
    const auto throttle = static_cast<unsigned>(std::lround(spec.thermal.throttle.value()));
    switch (which) {
      case NVML_TEMPERATURE_THRESHOLD_GPU_MAX:
        return give(celsius, throttle);
      case NVML_TEMPERATURE_THRESHOLD_SLOWDOWN:
        return give(celsius, throttle + 2);  // assumed
      case NVML_TEMPERATURE_THRESHOLD_SHUTDOWN:
        return give(celsius, throttle + 5);  // assumed
      default:
        return NVML_ERROR_NOT_SUPPORTED;
    }
  });
}

PERSEUS_NVML nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned* milliwatt) {
  return observing_call(
      device, [&](const Observation& seen) { return give(milliwatt, milliwatts(seen.power_limit)); });
}
PERSEUS_NVML nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned* milliwatt) {
  return observing_call(device, [&](const Observation& seen) {
    return give(milliwatt, milliwatts(seen.enforced_power_limit));
  });
}
PERSEUS_NVML nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned* milliwatt) {
  return spec_call(device,
                   [&](const GpuSpec& spec) { return give(milliwatt, milliwatts(spec.power_limit)); });
}
PERSEUS_NVML nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned* least,
                                                          unsigned* most) {
  return spec_call(device, [&](const GpuSpec& spec) {
    if (least == nullptr || most == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *least = milliwatts(spec.least_power_limit);
    *most = milliwatts(spec.power_limit);
    return NVML_SUCCESS;
  });
}
PERSEUS_NVML nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned milliwatt) {
  return setting_call(device, [&](Node& node, std::uint32_t index) {
    return node.set_power_limit(index, perseus::core::Watts(milliwatt * 1e-3));
  });
}
PERSEUS_NVML nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, unsigned* mode) {
  return spec_call(device, [&](const GpuSpec& /*spec*/) { return give(mode, 1U); });
}

PERSEUS_NVML nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned* mode) {
  return observing_call(device,
                        [&](const Observation& seen) { return give(mode, seen.persistence ? 1U : 0U); });
}
PERSEUS_NVML nvmlDeviceSetPersistenceMode(nvmlDevice_t device, unsigned mode) {
  return setting_call(device, [&](Node& node, std::uint32_t index) {
    return mode <= 1 ? node.set_persistence(index, mode == 1) : Answer::kInvalidArgument;
  });
}

PERSEUS_NVML nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* rates) {
  return observing_call(device, [&](const Observation& seen) {
    if (nvml::has_fault(seen, FaultKind::kMig)) return NVML_ERROR_NOT_SUPPORTED;
    const auto per_cent = static_cast<unsigned>(std::lround(seen.utilization * 100));
    return give(rates, nvmlUtilization_t{per_cent, 0});
  });
}

PERSEUS_NVML nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    MemoryUse use;
    if (const nvmlReturn_t result = memory_use(node, index, use); result != NVML_SUCCESS) return result;
    const unsigned long long used = use.used + kReservedBytes;  // version 1 counts the reserved part as used
    return give(memory, nvmlMemory_t{use.total, use.total - used, used});
  });
}
PERSEUS_NVML nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    if (memory == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != nvml_struct_version<nvmlMemory_v2_t>(2))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    MemoryUse use;
    if (const nvmlReturn_t result = memory_use(node, index, use); result != NVML_SUCCESS) return result;
    *memory = {memory->version, use.total, kReservedBytes, use.total - kReservedBytes - use.used, use.used};
    return NVML_SUCCESS;
  });
}

// NOLINTEND(readability-identifier-naming)
