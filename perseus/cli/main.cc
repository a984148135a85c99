// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "perseus/cli/command.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const perseus::cli::Io io{std::cout, std::cerr, isatty(STDERR_FILENO) == 1};
  const int code = perseus::cli::run_cli(std::vector<std::string>(argv + 1, argv + argc), io);
  std::cout.flush();
  if (code == 0 && !std::cout) {
    std::cerr << "perseus: error: standard output could not be written\n";
    return 3;
  }
  return code;
}
