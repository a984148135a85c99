// SPDX-License-Identifier: Apache-2.0
// A power is not compared with an energy.
// expected: no match for .operator<.|invalid operands to binary expression
#include "perseus/core/units.h"

using namespace perseus::core;  // NOLINT(google-build-using-namespace): one function, no header

bool below(Watts power, Joules energy) {
#ifdef PERSEUS_MUST_NOT_COMPILE
  return power < energy;
#else
  return power < energy / Seconds{1};
#endif
}
