// SPDX-License-Identifier: Apache-2.0
//
// Whatever parse_grants() accepts is the same after being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/format/grants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parsed = perseus::format::parse_grants(bytes, "fuzz");
  if (!parsed) return 0;
  const auto again = perseus::format::parse_grants(perseus::format::write_grants(*parsed), "again");
  if (!again || *again != *parsed) std::abort();
  return 0;
}
