// SPDX-License-Identifier: Apache-2.0
//
// Whatever parse_job_yaml() accepts is the same after being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/format/job_yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto parsed = perseus::format::parse_job_yaml(bytes, "fuzz");
  if (!parsed) return 0;
  const std::string text = perseus::format::write_job_yaml(*parsed);
  const auto again = perseus::format::parse_job_yaml(text, "again");
  if (!again || perseus::format::write_job_yaml(*again) != text) std::abort();
  return 0;
}
