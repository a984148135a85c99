// SPDX-License-Identifier: Apache-2.0
//
// Clocks: supported ones, setting them, and what they are now.
#include <algorithm>

#include "perseus/simgpu/nvml/session.h"

using namespace perseus::simgpu;        // NOLINT(google-build-using-namespace): functions of C linkage only
using namespace perseus::simgpu::nvml;  // NOLINT(google-build-using-namespace)

namespace {

/// The special values of a bound stand for the top clock, as the simulated product has nothing above its
/// rated power.
unsigned bound_of(const Node& node, std::uint32_t index, unsigned mhz) {
  if (mhz != NVML_CLOCK_LIMIT_ID_TDP && mhz != NVML_CLOCK_LIMIT_ID_UNLIMITED) return mhz;
  const auto spec = node.spec(index);
  return spec ? spec->clocks.back().clock.value() : mhz;
}

/// Runs `body(observation, spec)`.
template <class Body>
nvmlReturn_t clock_call(nvmlDevice_t device, Body body) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto seen = node.observe(index);
    if (!seen) return NVML_ERROR_TIMEOUT;
    const auto spec = node.spec(index);
    return spec ? body(*seen, *spec) : NVML_ERROR_UNKNOWN;
  });
}

/// The video clock follows the graphics clock. Assumed: 7/8 of it.
unsigned video_clock(unsigned graphics_mhz) {
  return graphics_mhz * 7 / 8;
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

PERSEUS_NVML nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned* count, unsigned* clocks_mhz) {
  return spec_call(device, [&](const GpuSpec& spec) {
    if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    const unsigned room = *count;
    *count = 1;
    if (room < 1 || clocks_mhz == nullptr) return NVML_ERROR_INSUFFICIENT_SIZE;
    *clocks_mhz = spec.memory_clock.value();
    return NVML_SUCCESS;
  });
}

PERSEUS_NVML nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned memory_mhz, unsigned* count,
                                                  unsigned* clocks_mhz) {
  return spec_call(device, [&](const GpuSpec& spec) {
    if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory_mhz != spec.memory_clock.value()) return NVML_ERROR_NOT_FOUND;
    const unsigned room = *count;
    *count = static_cast<unsigned>(spec.clocks.size());
    if (room < *count || clocks_mhz == nullptr) return NVML_ERROR_INSUFFICIENT_SIZE;
    // From the fastest down, as the real one lists them.
    std::transform(spec.clocks.rbegin(), spec.clocks.rend(), clocks_mhz,
                   [](const ClockSpec& clock) { return clock.clock.value(); });
    return NVML_SUCCESS;
  });
}

PERSEUS_NVML nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned low_mhz, unsigned high_mhz) {
  return setting_call(device, [&](Node& node, std::uint32_t index) {
    return node.lock_clock(index, bound_of(node, index, low_mhz), bound_of(node, index, high_mhz));
  });
}
PERSEUS_NVML nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device) {
  return setting_call(device, [](Node& node, std::uint32_t index) { return node.reset_clock(index); });
}
PERSEUS_NVML nvmlDeviceSetMemoryLockedClocks(nvmlDevice_t device, unsigned low_mhz, unsigned high_mhz) {
  return setting_call(device, [&](Node& node, std::uint32_t index) {
    return node.lock_memory_clock(index, low_mhz, high_mhz);
  });
}
PERSEUS_NVML nvmlDeviceResetMemoryLockedClocks(nvmlDevice_t device) {
  return setting_call(device, [](Node& node, std::uint32_t index) { return node.reset_memory_clock(index); });
}
PERSEUS_NVML nvmlDeviceSetApplicationsClocks(nvmlDevice_t device, unsigned memory_mhz,
                                             unsigned graphics_mhz) {
  return setting_call(device, [&](Node& node, std::uint32_t index) {
    return node.set_application_clocks(index, memory_mhz, graphics_mhz);
  });
}
PERSEUS_NVML nvmlDeviceResetApplicationsClocks(nvmlDevice_t device) {
  return setting_call(device,
                      [](Node& node, std::uint32_t index) { return node.reset_application_clocks(index); });
}

PERSEUS_NVML nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned* clock_mhz) {
  return clock_call(device, [&](const Observation& seen, const GpuSpec& spec) {
    switch (type) {
      case NVML_CLOCK_GRAPHICS:
      case NVML_CLOCK_SM:
        return give(clock_mhz, seen.sm_clock.value());
      case NVML_CLOCK_MEM:
        return give(clock_mhz, spec.memory_clock.value());
      case NVML_CLOCK_VIDEO:
        return give(clock_mhz, video_clock(seen.sm_clock.value()));
      default:
        return NVML_ERROR_INVALID_ARGUMENT;
    }
  });
}

PERSEUS_NVML nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned* clock_mhz) {
  return spec_call(device, [&](const GpuSpec& spec) {
    const unsigned top = spec.clocks.back().clock.value();
    switch (type) {
      case NVML_CLOCK_GRAPHICS:
      case NVML_CLOCK_SM:
        return give(clock_mhz, top);
      case NVML_CLOCK_MEM:
        return give(clock_mhz, spec.memory_clock.value());
      case NVML_CLOCK_VIDEO:
        return give(clock_mhz, video_clock(top));
      default:
        return NVML_ERROR_INVALID_ARGUMENT;
    }
  });
}

PERSEUS_NVML nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, unsigned* clock_mhz) {
  return clock_call(device, [&](const Observation& seen, const GpuSpec& spec) {
    if (type == NVML_CLOCK_MEM) return give(clock_mhz, spec.memory_clock.value());
    if (type > NVML_CLOCK_MEM) return NVML_ERROR_INVALID_ARGUMENT;
    return give(clock_mhz, seen.application_clock.value_or(spec.clocks.back().clock).value());
  });
}
PERSEUS_NVML nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                   unsigned* clock_mhz) {
  return nvmlDeviceGetMaxClockInfo(device, type, clock_mhz);
}

PERSEUS_NVML nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
                                unsigned* clock_mhz) {
  switch (id) {
    case NVML_CLOCK_ID_CURRENT:
      return nvmlDeviceGetClockInfo(device, type, clock_mhz);
    case NVML_CLOCK_ID_APP_CLOCK_TARGET:
      return nvmlDeviceGetApplicationsClock(device, type, clock_mhz);
    case NVML_CLOCK_ID_APP_CLOCK_DEFAULT:
    case NVML_CLOCK_ID_CUSTOMER_BOOST_MAX:
      return nvmlDeviceGetMaxClockInfo(device, type, clock_mhz);
    default:
      return NVML_ERROR_INVALID_ARGUMENT;
  }
}

PERSEUS_NVML nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long* reasons) {
  return observing_call(device, [&](const Observation& seen) { return give(reasons, 0ULL + seen.reasons); });
}
PERSEUS_NVML nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long* reasons) {
  return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}
/// All that the simulated GPU can ever give: idle, setting, power cap, hardware, software and hardware
/// thermal.
PERSEUS_NVML nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long* reasons) {
  return spec_call(device, [&](const GpuSpec& /*spec*/) { return give(reasons, 0x6FULL); });
}
PERSEUS_NVML nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, unsigned long long* reasons) {
  return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}
/// P0 under load, P8 when idle.
PERSEUS_NVML nvmlDeviceGetPerformanceState(nvmlDevice_t device, unsigned* state) {
  return observing_call(
      device, [&](const Observation& seen) { return give(state, (seen.reasons & 1U) != 0 ? 8U : 0U); });
}

// NOLINTEND(readability-identifier-naming)
