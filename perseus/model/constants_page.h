// SPDX-License-Identifier: Apache-2.0
//
// The page that lists every constant of this room with unit and source: docs/model_constants.md. A test
// compares the file with this text, so the two cannot drift apart.
#pragma once

#include <string>

namespace perseus::model {

/// The whole page, Markdown.
[[nodiscard]] std::string constants_page();

}  // namespace perseus::model
