// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/sweep.h"

namespace perseus::server {}  // namespace perseus::server
