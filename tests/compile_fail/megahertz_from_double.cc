// SPDX-License-Identifier: Apache-2.0
// Clocks are whole megahertz: a fraction is not silently cut off.
// expected: use of deleted function|call to deleted constructor
#include "perseus/core/units.h"

using namespace perseus::core;  // NOLINT(google-build-using-namespace): one function, no header

Megahertz clock(double mhz) {
#ifdef PERSEUS_MUST_NOT_COMPILE
  return Megahertz(mhz);
#else
  return Megahertz{static_cast<std::uint32_t>(mhz)};
#endif
}
