// SPDX-License-Identifier: Apache-2.0
//
// What this process may do.
#pragma once

namespace perseus::gpu {

/// Whether the calling thread has CAP_SYS_ADMIN effectively. NVIDIA's kernel driver asks
/// capable(CAP_SYS_ADMIN) of whoever sets a clock (open-gpu-kernel-modules, nv-linux.h, NV_IS_SUSER), not for
/// uid 0: root in a container usually lacks it. In a user namespace the answer can be yes where the driver
/// says no.
[[nodiscard]] bool has_system_administration();

}  // namespace perseus::gpu
