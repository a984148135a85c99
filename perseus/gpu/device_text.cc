// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/device_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace perseus::gpu {

core::Status check_uuid(std::string_view uuid, std::string_view subject) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  if (!uuid.empty() && uuid.size() <= kMaxUuid && std::ranges::all_of(uuid, allowed)) return {};
  return core::fail(
      core::ErrorCode::kDriver,
      fmt::format("{}: the driver calls it '{}', which is no UUID (1 to {} letters, digits and '-')", subject,
                  uuid, kMaxUuid));
}

std::string printable(const char* text, std::size_t size) {
  std::string out(text, std::find(text, text + size, '\0'));
  std::ranges::replace_if(out, [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

}  // namespace perseus::gpu
