// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/workload.h"

#include <fmt/format.h>

#include <algorithm>

#include "perseus/core/pipeline.h"
#include "perseus/core/profile.h"
#include "perseus/model/synthesise.h"
#include "perseus/schedule/generate.h"

namespace perseus::demo {
namespace {

using core::Seconds;

/// The share b of t(f) = d ((1 - b) f_top / f + b) from two measured clocks.
double memory_bound_share(const core::ProfileEntry& entry) {
  const core::Option& fast = entry.options.front();
  const core::Option& slow = entry.options.back();
  if (!fast.clock || !slow.clock) return 0;
  const double stretch = static_cast<double>(fast.clock->value()) / slow.clock->value();
  if (stretch <= 1) return 0;
  const double slower = slow.time / fast.time;
  return std::clamp((stretch - slower) / (stretch - 1), 0.0, 1.0);
}

core::Result<StageWork> stage_work(const core::Profile& profile, std::uint32_t stage,
                                   const simgpu::GpuSpec& gpu) {
  const core::ProfileEntry* forward = profile.find(stage, "forward");
  const core::ProfileEntry* backward = profile.find(stage, "backward");
  if (forward == nullptr || backward == nullptr) {
    return core::fail(core::ErrorCode::kInternal, fmt::format("the model has no stage {}", stage));
  }
  const core::Option& top = backward->options.front();
  StageWork work{.forward = forward->options.front().time, .backward = top.time};
  work.memory_bound = memory_bound_share(*backward);
  // While data moves, the memory draws its power; the rest of what the model says is the SMs'.
  work.memory_utilization = work.memory_bound;
  const simgpu::ClockSpec& clock = gpu.clocks.back();
  const core::Watts sms =
      top.energy / top.time - clock.static_power - work.memory_utilization * gpu.memory_power;
  work.utilization =
      std::clamp(sms / clock.dynamic_power, 0.0, simgpu::sustained_utilization(gpu, work.memory_utilization));
  return work;
}

}  // namespace

core::Result<Workload> make_workload(const Shape& shape, const simgpu::GpuSpec& gpu) {
  PERSEUS_ASSIGN_OR_RETURN(const core::Profile profile,
                           model::synthesise({.model = shape.model,
                                              .gpu = shape.gpu,
                                              .pipeline = shape.stages,
                                              .microbatch_size = shape.microbatch_size}));
  Workload workload;
  for (std::uint32_t stage = 0; stage < shape.stages; ++stage) {
    PERSEUS_ASSIGN_OR_RETURN(const StageWork work, stage_work(profile, stage, gpu));
    workload.stages.push_back(work);
  }
  workload.shortest = std::ranges::min(workload.stages, {}, &StageWork::forward).forward;
  workload.longest = std::ranges::max(workload.stages, {}, &StageWork::backward).backward;
  return workload;
}

core::Result<Seconds> ideal_iteration(const Workload& workload, std::uint32_t microbatches) {
  PERSEUS_ASSIGN_OR_RETURN(core::Schedule schedule,
                           schedule::generate({.name = "1f1b",
                                               .pipeline = static_cast<std::uint32_t>(workload.stages.size()),
                                               .microbatches = microbatches}));
  PERSEUS_ASSIGN_OR_RETURN(const core::Pipeline pipeline, core::Pipeline::build(std::move(schedule)));
  std::vector<Seconds> begin(pipeline.size());
  Seconds last;
  for (const core::ComputationId i : pipeline.topological_order()) {
    const core::Computation& computation = pipeline.computation(i);
    const StageWork& work = workload.stages[computation.stage];
    const Seconds end = begin[i] + (computation.kind == core::Kind::kForward ? work.forward : work.backward);
    last = std::max(last, end);
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      Seconds& next = begin[pipeline.edges()[e].to];
      next = std::max(next, end);
    }
  }
  return last;
}

}  // namespace perseus::demo
