// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <utility>

#include "perseus/core/problem.h"
#include "perseus/format/files.h"
#include "perseus/format/profile_csv.h"
#include "perseus/schedule/generate.h"
#include "perseus/solver/frontier.h"
#include "perseus/solver/realise.h"

using namespace perseus;

core::Status plan(const char* path) {
  PERSEUS_ASSIGN_OR_RETURN(auto bytes, format::read_file(path, format::kMaxProfileBytes));
  PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_profile_csv(bytes, path));
  PERSEUS_ASSIGN_OR_RETURN(auto order,
                           schedule::generate({.name = "1f1b", .pipeline = 2, .microbatches = 2}));
  PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(std::move(order)));

  core::ProblemInputs inputs;
  inputs.profile = std::move(parsed.profile);
  inputs.blocking_power = {core::Watts{85}, core::Watts{85}};  // per rank
  PERSEUS_ASSIGN_OR_RETURN(auto problem, core::Problem::build(std::move(pipeline), std::move(inputs)));

  PERSEUS_ASSIGN_OR_RETURN(auto frontier, solver::Frontier::solve(problem));
  PERSEUS_ASSIGN_OR_RETURN(auto relaxed, frontier.at(frontier.t_min()));
  PERSEUS_ASSIGN_OR_RETURN(auto plan, solver::realise(problem, relaxed));
  std::printf("T_min = %.3f s, T* = %.3f s\n", frontier.t_min().value(), frontier.t_star().value());
  std::printf("plan: %.3f s, %.2f J, proven least %.2f J\n", plan.time.value(), plan.energy.value(),
              plan.lower_bound.value());
  return {};
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const core::Status done = plan(argv[1]);
  if (!done) std::fprintf(stderr, "%s\n", done.error().text().c_str());
  return done ? 0 : core::info(done.error().code()).exit_code;
}
