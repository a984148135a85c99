// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: a drawing of a network in the plane without crossings, if there is one.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/solver/network.h"

namespace perseus::solver {

using FaceId = std::uint32_t;

/// The faces of a drawing of the network together with one more arc, from sink to source.
struct Faces {
  std::uint32_t count = 0;  ///< 0: the network cannot be drawn so
  /// Per dart (2a from tail to head of arc a, 2a + 1 back; the last two are those of the added arc): the face
  /// on one hand of it, the same hand for all.
  std::vector<FaceId> beside;
};

/// Draws the network, in time and memory proportional to its size (but for a sort), or finds that it cannot.
[[nodiscard]] Faces draw(const Network& network);

}  // namespace perseus::solver
