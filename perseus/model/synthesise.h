// SPDX-License-Identifier: Apache-2.0
//
// A profile where none was measured: `perseus synth`. Everything in it is modelled; docs/model.md says how.
//
//   SynthRequest request{.model = "gpt3-175b", .gpu = "a100-sxm-80g", .pipeline = 8, .tensor = 8};
//   PERSEUS_ASSIGN_OR_RETURN(core::Profile profile, synthesise(request));
#pragma once

#include "perseus/core/profile.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/model/request.h"

namespace perseus::model {

/// A valid profile: for each model stage `forward`, `backward`, with split_backward also `backward_input` and
/// `backward_weight`, with Recompute::kSeparate also `recompute`, each at the clocks of listed_clocks().
/// Stage 0 has no `backward_input`: nothing waits for the gradient of the data, and its `backward_weight` is
/// the whole backward (core/problem.h resolves it so). Times are rounded to 1 ns and energies to 1 uJ, so
/// that equal requests give equal bytes on every machine. Rows above the clock that the power limit lets a
/// computation hold repeat that clock's row. Errors: those of resolve(). Deterministic; thread-safe.
core::Result<core::Profile> synthesise(const SynthRequest& request);

/// Time of one transfer of a microbatch's activations between neighbouring pipeline ranks on different nodes:
/// each GPU of the tensor-parallel group sends its share (arXiv 2104.04473 section 4.1) over its own adapter.
/// For `--p2p-lag`. Errors: those of resolve().
core::Result<core::Seconds> p2p_lag(const SynthRequest& request);

}  // namespace perseus::model
