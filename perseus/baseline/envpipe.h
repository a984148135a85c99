// SPDX-License-Identifier: Apache-2.0
//
// EnvPipe (Choi et al., "EnvPipe: Performance-preserving DNN Training Framework for Saving Energy", USENIX
// ATC '23, https://www.usenix.org/conference/atc23/presentation/choi), read from its abstract, the README of
// its code (https://github.com/casys-kaist/EnvPipe) and that code
// (DeepSpeed/deepspeed/runtime/pipe/reconfiguration.py):
//
// 1. Type "envelope": the outer envelope of the pipeline runs at the maximum SM frequency: all units of the
// last stage
//    (taken to be the heaviest), the first forward and the last backward of each stage. All other units run
//    at the "optimal" frequency, the minimum of their energy over frequency ("energy valley").
// 2. Reconfiguration, policy "balanced": find the critical path; unless it is the envelope, raise the units
// on it that
//    have the lowest frequency by one step; repeat.
//
// Where we had to decide:
// - EnvPipe's own order of units (its scheduling method "ours") is not applied: the job's order is an input
// here.
// - The valley is each computation's own (the paper profiles a GPU; the Perseus authors' re-implementation,
// like us, a
//   computation). Steps go to the next clock that is faster; those that are not are skipped.
// - Critical paths are exact, where EnvPipe compares measured waiting times with a threshold. With several,
// the one is
//   taken that stays on a rank where it can, as its code does.
// - EnvPipe may never end where the last stage is not the heaviest. Here it ends when the critical path is
// the envelope
//   or when all units on it are at their fastest. Either way that path is no longer than under all-max: the
//   result is never slower than all-max.
// - The envelope of a pipeline with several virtual stages: the last model stage, and the first forward and
// last
//   backward (or I and W) of each model stage.
#pragma once

#include "perseus/baseline/baseline.h"
#include "perseus/core/problem.h"

namespace perseus::baseline {

/// EnvPipe's plan. Its time is at most that of all_max(), exactly. O(raises x size); raises at most size x
/// clocks.
[[nodiscard]] Baseline envpipe(const core::Problem& problem, const Counting& counting = {});

}  // namespace perseus::baseline
