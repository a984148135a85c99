// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/sim_library.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

namespace perseus::cli {
namespace {

// From the folder of the binary: the build tree, and the installed one (set by perseus/CMakeLists.txt).
constexpr std::array<std::string_view, 2> kPlaces = {"../lib/perseus-sim", PERSEUS_SIM_INSTALLED_DIR};

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("/._-+:,@%=").contains(c);
}

}  // namespace

core::Result<std::string> find_sim_library() {
  std::error_code error;
  const std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string places;
  for (const std::string_view place : kPlaces) {
    const auto path = (binary.parent_path() / place / "libnvidia-ml.so.1").lexically_normal();
    if (std::filesystem::exists(path, error)) return path.string();
    places += fmt::format("{}{}", places.empty() ? "" : " nor ", path.string());
  }
  return core::fail(core::ErrorCode::kNotFound, fmt::format("no simulated driver's library at {}", places));
}

std::string export_line(std::string_view name, std::string_view value) {
  if (!value.empty() && std::ranges::all_of(value, is_plain))
    return fmt::format("export {}={}\n", name, value);
  std::string quoted;
  for (const char c : value) c == '\'' ? quoted += "'\\''" : quoted += c;
  return fmt::format("export {}='{}'\n", name, quoted);
}

}  // namespace perseus::cli
