// SPDX-License-Identifier: Apache-2.0
//
// The page's source files (page/*), compiled into the library by cmake/perseus_embed.cmake.
#pragma once

#include <span>
#include <string_view>

namespace perseus::report {

struct PageFile {
  std::string_view name;  ///< without its folder, e.g. "report.css"
  std::string_view text;
};

/// In the order in which perseus/CMakeLists.txt lists them; scripts must be joined in that order.
[[nodiscard]] std::span<const PageFile> page_files();

}  // namespace perseus::report
