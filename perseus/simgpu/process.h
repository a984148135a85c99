// SPDX-License-Identifier: Apache-2.0
//
// Which process is meant: a pid alone may belong to another one by now.
#pragma once

#include <cstdint>

namespace perseus::simgpu {

/// Start time of a process in the kernel's ticks since boot; 0 if there is no such process, or it is dead and
/// not yet waited for.
[[nodiscard]] std::uint64_t process_start(std::int32_t pid);

/// Start time of this process.
[[nodiscard]] std::uint64_t own_start();

}  // namespace perseus::simgpu
