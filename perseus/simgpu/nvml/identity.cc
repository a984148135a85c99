// SPDX-License-Identifier: Apache-2.0
//
// What a GPU is.
#include "perseus/simgpu/nvml/session.h"

using namespace perseus::simgpu;        // NOLINT(google-build-using-namespace): functions of C linkage only
using namespace perseus::simgpu::nvml;  // NOLINT(google-build-using-namespace)

namespace {

/// Runs `body(identity)`.
template <class Body>
nvmlReturn_t identity_call(nvmlDevice_t device, Body body) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto identity = node.identity(index);
    return identity ? body(*identity) : NVML_ERROR_UNKNOWN;
  });
}

/// Everything of `pci` but the bus id, which its versions have at different places.
template <class Pci>
void fill_pci(Pci& pci, const Identity& identity, const GpuSpec& spec) {
  pci = {};
  pci.bus = static_cast<unsigned>(std::stoul(identity.pci_bus_id.substr(9, 2), nullptr, 16));
  pci.pciDeviceId = spec.pci_device_id;
  pci.pciSubSystemId = spec.pci_device_id;
}

/// Runs `body(identity, spec)`.
template <class Body>
nvmlReturn_t pci_call(nvmlDevice_t device, Body body) {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto identity = node.identity(index);
    const auto spec = node.spec(index);
    return identity && spec ? body(*identity, *spec) : NVML_ERROR_UNKNOWN;
  });
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

PERSEUS_NVML nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned length) {
  return identity_call(device,
                       [&](const Identity& identity) { return give_text(identity.name, name, length); });
}
PERSEUS_NVML nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned length) {
  return identity_call(device,
                       [&](const Identity& identity) { return give_text(identity.uuid, uuid, length); });
}
PERSEUS_NVML nvmlDeviceGetIndex(nvmlDevice_t device, unsigned* index) {
  return identity_call(device, [&](const Identity& identity) { return give(index, identity.index); });
}
PERSEUS_NVML nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned* minor) {
  return identity_call(device, [&](const Identity& identity) { return give(minor, identity.index); });
}

PERSEUS_NVML nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  return pci_call(device, [&](const Identity& identity, const GpuSpec& spec) {
    if (pci == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    fill_pci(*pci, identity, spec);
    give_text(identity.pci_bus_id.substr(4), pci->busIdLegacy, sizeof(pci->busIdLegacy));
    return give_text(identity.pci_bus_id, pci->busId, sizeof(pci->busId));
  });
}
PERSEUS_NVML nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_v2_t* pci) {
  return pci_call(device, [&](const Identity& identity, const GpuSpec& spec) {
    if (pci == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    fill_pci(*pci, identity, spec);
    return give_text(identity.pci_bus_id.substr(4), pci->busId, sizeof(pci->busId));
  });
}
PERSEUS_NVML nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_v2_t* pci) {
  return nvmlDeviceGetPciInfo_v2(device, pci);
}

PERSEUS_NVML nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned* architecture) {
  return spec_call(device, [&](const GpuSpec& spec) { return give(architecture, spec.architecture); });
}
PERSEUS_NVML nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major, int* minor) {
  return spec_call(device, [&](const GpuSpec& spec) {
    if (major == nullptr || minor == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *major = static_cast<int>(spec.capability_major);
    *minor = static_cast<int>(spec.capability_minor);
    return NVML_SUCCESS;
  });
}
PERSEUS_NVML nvmlDeviceGetBrand(nvmlDevice_t device, unsigned* brand) {
  return spec_call(device, [&](const GpuSpec& /*spec*/) { return give(brand, NVML_BRAND_NVIDIA); });
}
PERSEUS_NVML nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, unsigned* mode) {
  return observing_call(device, [&](const Observation& seen) {
    const bool is_virtual = nvml::has_fault(seen, FaultKind::kVgpu);
    return give(mode, is_virtual ? NVML_GPU_VIRTUALIZATION_MODE_VGPU : NVML_GPU_VIRTUALIZATION_MODE_NONE);
  });
}
PERSEUS_NVML nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned* current, unsigned* pending) {
  return observing_call(device, [&](const Observation& seen) {
    if (current == nullptr || pending == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *current = *pending = nvml::has_fault(seen, FaultKind::kMig) ? 1 : 0;
    return NVML_SUCCESS;
  });
}
/// No Grace CPU here: what Zeus asks first.
PERSEUS_NVML nvmlDeviceGetC2cModeInfoV(nvmlDevice_t device, void* /*info*/) {
  return spec_call(device, [](const GpuSpec& /*spec*/) { return NVML_ERROR_NOT_SUPPORTED; });
}

// NOLINTEND(readability-identifier-naming)
