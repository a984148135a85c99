// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/errors.md from the one error table.
#include <cstdio>
#include <string>

#include "perseus/core/result.h"

int main() {
  std::string page =
      "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
      "# Errors\n\n"
      "Generated from `core::error_table()` (`perseus/core/result.cc`) by `error_table_doc`; a test compares "
      "the two.\n"
      "A message names the value, the limit and the origin: `source:line:column: message`.\n\n"
      "The number is what functions of the C interface (`perseus/client/perseus.h`) answer.\n\n"
      "| code | number | exit code | meaning |\n|---|---|---|---|\n";
  int number = 0;
  for (const perseus::core::ErrorInfo& row : perseus::core::error_table()) {
    page.append("| `").append(row.name).append("` | ").append(std::to_string(++number)).append(" | ");
    page.append(std::to_string(row.exit_code)).append(" | ");
    page.append(row.meaning).append(" |\n");
  }
  page += "\nExit code 0 is success.\n";
  return std::fputs(page.c_str(), stdout) < 0 ? 1 : 0;
}
