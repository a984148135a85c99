// SPDX-License-Identifier: Apache-2.0
//
// Whatever parse_calibration_json() accepts is the same after being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/format/calibration_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parsed = perseus::format::parse_calibration_json(bytes, "fuzz");
  if (!parsed) return 0;
  const std::string text = perseus::format::write_calibration_json(*parsed);
  const auto again = perseus::format::parse_calibration_json(text, "again");
  if (!again || !(*again == *parsed)) std::abort();
  return 0;
}
