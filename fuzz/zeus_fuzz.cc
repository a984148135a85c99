// SPDX-License-Identifier: Apache-2.0
//
// Whatever parse_zeus_schedule() accepts is the same after being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/format/zeus.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parsed = perseus::format::parse_zeus_schedule(bytes, "fuzz");
  if (!parsed) return 0;
  const std::string text = perseus::format::write_zeus_schedule(*parsed);
  const auto again = perseus::format::parse_zeus_schedule(text, "again");
  if (!again || !(*again == *parsed)) std::abort();
  return 0;
}
