// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: from an optimum of a simpler profile to one of the true profile at the same iteration
// time.
//
// With every 32nd option only, the walk has a thirty-second of the way. Its spans are feasible with all
// options too, but its flows do not fit them: each is moved into the range that its arc's span allows, which
// leaves some nodes with too much and some with too little. The same walk repairs that, from a source that
// feeds what is too much to a sink that takes what is missing, with the iteration time held. The answer is
// exact, wherever it began.
#pragma once

#include <cstdint>

#include "perseus/core/result.h"
#include "perseus/solver/network.h"
#include "perseus/solver/walk.h"

namespace perseus::solver {

/// The network with every `step`-th point of its curves.
[[nodiscard]] Network coarsened(const Network& network, std::uint32_t step);

/// An optimum of `network` at the iteration time of `rough`, whose node times must keep all spans possible;
/// its flows are a hint. kInternal if the result is no optimum (never seen; it is checked).
core::Result<Optimum> refine(const Network& network, const Optimum& rough);

}  // namespace perseus::solver
