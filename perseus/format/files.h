// SPDX-License-Identifier: Apache-2.0
//
// Whole files in and out, for the command line and the daemons.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::format {

/// The bytes of a file (or of a pipe, to its end). kNotFound: no such file; kIo: it cannot be read, with the
/// system's reason; kLimit: more than `limit` bytes, of which no more than `limit` + 1 are read.
[[nodiscard]] core::Result<std::string> read_file(const std::string& path, std::size_t limit);

/// Writes a file so that readers see the old content or the new, never a part: a new file beside it, flushed
/// to disk, takes its name. A symbolic link is followed; permissions of an existing file are kept; a path
/// that exists and is no regular file (a pipe, /dev/stdout) is written directly. kNotFound: the folder is
/// absent; kIo: the system refused; then nothing is left behind.
[[nodiscard]] core::Status write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace perseus::format
