// SPDX-License-Identifier: Apache-2.0
// A time is not added to an energy.
// expected: no match for .operator\+.|invalid operands to binary expression
#include "perseus/core/units.h"

using namespace perseus::core;  // NOLINT(google-build-using-namespace): one function, no header

Joules sum(Joules energy, Seconds time) {
#ifdef PERSEUS_MUST_NOT_COMPILE
  return energy + time;
#else
  return energy + Watts{1} * time;
#endif
}
