// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/clock.h"

namespace perseus::lease {

const SystemTime& SystemTime::instance() {
  static const SystemTime time;
  return time;
}

}  // namespace perseus::lease
