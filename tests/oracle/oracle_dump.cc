// SPDX-License-Identifier: Apache-2.0
//
// oracle_dump FIRST COUNT: for each seed FIRST .. FIRST+COUNT-1 one line of JSON with a random problem, its
// exact frontier at several targets, and the bounds that certify/ finds proven. All numbers in shortest
// round-trip form.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "perseus/certify/bound.h"
#include "perseus/solver/frontier.h"
#include "tests/support/random_problem.h"

namespace perseus {
namespace {

using core::Problem;
using core::Seconds;

std::string options_json(const Problem& problem) {
  std::vector<std::string> sets;
  for (std::uint32_t set = 0; set < problem.option_set_count(); ++set) {
    std::vector<std::string> options;
    for (const core::Option& o : problem.option_set(set)) {
      options.push_back(fmt::format("[{},{}]", o.time.value(), o.energy.value()));
    }
    sets.push_back(fmt::format("[{}]", fmt::join(options, ",")));
  }
  return fmt::format("[{}]", fmt::join(sets, ","));
}

std::string problem_json(const Problem& problem) {
  std::vector<std::uint32_t> set_of;
  std::vector<std::uint32_t> rank_of;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    set_of.push_back(problem.option_set_of(i));
    rank_of.push_back(problem.pipeline().rank_of(i));
  }
  std::vector<std::string> edges;
  for (core::EdgeId e = 0; e < problem.pipeline().edges().size(); ++e) {
    const core::Edge& edge = problem.pipeline().edges()[e];
    edges.push_back(fmt::format("[{},{},{}]", edge.from, edge.to, problem.lag(e).value()));
  }
  std::vector<double> power;
  for (const core::Watts p : problem.inputs().blocking_power) power.push_back(p.value());
  return fmt::format(
      R"({{"option_sets":{},"option_set_of":[{}],"rank_of":[{}],"edges":[{}],"blocking_power_w":[{}],"tensor":{}}})",
      options_json(problem), fmt::join(set_of, ","), fmt::join(rank_of, ","), fmt::join(edges, ","),
      fmt::join(power, ","), problem.parallel().tensor);
}

std::string certificate_json(const core::Certificate& c) {
  std::vector<std::string> edges;
  for (const auto& [edge, flow] : c.edges) edges.push_back(fmt::format("[{},{}]", edge, flow));
  return fmt::format(R"({{"unit_exponent":{},"value":{},"computation":[{}],"edges":[{}]}})", c.unit_exponent,
                     c.value, fmt::join(c.computation, ","), fmt::join(edges, ","));
}

/// The value of a Result; ends the program with the error's text otherwise.
template <class T>
T must(core::Result<T> result, const char* what) {
  if (result) return *std::move(result);
  fmt::print(stderr, "oracle_dump: {}: {}\n", what, result.error().text());
  std::exit(1);
}

std::string point_json(const Problem& problem, const solver::Frontier& frontier, Seconds target) {
  const solver::Relaxed relaxed = must(frontier.at(target), "frontier.at");
  const Seconds end = std::min(target, frontier.t_max());  // beyond it at() answers for T_max
  const auto bound = [&](std::optional<Seconds> sync) {
    return must(certify::proven_bound(problem, relaxed.certificate, end, sync), "proven_bound").value();
  };
  return fmt::format(
      R"({{"target_s":{},"tick_exponent":{},"duration":[{}],"certificate":{},"bound_sync_j":{},"bound_self_j":{}}})",
      end.value(), relaxed.tick_exponent, fmt::join(relaxed.duration, ","),
      certificate_json(relaxed.certificate), bound(end), bound(std::nullopt));
}

std::string seed_json(std::uint64_t seed) {
  const tests::ProblemRecipe recipe = tests::recipe_from_seed(seed);
  std::ostringstream text;
  text << recipe;
  const Problem problem = tests::make_problem(recipe);
  const auto frontier = must(solver::Frontier::solve(problem, {.range = solver::Range::kTMax}), "solve");
  const Seconds t_min = frontier.t_min();
  const Seconds t_max = frontier.t_max();
  std::vector<Seconds> targets{t_min, frontier.t_star(), t_max, 1.5 * t_max};
  for (const double share : {0.02, 0.15, 0.5, 0.85})
    targets.push_back(std::max(t_min, t_min + share * (t_max - t_min)));
  std::vector<std::string> points;
  for (const Seconds target : targets) points.push_back(point_json(problem, frontier, target));
  return fmt::format(
      R"({{"seed":{},"recipe":"{}","problem":{},"t_min_s":{},"t_star_s":{},"t_max_s":{},"points":[{}]}})",
      seed, text.str(), problem_json(problem), t_min.value(), frontier.t_star().value(), t_max.value(),
      fmt::join(points, ","));
}

}  // namespace
}  // namespace perseus

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: oracle_dump FIRST COUNT\n");
    return 2;
  }
  const std::uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  for (std::uint64_t seed = first; seed < first + count; ++seed) fmt::print("{}\n", perseus::seed_json(seed));
  return 0;
}
