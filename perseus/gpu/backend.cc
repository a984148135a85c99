// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "perseus/gpu/amd_backend.h"
#include "perseus/gpu/nvml_backend.h"

namespace perseus::gpu {
namespace {

constexpr std::array<std::pair<BackendKind, std::string_view>, 5> kNames = {{
    {BackendKind::kAuto, "auto"},
    {BackendKind::kNvml, "nvml"},
    {BackendKind::kAmd, "amd"},
    {BackendKind::kSim, "sim"},
    {BackendKind::kCommand, "command"},
}};

std::string library_or(const std::string& named, std::string_view usual) {
  return named.empty() ? std::string(usual) : named;
}

core::Result<std::unique_ptr<Backend>> open_first() {
  auto nvml = NvmlBackend::open(std::string(NvmlBackend::kLibrary), false);
  if (nvml) return nvml;
  auto amd = AmdBackend::open(std::string(AmdBackend::kLibrary), {});
  if (amd) return amd;
  // A driver that is there but does not start says more than one that is not there.
  const bool amd_tells_more = nvml.error().code() == core::ErrorCode::kNotFound;
  return core::fail(amd_tells_more ? amd.error().code() : nvml.error().code(),
                    fmt::format("no GPU: nvml: {}; amd: {}", nvml.error().text(), amd.error().text()));
}

core::Result<std::unique_ptr<Backend>> open_simulated(const BackendOptions& options) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment while Perseus runs
  const char* named = std::getenv("PERSEUS_SIM_NVML");
  std::string path = !options.library.empty() ? options.library : named != nullptr ? named : "";
  if (path.empty()) {
    return core::fail(
        core::ErrorCode::kNotFound,
        "no simulated driver: PERSEUS_SIM_NVML is not set; run `eval \"$(perseus sim create --gpus "
        "8 --gpu-model a100-sxm-80g)\"` first");
  }
  return NvmlBackend::open(std::move(path), true);
}

}  // namespace

core::Result<std::unique_ptr<Backend>> open_backend(const BackendOptions& options) {
  switch (options.kind) {
    case BackendKind::kSim:
      return open_simulated(options);
    case BackendKind::kNvml:
      return NvmlBackend::open(library_or(options.library, NvmlBackend::kLibrary), false);
    case BackendKind::kAmd:
      return AmdBackend::open(library_or(options.library, AmdBackend::kLibrary), {});
    case BackendKind::kAuto:
      return open_first();
    case BackendKind::kCommand:
      break;
  }
  return core::fail(core::ErrorCode::kUnsupported,
                    fmt::format("backend '{}' is not in this build", backend_name(options.kind)));
}

core::Result<Device*> find_device(const Backend& backend, std::uint32_t index) {
  const auto& devices = backend.devices();
  const auto found = std::ranges::find(devices, index, [](const Device* d) { return d->identity().index; });
  if (found != devices.end()) return *found;
  std::string known;
  for (const Device* d : devices)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", d->identity().index);
  return core::fail(core::ErrorCode::kNotFound,
                    fmt::format("GPU {}: there is no such GPU; {} shows {}", index, backend.name(),
                                known.empty() ? "none" : known));
}

core::Result<BackendKind> parse_backend(std::string_view name) {
  const auto* row = std::ranges::find(kNames, name, &std::pair<BackendKind, std::string_view>::second);
  if (row != kNames.end()) return row->first;
  return core::fail(core::ErrorCode::kUsage,
                    fmt::format("'{}' is no backend; there are auto, nvml, amd, sim and command", name));
}

std::string_view backend_name(BackendKind kind) {
  return kNames.at(static_cast<std::size_t>(kind)).second;
}

}  // namespace perseus::gpu
