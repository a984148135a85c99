// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "perseus/certify/lower_sum.h"
#include "perseus/certify/rehearsal.h"

namespace perseus::certify {
namespace {

using core::Certificate;
using core::ErrorCode;
using core::fail;
using core::Problem;
using core::Seconds;

__extension__ typedef __int128 Wide;  // sums of 2^26 flows of 64 bits

core::Origin origin() {
  return {.source = "certificate"};
}

core::Status false_claim(std::string text) {
  return fail(ErrorCode::kClaimFalse, std::move(text), origin());
}

/// Signs, sizes and ids; after this the flow can be indexed without fear.
core::Status check_shape(const Problem& problem, const Certificate& c) {
  if (std::abs(std::int64_t{c.unit_exponent}) > kMaxUnitExponent) {
    return fail(ErrorCode::kLimit,
                fmt::format("unit exponent {} is outside -{} to {}", c.unit_exponent, kMaxUnitExponent,
                            kMaxUnitExponent),
                origin());
  }
  if (c.computation.size() != problem.size()) {
    return false_claim(fmt::format("holds flows of {} computations; the pipeline has {}",
                                   c.computation.size(), problem.size()));
  }
  if (c.value < 0) return false_claim(fmt::format("its value {} is negative", c.value));
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (c.computation[i] < 0) {
      return false_claim(
          fmt::format("the flow {} through {} is negative", c.computation[i], problem.pipeline().name(i)));
    }
  }
  const std::size_t edges = problem.pipeline().edges().size();
  for (std::size_t k = 0; k < c.edges.size(); ++k) {
    const auto& [edge, flow] = c.edges[k];
    if (edge >= edges) return false_claim(fmt::format("edge {} does not exist; there are {}", edge, edges));
    if (flow <= 0) return false_claim(fmt::format("the flow {} on edge {} is not above 0", flow, edge));
    if (k > 0 && edge <= c.edges[k - 1].edge)
      return false_claim(fmt::format("edge {} is out of order", edge));
  }
  return {};
}

/// One side of the conservation check, for messages.
struct Side {
  const char* edges;
  const char* terminal;
};
constexpr Side kIn{"edges in", "the source feeds"};
constexpr Side kOut{"edges out", "the sink takes"};

/// What the edges on one side of each computation do not carry goes to the source or the sink: never less
/// than 0, and `value` in all.
core::Status check_side(const Problem& problem, const Certificate& c, const std::vector<Wide>& by_edges,
                        Side side) {
  Wide total = 0;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const Wide terminal = c.computation[i] - by_edges[i];
    if (terminal < 0) {
      return false_claim(fmt::format("{}: its {} carry {}, but the flow through it is {}",
                                     problem.pipeline().name(i), side.edges, by_edges[i], c.computation[i]));
    }
    total += terminal;
  }
  if (total == c.value) return {};
  return false_claim(fmt::format("{} {} in all, but its value is {}", side.terminal, total, c.value));
}

/// A unit of flow in watts times n: exact, n has at most 63 bits.
long double watts(const Certificate& c, std::int64_t n) {
  return std::ldexp(static_cast<long double>(n), c.unit_exponent);
}

/// min_k (e_k + (phi - P) t_k), with a bound of its error.
void add_least_cost(LowerSum& sum, std::span<const core::Option> options, long double flow,
                    long double power) {
  long double least = std::numeric_limits<long double>::infinity();
  long double error = 0;
  for (const core::Option& o : options) {
    const long double time = o.time.value();
    const long double energy = o.energy.value();
    const long double cost = energy + (flow - power) * time;
    // Three roundings, each of at most u times (energy + (flow + power) time) and a little more.
    const long double doubt = 4 * kUnitRoundoff * (energy + (flow + power) * time);
    // The true minimum is at least the smallest of (cost - doubt).
    if (cost - doubt < least - error) {
      least = cost;
      error = doubt;
    }
  }
  // Half an ulp for the subtractions that were compared.
  sum.add(least, error + 2 * kUnitRoundoff * (std::abs(least) + error));
}

