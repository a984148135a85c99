// SPDX-License-Identifier: Apache-2.0
//
// What vendors' strings have to look like before they go into logs, metrics, file names and JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::gpu {

/// Identity::uuid is at most this long, in bytes (NVML_DEVICE_UUID_V2_BUFFER_SIZE).
inline constexpr std::size_t kMaxUuid = 96;

/// kDriver unless `uuid` is 1 to kMaxUuid ASCII letters, digits and '-'. `subject` names the device in the
/// text.
[[nodiscard]] core::Status check_uuid(std::string_view uuid, std::string_view subject);

/// Text of a driver up to its first NUL within `size` bytes, everything but printable ASCII replaced by '?'.
[[nodiscard]] std::string printable(const char* text, std::size_t size);

}  // namespace perseus::gpu
