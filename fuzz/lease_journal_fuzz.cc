// SPDX-License-Identifier: Apache-2.0
//
// The record of a lease on disk. The input is taken as it is, and once more with the digest that makes it
// past the first check; whatever is read is written and read again the same.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "perseus/format/lease_journal.h"
#include "perseus/format/sha256.h"

namespace {

void check(std::string_view bytes) {
  const auto parsed = perseus::format::parse_lease_record(bytes, "fuzz");
  if (!parsed) return;
  const auto text = perseus::format::write_lease_record(*parsed);
  if (!text) std::abort();
  const auto again = perseus::format::parse_lease_record(*text, "again");
  if (!again || !(*again == *parsed)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(bytes);
  const auto digest = perseus::format::sha256_hex(bytes);
  if (digest) check(std::string(bytes) + '\n' + *digest + '\n');
  return 0;
}
