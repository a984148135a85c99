// SPDX-License-Identifier: Apache-2.0
#include "tests/support/format_support.h"

namespace perseus::format::testing {

std::filesystem::path data_folder(std::string_view folder) {
  return std::filesystem::path(PERSEUS_TEST_DATA) / folder;
}

}  // namespace perseus::format::testing
