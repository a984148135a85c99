// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "perseus/solver/realise.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;

core::Status check_number(double value, double least, const char* flag, const char* unit) {
  if (std::isfinite(value) && value >= least) return {};
  return fail(ErrorCode::kUsage, fmt::format("{} is not a number of at least {}{}", value, least, unit),
              {flag});
}

/// What core/exact_time.h and plan files hold: 2^44 s, rounded down.
constexpr Seconds kLongestSync{1.6e13};

core::Result<Target> self_timed(Seconds wanted, Seconds t_min, Seconds t_star, const char* flag) {
  if (wanted < t_min) {
    return fail(
        ErrorCode::kInfeasible,
        fmt::format(
            "target time {} s is under T_min = {} s, the iteration time with every computation at its "
            "fastest option",
            wanted.value(), t_min.value()),
        {flag});
  }
  return Target{std::min(wanted, std::max(t_star, t_min)), std::nullopt};
}

}  // namespace

core::Result<Target> resolve(const Question& q, Seconds t_min, Seconds t_star, Seconds t_max) {
  if (q.target_time) {
    PERSEUS_RETURN_IF_ERROR(check_number(q.target_time->value(), 0, "--target-time", " s"));
    return self_timed(*q.target_time, t_min, t_star, "--target-time");
  }
  if (q.slowdown_percent) {
    PERSEUS_RETURN_IF_ERROR(check_number(*q.slowdown_percent, 0, "--slowdown", " %"));
    // max: the product may round below T_min, which a slowdown of 0 % must not.
    return self_timed(std::max(t_min, t_min * (1 + *q.slowdown_percent / 100)), t_min, t_star, "--slowdown");
  }
  if (q.min_energy) return Target{t_star, std::nullopt};
  if (!q.synchronised()) return Target{t_min, std::nullopt};

  Seconds sync = t_min;
  if (q.straggler_factor) {
    PERSEUS_RETURN_IF_ERROR(check_number(*q.straggler_factor, 1, "--straggler", ""));
    sync = *q.straggler_factor * t_min;
  } else {
    PERSEUS_RETURN_IF_ERROR(check_number(q.sync_time->value(), 0, "--sync-time", " s"));
    sync = *q.sync_time;
  }
  if (sync > kLongestSync) {
    return fail(ErrorCode::kUsage,
                fmt::format("T' is {} s; the limit is {} s", sync.value(), kLongestSync.value()),
                {q.straggler_factor ? "--straggler" : "--sync-time"});
  }
  sync = std::max(sync, t_min);
  return Target{std::min(sync, std::max(t_max, t_min)), sync};
}

core::Result<TimedFrontier> solve_frontier(const core::Problem& problem, solver::Range range, const Io& io) {
  solver::SolveOptions options{.range = range, .progress = {}};
  if (io.err_is_terminal) {
    options.progress = [&io](double share, std::string_view what) { io.progress(share, what); };
  }
  const auto start = std::chrono::steady_clock::now();
  PERSEUS_ASSIGN_OR_RETURN(auto frontier, solver::Frontier::solve(problem, options));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  io.progress_done();
  return TimedFrontier{std::move(frontier), Seconds(took.count())};
}

core::Result<core::Plan> make_plan(const solver::Frontier& frontier, const Target& target, Seconds polish,
                                   const std::string& fit) {
  PERSEUS_ASSIGN_OR_RETURN(auto relaxed, frontier.at(target.time));
  PERSEUS_ASSIGN_OR_RETURN(auto plan, solver::realise(frontier.problem(), relaxed,
                                                      {.sync_time = target.sync_time, .polish = polish}));
  plan.fit = fit;
  return plan;
}

core::Watts marginal_power(const core::Problem& problem, const core::Certificate& certificate) {
  const core::Watts flow(std::ldexp(static_cast<double>(certificate.value), certificate.unit_exponent));
  return problem.parallel().tensor * (flow - problem.total_blocking_power());
}

core::Result<std::vector<core::Plan>> sample_plans(const solver::Frontier& frontier, solver::Range range,
                                                   std::uint32_t count, const std::string& fit,
                                                   const Io& io) {
  const bool synchronised = range == solver::Range::kTMax;
  const Seconds fast = frontier.t_min();
  const Seconds slow = std::max(fast, synchronised ? frontier.t_max() : frontier.t_star());
  std::vector<core::Plan> plans;
  for (std::uint32_t k = 0; k < count; ++k) {
    const double share = static_cast<double>(k) / (count - 1);
    // The ends are taken as they are: an interpolated end may round to the wrong side of T_min.
    const Seconds time = k + 1 == count ? slow : std::max(fast, fast + share * (slow - fast));
    if (!plans.empty() && time == plans.back().target_time) continue;
    PERSEUS_ASSIGN_OR_RETURN(
        auto plan,
        make_plan(frontier, {time, synchronised ? std::optional(time) : std::nullopt}, Seconds(0), fit));
    plans.push_back(std::move(plan));
    io.progress(share, "planning");
  }
  io.progress_done();
  return plans;
}

}  // namespace perseus::cli
