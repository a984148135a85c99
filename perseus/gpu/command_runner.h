// SPDX-License-Identifier: Apache-2.0
//
// Runs a program that the site has blessed, as root usually, so with nothing that somebody else could bend.
//
//   PERSEUS_RETURN_IF_ERROR(check_command("/opt/site/gpuclock"));
//   PERSEUS_RETURN_IF_ERROR(run_command({"/opt/site/gpuclock", "lock", "GPU-...", "900"}, 10s));
//
// No shell; environment PATH only; working folder /; standard input /dev/null; every other file descriptor
// closed; signals at their defaults; a process group of its own, killed as a whole when the time is over.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::gpu {

/// The environment of the program: nothing but this. The system's own folders, as sudo's secure_path has
/// them.
inline constexpr const char* kCommandPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether `path` may be run: absolute, without symbolic links, "." or "..", a regular executable file; it
/// and every folder above it owned by root or by this user and writable by nobody else (a sticky folder such
/// as /tmp may be: nobody can exchange another one's file there). So whoever could change what we checked
/// could do what the program does anyway. kPermission with the offending file; kNotFound.
[[nodiscard]] core::Status check_command(const std::string& path);

/// Checks argv[0] and runs it; returns when it has ended. Success is exit status 0. kDriver: another status
/// or a signal, with the first 1,000 bytes of what it wrote; kTimeout: killed after `time_limit`; as
/// check_command(); kIo: it could not be started. May be called by several threads.
[[nodiscard]] core::Status run_command(const std::vector<std::string>& argv,
                                       std::chrono::milliseconds time_limit);

}  // namespace perseus::gpu
