// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/clock.h"

namespace perseus::lease {

const SystemTime& SystemTime::instance() {
  static const SystemTime kTime;
  return kTime;
}

}  // namespace perseus::lease
