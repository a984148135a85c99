// SPDX-License-Identifier: Apache-2.0
//
// Where the simulated driver's library is.
#pragma once

#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::cli {

/// The environment variable that names the library's file.
inline constexpr const char* kSimLibraryEnvironment = "PERSEUS_SIM_NVML";

/// Path of libnvidia-ml.so.1 that belongs to this binary: in its build tree, or where it was installed.
/// kNotFound names the places.
[[nodiscard]] core::Result<std::string> find_sim_library();

/// `export NAME=VALUE` with the value quoted for a shell where it must be; ends with a line feed.
[[nodiscard]] std::string export_line(std::string_view name, std::string_view value);

}  // namespace perseus::cli
