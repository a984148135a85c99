// SPDX-License-Identifier: Apache-2.0
// A Result that nobody looks at is an error of our builds.
// expected: nodiscard
#include "perseus/core/result.h"

using namespace perseus::core;  // NOLINT(google-build-using-namespace): one function, no header

Status work();

void caller() {
#ifdef PERSEUS_MUST_NOT_COMPILE
  work();
#else
  if (const Status done = work(); !done) return;
#endif
}
