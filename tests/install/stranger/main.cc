// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <utility>

#include "perseus/core/problem.h"

using namespace perseus;

int main() {
  core::Schedule schedule{.name = "mine", .microbatches = 1, .ranks = {{{.kind = core::Kind::kForward}, {.kind = core::Kind::kBackward}}}};
  core::Option fast{.clock = core::Megahertz{1410}, .time = core::Seconds{0.010}, .energy = core::Joules{4.0}};
  core::ProblemInputs inputs;
  inputs.profile.entries = {{.stage = 0, .instruction = "backward", .options = {fast}},
                            {.stage = 0, .instruction = "forward", .options = {fast}}};
  inputs.blocking_power = {core::Watts{85}};
  auto pipeline = core::Pipeline::build(std::move(schedule));
  if (!pipeline) return 1;
  auto problem = core::Problem::build(*std::move(pipeline), std::move(inputs));
  if (!problem) return 1;
  const auto timing = core::exact_timing(*problem, core::fastest_choice(*problem));
  std::printf("T_min = %.6f s\n", timing.makespan.ceil_seconds().value());
}
