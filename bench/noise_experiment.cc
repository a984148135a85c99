// SPDX-License-Identifier: Apache-2.0
//
// What a plan from noisy measurements is worth: profiles of a known truth are measured with noise, planned as
// they are
// (--fit none) and after the convex fit (--fit convex), and each plan is costed by the truth.
//
//   noise_experiment [SEEDS]   CSV on stdout: one line per (noise, fit, seed, target)
//
// Columns: promised and true time and energy of the plan; late_pct = true over promised time - 1; above_pct =
// true energy over the least energy that the truth's own frontier proves at the plan's true time, - 1.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "perseus/solver/fit.h"
#include "perseus/solver/frontier.h"
#include "perseus/solver/realise.h"
#include "tests/support/pipelines.h"

namespace {

using namespace perseus;  // NOLINT(google-build-using-namespace): a program of one file
using core::Seconds;
using tests::value_or_throw;

constexpr std::uint32_t kStages = 8;
constexpr std::uint32_t kMicrobatches = 32;
constexpr std::uint32_t kClocks = 40;
constexpr int kTargets = 5;

struct Noise {
  double time;    // standard deviation of one measured time, share
  double energy;  // the same of energy
};

core::Problem problem_of(const Noise& noise, std::uint64_t seed) {
  return tests::one_f_one_b_problem(tests::synthetic_profile({.stages = kStages,
                                                              .clocks = kClocks,
                                                              .step_mhz = 20,
                                                              .time_noise = noise.time,
                                                              .energy_noise = noise.energy,
                                                              .noise_seed = seed}),
                                    kStages, kMicrobatches);
}

/// Prints what the plans of `believed` are worth in truth.
void judge(const core::Problem& believed, const core::Problem& truth, const solver::Frontier& true_frontier,
           const std::string& head) {
  const auto frontier = value_or_throw(solver::Frontier::solve(believed));
  const Seconds fast = frontier.t_min();
  const Seconds slow = std::max(frontier.t_star(), fast);
  for (int k = 0; k < kTargets; ++k) {
    const Seconds target = std::max(fast, fast + (static_cast<double>(k) / (kTargets - 1)) * (slow - fast));
    const auto relaxed = value_or_throw(frontier.at(std::min(target, slow)));
    const auto plan =
        value_or_throw(solver::realise(believed, relaxed, {.sync_time = {}, .polish = Seconds(0.05)}));
    // A fit keeps the order of the options: the same index is the same clock.
    const Seconds time = core::exact_timing(truth, plan.choice).makespan.ceil_seconds();
    const core::Joules energy = core::pipeline_energy(truth, plan.choice, time);
    const Seconds reached = std::max(std::min(time, true_frontier.t_star()), true_frontier.t_min());
    const auto best = value_or_throw(solver::realise(truth, value_or_throw(true_frontier.at(reached))));
    fmt::print("{},{},{:.6f},{:.6f},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f}\n", head, k, plan.time.value(),
               time.value(), plan.energy.value(), energy.value(), 100 * (time / plan.time - 1),
               100 * (energy / plan.energy - 1), 100 * (energy / best.lower_bound - 1));
  }
}

int run(std::uint64_t seeds) {
  fmt::print(
      "time_noise,energy_noise,fit,seed,target,promised_s,true_s,promised_j,true_j,late_pct,hungrier_pct,"
      "above_pct\n");
  const auto truth = problem_of({0, 0}, 1);
  const auto true_frontier = value_or_throw(solver::Frontier::solve(truth));
  for (const Noise noise : {Noise{0, 0}, Noise{0.001, 0.002}, Noise{0.002, 0.004}, Noise{0.004, 0.008},
                            Noise{0.01, 0.02}, Noise{0.02, 0.04}}) {
    for (std::uint64_t seed = 1; seed <= (noise.time == 0 ? 1 : seeds); ++seed) {
      const auto measured = problem_of(noise, seed);
      const auto fitted = value_or_throw(solver::fit_convex(measured));
      const auto head = [&](const char* fit) {
        return fmt::format("{},{},{},{}", noise.time, noise.energy, fit, seed);
      };
      judge(measured, truth, true_frontier, head("none"));
      judge(fitted.problem, truth, true_frontier, head("convex"));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 8);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "noise_experiment: %s\n", e.what());
    return 1;
  }
}
