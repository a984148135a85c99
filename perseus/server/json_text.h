// SPDX-License-Identifier: Apache-2.0
//
// The room's name for format's writer of compact JSON.
#pragma once

#include "perseus/format/json_text.h"

namespace perseus::server {

using format::JsonText;

}  // namespace perseus::server
