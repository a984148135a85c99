// SPDX-License-Identifier: Apache-2.0
//
// A number that carries where it comes from. Every constant of this room is one, so that docs/model.md can
// list them all and nobody can add one without saying who said so.
//
//   constexpr Figure kTdp{400, "W", "NVIDIA A100 datasheet"};
#pragma once

#include <string_view>

namespace perseus::model {

/// One constant with its unit and its source: an address and a place in it, "derived: ..." with the
/// derivation from published numbers, or a text that begins with "assumed".
struct Figure {
  double value = 0;
  std::string_view unit;
  std::string_view source;
};

}  // namespace perseus::model
