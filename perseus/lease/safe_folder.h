// SPDX-License-Identifier: Apache-2.0
//
// Opening a folder that only we can change, one part of its path after the other.
#pragma once

#include <string>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::lease {

/// Opens `path`, making it (0700) and its missing parents. No part may be a symbolic link; each must belong
/// to root or to us and be closed to other writers (a sticky folder such as /tmp is as good). The folder
/// itself must be ours and closed to all others. kInvalidInput, kPermission, kIo, each naming the part.
[[nodiscard]] core::Result<format::UniqueFd> open_private_folder(const std::string& path);

/// Flushes a folder's entries to disk. kIo.
[[nodiscard]] core::Status flush_folder(int folder, const std::string& path);

}  // namespace perseus::lease
