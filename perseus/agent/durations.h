// SPDX-License-Identifier: Apache-2.0
//
// From the configuration's seconds to what deadlines are reckoned in.
#pragma once

#include <chrono>

#include "perseus/core/units.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// Cut off to whole nanoseconds. Pure and thread-safe.
[[nodiscard]] inline lease::Duration to_duration(core::Seconds time) {
  return std::chrono::duration_cast<lease::Duration>(std::chrono::duration<double>(time.value()));
}

}  // namespace perseus::agent
