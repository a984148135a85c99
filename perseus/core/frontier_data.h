// SPDX-License-Identifier: Apache-2.0
//
// The durable form of a frontier: what solver/ makes, format/ stores, and solver/ resumes from.
#pragma once

#include <cstdint>
#include <vector>

namespace perseus::core {

/// Numbers of one exact frontier. Units: ticks of 2^time_exponent s, flows of 2^power_exponent W.
struct FrontierData {
  std::int32_t time_exponent = 0;
  std::int32_t power_exponent = 0;
  // The solver's room completes this.
};

}  // namespace perseus::core
