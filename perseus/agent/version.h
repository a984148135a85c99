// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace perseus::agent {

/// The release, from the file VERSION at the root of the source tree.
inline constexpr const char* kVersion = PERSEUS_VERSION;

}  // namespace perseus::agent
