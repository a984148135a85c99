// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/model_constants.md from the tables of perseus/model.
#include <cstdio>

#include "perseus/model/constants_page.h"

int main() {
  return std::fputs(perseus::model::constants_page().c_str(), stdout) < 0 ? 1 : 0;
}
