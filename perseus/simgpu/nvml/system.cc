// SPDX-License-Identifier: Apache-2.0
//
// Start and end, texts, versions, and how a GPU is found.
#include <algorithm>
#include <array>
#include <cctype>

#include "perseus/simgpu/nvml/session.h"

using namespace perseus::simgpu;        // NOLINT(google-build-using-namespace): functions of C linkage only
using namespace perseus::simgpu::nvml;  // NOLINT(google-build-using-namespace)

namespace {

struct ErrorText {
  nvmlReturn_t code;
  const char* text;
};

constexpr std::array kTexts = {
    ErrorText{NVML_SUCCESS, "The call succeeded"},
    ErrorText{NVML_ERROR_UNINITIALIZED, "The library was not initialised (simulated driver)"},
    ErrorText{NVML_ERROR_INVALID_ARGUMENT, "An argument is not valid"},
    ErrorText{NVML_ERROR_NOT_SUPPORTED, "Not supported on this device"},
    ErrorText{NVML_ERROR_NO_PERMISSION, "The user has no permission"},
    ErrorText{NVML_ERROR_ALREADY_INITIALIZED, "Already initialised"},
    ErrorText{NVML_ERROR_NOT_FOUND, "Not found"},
    ErrorText{NVML_ERROR_INSUFFICIENT_SIZE, "The buffer is too small"},
    ErrorText{NVML_ERROR_INSUFFICIENT_POWER, "The device lacks external power"},
    ErrorText{NVML_ERROR_DRIVER_NOT_LOADED, "The driver is not loaded (simulated driver: no state file)"},
    ErrorText{NVML_ERROR_TIMEOUT, "No answer in time"},
    ErrorText{NVML_ERROR_IRQ_ISSUE, "Trouble with an interrupt"},
    ErrorText{NVML_ERROR_LIBRARY_NOT_FOUND, "The library was not found"},
    ErrorText{NVML_ERROR_FUNCTION_NOT_FOUND, "The library lacks this function"},
    ErrorText{NVML_ERROR_CORRUPTED_INFOROM, "The infoROM is damaged"},
    ErrorText{NVML_ERROR_GPU_IS_LOST, "The GPU is lost"},
    ErrorText{NVML_ERROR_RESET_REQUIRED, "The GPU must be reset"},
    ErrorText{NVML_ERROR_OPERATING_SYSTEM, "The operating system refused"},
    ErrorText{NVML_ERROR_LIB_RM_VERSION_MISMATCH, "Driver and library are of different versions"},
    ErrorText{NVML_ERROR_IN_USE, "The GPU is in use"},
    ErrorText{NVML_ERROR_MEMORY, "Out of memory"},
    ErrorText{NVML_ERROR_NO_DATA, "No data"},
    ErrorText{NVML_ERROR_VGPU_ECC_NOT_SUPPORTED, "Not with ECC on a virtual GPU"},
    ErrorText{NVML_ERROR_INSUFFICIENT_RESOURCES, "A resource ran out"},
    ErrorText{NVML_ERROR_FREQ_NOT_SUPPORTED, "The clock is not supported"},
    ErrorText{NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "The version of an argument is not known"},
    ErrorText{NVML_ERROR_DEPRECATED, "The function is deprecated"},
    ErrorText{NVML_ERROR_NOT_READY, "Not ready"},
    ErrorText{NVML_ERROR_GPU_NOT_FOUND, "No GPU was found"},
    ErrorText{NVML_ERROR_INVALID_STATE, "Not possible in this state"},
};

constexpr int kCudaVersion = 13000;  // of the driver that the default driver version belongs to: CUDA 13.0
constexpr const char* kLibraryVersion = "13.580.95.05";

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

/// NVML takes a domain of 4 digits as well as of 8.
bool same_bus_id(std::string_view full, std::string_view asked) {
  return equal_ignoring_case(full, asked) || equal_ignoring_case(full.substr(4), asked);
}

/// The first GPU whose identity pleases `matches`.
template <class Matches>
nvmlReturn_t find_device(nvmlDevice_t* device, const char* text, Matches matches) {
  return with_session([&](Session& session) {
    if (device == nullptr || text == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    for (std::uint32_t i = 0; i < session.node.gpu_count(); ++i) {
      const auto identity = session.node.identity(i);
      if (!identity || !matches(*identity)) continue;
      const Answer answer = session.node.enter_call(i, session.generation);
      if (answer != Answer::kOk) return to_return(answer);
      *device = handle_of(i);
      return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
  });
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's

PERSEUS_NVML nvmlInit_v2() {
  return start_session();
}
PERSEUS_NVML nvmlInit() {
  return start_session();
}
PERSEUS_NVML nvmlInitWithFlags(unsigned /*flags*/) {
  return start_session();
}
PERSEUS_NVML nvmlShutdown() {
  return end_session();
}

extern "C" __attribute__((visibility("default"))) const char* nvmlErrorString(nvmlReturn_t result) {
  const auto* row = std::ranges::find(kTexts, result, &ErrorText::code);
  return row != kTexts.end() ? row->text : "Unknown error";
}

PERSEUS_NVML nvmlSystemGetDriverVersion(char* version, unsigned length) {
  return with_session(
      [&](Session& session) { return give_text(session.node.driver_version(), version, length); });
}
PERSEUS_NVML nvmlSystemGetNVMLVersion(char* version, unsigned length) {
  return guarded([&] { return give_text(kLibraryVersion, version, length); });
}
PERSEUS_NVML nvmlSystemGetCudaDriverVersion_v2(int* version) {
  return guarded([&] { return give(version, kCudaVersion); });
}
PERSEUS_NVML nvmlSystemGetCudaDriverVersion(int* version) {
  return nvmlSystemGetCudaDriverVersion_v2(version);
}

PERSEUS_NVML nvmlDeviceGetCount_v2(unsigned* count) {
  return with_session([&](Session& session) { return give(count, session.node.gpu_count()); });
}
PERSEUS_NVML nvmlDeviceGetCount(unsigned* count) {
  return nvmlDeviceGetCount_v2(count);
}

PERSEUS_NVML nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t* device) {
  return with_session([&](Session& session) {
    if (device == nullptr || index >= session.node.gpu_count()) return NVML_ERROR_INVALID_ARGUMENT;
    const Answer answer = session.node.enter_call(index, session.generation);
    if (answer != Answer::kOk) return to_return(answer);
    *device = handle_of(index);
    return NVML_SUCCESS;
  });
}
PERSEUS_NVML nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByIndex_v2(index, device);
}
PERSEUS_NVML nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  return find_device(device, uuid, [&](const Identity& identity) { return identity.uuid == uuid; });
}
PERSEUS_NVML nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
  return find_device(device, bus_id,
                     [&](const Identity& identity) { return same_bus_id(identity.pci_bus_id, bus_id); });
}
PERSEUS_NVML nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

// NOLINTEND(readability-identifier-naming)
