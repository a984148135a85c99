// SPDX-License-Identifier: Apache-2.0
//
// Gap of realised plans to the proven bound, over targets from T_min to T*.
//
//   realise_gap [STAGES MICROBATCHES [POLISH_SECONDS [TARGETS]]]    default 8 128 1 12
//   realise_gap dump PROFILE STAGES MICROBATCHES POLISH_SECONDS TARGETS     one problem for
//   bench/integer_optimum.py
//
// Prints one Markdown row per profile: the gap in per cent, median and worst, at once and polished, with the
// CPU time of one answer, and below which gap no choice of clocks comes (support/face_bound.h). Profiles:
// `bench` (bench/support), `smooth` and `noisy` (tests/support/pipelines.h; noisy: 40 clocks, 0.4 % noise on
// time, 0.8 % on energy).
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise.h"
#include "support/face_bound.h"
#include "support/synthetic.h"
#include "tests/support/pipelines.h"

namespace {

using namespace perseus;  // NOLINT(google-build-using-namespace): a program of one file
using core::Seconds;
using tests::value_or_throw;

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// Gaps (per cent) over the targets and the CPU time of one plan, s.
struct Gaps {
  std::vector<double> percent;
  double seconds = 1e300;

  core::Plan add(const core::Problem& problem, const solver::Relaxed& relaxed, Seconds polish, int repeats) {
    core::Plan plan;
    for (int k = 0; k < repeats; ++k) {
      const double start = cpu_seconds();
      plan = value_or_throw(solver::realise(problem, relaxed, {.sync_time = {}, .polish = polish}));
      seconds = std::min(seconds, cpu_seconds() - start);
    }
    percent.push_back(100 * plan.gap);
    return plan;
  }
  [[nodiscard]] double worst() const { return std::ranges::max(percent); }
  [[nodiscard]] double median() const {
    auto sorted = percent;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

core::Problem noisy_problem(std::uint32_t stages, std::uint32_t microbatches) {
  return tests::one_f_one_b_problem(
      tests::synthetic_profile(
          {.stages = stages, .clocks = 40, .step_mhz = 20, .time_noise = 0.004, .energy_noise = 0.008}),
      stages, microbatches);
}

core::Problem problem_of(std::string_view profile, std::uint32_t stages, std::uint32_t microbatches) {
  if (profile == "bench") return value_or_throw(bench::synthetic_problem(stages, microbatches));
  if (profile == "noisy") return noisy_problem(stages, microbatches);
  if (profile != "smooth") throw std::invalid_argument("the profiles are bench, smooth and noisy");
  return tests::one_f_one_b_problem(tests::synthetic_profile({.stages = stages}), stages, microbatches);
}

/// Target k of n from T_min to T*.
Seconds target(const solver::Frontier& f, int k, int n) {
  const Seconds fast = f.t_min();
  const Seconds slow = std::max(f.t_star(), fast);
  const double share = n == 1 ? 0 : static_cast<double>(k) / (n - 1);
  return std::min(slow, std::max(fast, fast + share * (slow - fast)));
}

void row(const char* name, const core::Problem& problem, Seconds polish, int targets) {
  const auto frontier = value_or_throw(solver::Frontier::solve(problem));
  Gaps once;
  Gaps polished;
  Gaps least;
  for (int k = 0; k < targets; ++k) {
    const auto relaxed = value_or_throw(frontier.at(target(frontier, k, targets)));
    once.add(problem, relaxed, Seconds(0), 5);
    const auto plan = polished.add(problem, relaxed, polish, 1);
    const auto loss = value_or_throw(bench::unavoidable_loss(problem, relaxed));
    least.percent.push_back(100 * (loss / plan.lower_bound));
  }
  fmt::print("| {} | {:.4f} / {:.4f} | {:.2f} ms | {:.4f} / {:.4f} | {:.2f} s | {:.4f} / {:.4f} |\n", name,
             once.median(), once.worst(), 1e3 * once.seconds, polished.median(), polished.worst(),
             polished.seconds, least.median(), least.worst());
  std::fflush(stdout);
}

/// Text: sizes, then options (time, effective cost) by computation, edges, and per target the bound and both
/// plans.
int dump(std::string_view profile, std::uint32_t stages, std::uint32_t microbatches, Seconds polish,
         int targets) {
  const auto problem = problem_of(profile, stages, microbatches);
  const auto frontier = value_or_throw(solver::Frontier::solve(problem));
  const auto edges = problem.pipeline().edges();
  fmt::print("{} {} {}\n", problem.size(), edges.size(), targets);
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    fmt::print("{}", problem.options(i).size());
    for (const auto& o : problem.options(i)) {
      fmt::print(" {:.17g} {:.17g}", o.time.value(), problem.effective_cost(i, o).value());
    }
    fmt::print("\n");
  }
  for (const core::Edge& e : edges) fmt::print("{} {}\n", e.from, e.to);
  for (int k = 0; k < targets; ++k) {
    const auto relaxed = value_or_throw(frontier.at(target(frontier, k, targets)));
    // Synchronised at the target: the integer programme then minimises the effective cost alone.
    const auto once = value_or_throw(solver::realise(problem, relaxed, {.sync_time = relaxed.target}));
    const auto polished =
        value_or_throw(solver::realise(problem, relaxed, {.sync_time = relaxed.target, .polish = polish}));
    const double waiting = (problem.total_blocking_power() * relaxed.target).value();
    fmt::print("{:.17g} {:.17g} {:.17g} {:.17g} {:.17g}\n", relaxed.target.value(), waiting,
               once.lower_bound.value(), once.energy.value(), polished.energy.value());
  }
  return 0;
}

int run(std::uint32_t stages, std::uint32_t microbatches, Seconds polish, int targets) {
  fmt::print("{} x {}, {} targets, gap in % (median / worst)\n\n", stages, microbatches, targets);
  fmt::print(
      "| profile | at once | CPU, best | --polish {} | CPU, best | none below |\n|---|---|---|---|---|---|\n",
      polish.value());
  for (const char* profile : {"bench", "smooth", "noisy"}) {
    row(profile, problem_of(profile, stages, microbatches), polish, targets);
  }
  return 0;
}

std::uint32_t number(const char* text) {
  return static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 7 && std::string_view(argv[1]) == "dump") {
      return dump(argv[2], number(argv[3]), number(argv[4]), Seconds(std::strtod(argv[5], nullptr)),
                  static_cast<int>(number(argv[6])));
    }
    return run(argc > 2 ? number(argv[1]) : 8, argc > 2 ? number(argv[2]) : 128,
               Seconds(argc > 3 ? std::strtod(argv[3], nullptr) : 1),
               argc > 4 ? static_cast<int>(number(argv[4])) : 12);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "realise_gap: %s\n", e.what());
    return 1;
  }
}
