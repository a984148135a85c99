// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace perseus::gpu {
namespace {

constexpr std::array<std::pair<BackendKind, std::string_view>, 5> kNames = {{
    {BackendKind::kAuto, "auto"},
    {BackendKind::kNvml, "nvml"},
    {BackendKind::kAmd, "amd"},
    {BackendKind::kSim, "sim"},
    {BackendKind::kCommand, "command"},
}};

}  // namespace

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
