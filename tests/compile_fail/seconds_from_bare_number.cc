// SPDX-License-Identifier: Apache-2.0
// A bare number has no unit.
// expected: conversion from .double. to|no viable conversion from .double.
#include "perseus/core/units.h"

using namespace perseus::core;  // NOLINT(google-build-using-namespace): one function, no header

Seconds one_second() {
#ifdef PERSEUS_MUST_NOT_COMPILE
  Seconds t = 1.0;
#else
  Seconds t{1.0};
#endif
  return t;
}
