// SPDX-License-Identifier: Apache-2.0
//
// Files that decide what a privileged process does: read only if nobody else could have written them.
#pragma once

#include <cstddef>
#include <string>

#include "perseus/core/result.h"

namespace perseus::agent {

/// The bytes of a regular file that belongs to root or to the own user and that nobody else may write to. The
/// open file is checked, not its name. kNotFound: it is absent; kPermission: its owner or mode is wrong, with
/// what to do; kInvalidInput: a symbolic link or no regular file; kIo; kLimit.
[[nodiscard]] core::Result<std::string> read_trusted_file(const std::string& path, std::size_t limit);

}  // namespace perseus::agent
