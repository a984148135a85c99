// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/backoff.h"

#include <algorithm>

namespace perseus::lease {

Duration Backoff::next() {
  Duration wait = limits_.first;
  for (std::uint32_t i = 0; i < tries_ && wait < limits_.most; ++i) wait *= 2;
  wait = std::min(wait, limits_.most);
  ++tries_;
  // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): any seed will do, and it is the same everywhere.
  state_ += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  const auto half = static_cast<std::uint64_t>((wait / 2).count());
  return wait / 2 + Duration(half == 0 ? 0 : z % half);
}

}  // namespace perseus::lease
