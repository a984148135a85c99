// SPDX-License-Identifier: Apache-2.0
//
// A substitute for close-on-fork: sockets that are closed in every child that fork() makes, and a way to tell
// that one is such a child.
#pragma once

#include <cstdint>

namespace perseus::client {

/// Makes fork_generation() count from here on. Idempotent; false: no memory.
bool watch_forks();

/// How many fork()s lie between the start of the program and this process. One relaxed load: for hot paths.
/// Counts once watch_forks() or close_in_children() was called.
[[nodiscard]] std::uint32_t fork_generation();

/// Registers `fd` to be closed in children, and takes it off again. Thread-safe. Beyond kMost descriptors
/// further ones are not closed; the other end watches the process besides.
void close_in_children(int fd);
void keep_in_children(int fd);

/// Most sockets at a time: a process has one link, tests a few.
inline constexpr int kMostGuarded = 64;

}  // namespace perseus::client
