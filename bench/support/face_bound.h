// SPDX-License-Identifier: Apache-2.0
//
// How near to the flow's bound any choice of clocks can come: a proof for whole pipelines, in milliseconds.
//
// Over the flow's bound a choice loses, per computation, what its option costs over the cheapest at its
// price, and its flow times the time for which it idles (docs/mathematics.md). Two ways from one moment to
// another, one or two computations each, take equally long in every run: where no options of theirs do at
// once, the shorter way idles. The least that four such computations can lose is found by looking at all
// their options. Ways that share no computation have losses that add up.
#pragma once

#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/solver/frontier.h"

namespace perseus::bench {

/// Energy of one pipeline with all its GPUs by which every choice that ends by `relaxed.target` exceeds the
/// bound that the flow of `relaxed` proves, self-timed up to T* and synchronised. Right up to rounding of
/// doubles. Errors: those of a target below T_min.
core::Result<core::Joules> unavoidable_loss(const core::Problem& problem, const solver::Relaxed& relaxed);

}  // namespace perseus::bench