/// A of bound.h: all that does not depend on the time.
LowerSum priced_options(const Problem& problem, const Certificate& c) {
  LowerSum sum;
  const core::Pipeline& pipeline = problem.pipeline();
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    add_least_cost(sum, problem.options(i), watts(c, c.computation[i]),
                   problem.blocking_power(pipeline.rank_of(i)).value());
  }
  for (const auto& [edge, flow] : c.edges) {
    const core::Edge& e = pipeline.edges()[edge];
    const Seconds lag = transfer_lag(problem, pipeline.rank_of(e.from), pipeline.rank_of(e.to));
    sum.add_product(watts(c, flow), lag.value());
  }
  return sum;
}

/// A - F end + sum_r P_r blocked.
long double bound_at(const Problem& problem, const Certificate& c, LowerSum sum, Seconds end,
                     Seconds blocked) {
  sum.add_product(-watts(c, c.value), end.value());
  for (const core::Watts power : problem.inputs().blocking_power)
    sum.add_product(power.value(), blocked.value());
  return sum.lower();
}

/// The time with every computation at its fastest option, rounded down.
core::Result<Seconds> earliest_end(const Problem& problem) {
  std::vector<Seconds> fastest(problem.option_set_count());
  for (std::uint32_t set = 0; set < fastest.size(); ++set) {
    const auto options = problem.option_set(set);
    fastest[set] = std::ranges::min(options, {}, &core::Option::time).time;
  }
  PERSEUS_ASSIGN_OR_RETURN(const Rehearsal rehearsal, rehearse(problem, [&](core::ComputationId i) {
                             return fastest[problem.option_set_of(i)];
                           }));
  const Seconds up = rehearsal.end.ceil_seconds();
  if (core::ExactTime(up) == rehearsal.end) return up;
  return Seconds(std::nextafter(up.value(), 0.0));
}

}  // namespace

core::Status check_span(const char* name, Seconds time) {
  if (std::isfinite(time.value()) && time >= Seconds(0) && time <= kMaxSpan) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} is {} s; it must be 0 to {} s", name, time.value(), kMaxSpan.value()));
}

core::Status check_flow(const Problem& problem, const Certificate& certificate) {
  PERSEUS_RETURN_IF_ERROR(check_shape(problem, certificate));
  std::vector<Wide> in(problem.size(), 0);
  std::vector<Wide> out(problem.size(), 0);
  for (const auto& [edge, flow] : certificate.edges) {
    out[problem.pipeline().edges()[edge].from] += flow;
    in[problem.pipeline().edges()[edge].to] += flow;
  }
  PERSEUS_RETURN_IF_ERROR(check_side(problem, certificate, in, kIn));
  return check_side(problem, certificate, out, kOut);
}

core::Result<core::Joules> proven_bound(const Problem& problem, const Certificate& certificate,
                                        Seconds target, std::optional<Seconds> sync) {
  PERSEUS_RETURN_IF_ERROR(check_span("target_time_s", target));
  if (sync) PERSEUS_RETURN_IF_ERROR(check_span("sync_time_s", *sync));
  PERSEUS_RETURN_IF_ERROR(check_flow(problem, certificate));
  const LowerSum sum = priced_options(problem, certificate);
  long double bound = bound_at(problem, certificate, sum, target, sync.value_or(target));
  if (!sync) {
    PERSEUS_ASSIGN_OR_RETURN(const Seconds earliest, earliest_end(problem));
    bound = std::min(bound, bound_at(problem, certificate, sum, earliest, earliest));
  }
  bound *= problem.parallel().tensor;
  bound -= 2 * kUnitRoundoff * std::abs(bound);
  return core::Joules(bound > 0 ? round_down(bound) : 0.0);
}

}  // namespace perseus::certify
