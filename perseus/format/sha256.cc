// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <iterator>

#include "perseus/core/schedule.h"

namespace perseus::format {

core::Result<std::string> sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    return core::fail(core::ErrorCode::kInternal, "OpenSSL could not compute SHA-256");
  }
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) fmt::format_to(std::back_inserter(hex), "{:02x}", digest.at(i));
  return hex;
}

core::Result<std::string> schedule_sha256(const core::Problem& problem) {
  const core::Parallel& parallel = problem.parallel();
  return sha256_hex(core::canonical_text(problem.pipeline().schedule(), parallel.tensor, parallel.data));
}

}  // namespace perseus::format
