// SPDX-License-Identifier: Apache-2.0
//
// The fence of plans: a plan fits a job iff both name the same digest of the canonical schedule text.
#pragma once

#include <string>
#include <string_view>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::format {

/// SHA-256 (FIPS 180-4) of `bytes` as 64 lower-case hexadecimal digits, by OpenSSL. Thread-safe.
/// kInternal if OpenSSL cannot (no provider, no memory).
[[nodiscard]] core::Result<std::string> sha256_hex(std::string_view bytes);

/// The digest of core::canonical_text for the problem's orders and degrees.
[[nodiscard]] core::Result<std::string> schedule_sha256(const core::Problem& problem);

}  // namespace perseus::format
