// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace perseus::solver {
namespace {

using core::ComputationId;
using core::ErrorCode;
using core::Problem;

/// Bits of the largest makespan and of the sum of all steepest slopes. One bit below the types' limits is
/// left for rounding: at most 2^25 paths' members are rounded up by less than a tick each.
constexpr int kTimeBits = 61;
constexpr int kFlowBits = 60;
/// 2^-82 s divides every time of a profile (core/exact_time.h): finer ticks give nothing.
constexpr int kFinestTick = -82;
constexpr int kFinestPower = -60;
/// Coarser units of flow (62 mW) would let the bound lose more than the numbers that users read show.
constexpr int kCoarsestPower = -4;

struct RealPoint {
  std::int64_t time = 0;
  long double cost = 0;
};

std::int64_t ticks_up(core::Seconds t, int exponent) {
  return static_cast<std::int64_t>(std::ceil(std::ldexp(t.value(), -exponent)));
}

/// Lower-left hull of one option set: rising times, falling costs, rising slopes.
std::vector<RealPoint> hull(std::span<const core::Option> options, core::Watts blocking, int exponent) {
  std::vector<RealPoint> points;
  points.reserve(options.size());
  for (const core::Option& o : options) {
    const long double cost = o.energy.value() - static_cast<long double>(blocking.value()) * o.time.value();
    points.push_back({ticks_up(o.time, exponent), cost});
  }
  std::ranges::sort(points, [](const RealPoint& a, const RealPoint& b) {
    return a.time != b.time ? a.time < b.time : a.cost < b.cost;
  });
  std::vector<RealPoint> lower;
  for (const RealPoint& p : points) {
    if (!lower.empty() && p.cost >= lower.back().cost) continue;  // slower and not cheaper
    while (lower.size() >= 2) {
      const RealPoint& a = lower[lower.size() - 2];
      const RealPoint& b = lower.back();
      const long double first = (a.cost - b.cost) * static_cast<long double>(p.time - b.time);
      const long double second = (b.cost - p.cost) * static_cast<long double>(b.time - a.time);
      if (first > second) break;
      lower.pop_back();
    }
    lower.push_back(p);
  }
  return lower;
}

/// Watts between two neighbouring points.
long double slope_watts(const RealPoint& a, const RealPoint& b, int time_exponent) {
  return (a.cost - b.cost) / std::ldexp(static_cast<long double>(b.time - a.time), time_exponent);
}

/// Whole slopes; points whose slopes become equal or zero are merged away.
CurveId add_curve(Curves& curves, const std::vector<RealPoint>& points, int time_exponent,
                  int power_exponent) {
  std::vector<std::int64_t> times{points.front().time};
  std::vector<std::int64_t> slopes;
  for (std::size_t k = 0; k + 1 < points.size(); ++k) {
    const long double units =
        std::ldexp(slope_watts(points[k], points[k + 1], time_exponent), -power_exponent);
    std::int64_t slope = std::llround(units);
    if (!slopes.empty()) slope = std::min(slope, slopes.back());
    if (slope <= 0) break;
    if (!slopes.empty() && slope == slopes.back()) {
      times.back() = points[k + 1].time;
      continue;
    }
    slopes.push_back(slope);
    times.push_back(points[k + 1].time);
  }
  slopes.push_back(0);
  return curves.add(times, slopes);
}

/// The longest path with every computation at its slowest option, s.
long double longest(const Problem& problem) {
  const core::Pipeline& pipeline = problem.pipeline();
  std::vector<long double> slowest(problem.option_set_count(), 0);
  for (std::uint32_t set = 0; set < slowest.size(); ++set) {
    for (const core::Option& o : problem.option_set(set)) {
      slowest[set] = std::max(slowest[set], static_cast<long double>(o.time.value()));
    }
  }
  std::vector<long double> start(problem.size(), 0);
  long double makespan = 0;
  for (const ComputationId i : pipeline.topological_order()) {
    const long double end = start[i] + slowest[problem.option_set_of(i)];
    makespan = std::max(makespan, end);
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      long double& next = start[pipeline.edges()[e].to];
      next = std::max(next, end + static_cast<long double>(problem.lag(e).value()));
    }
  }
  return makespan;
}

int exponent_of(long double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return exponent;
}

}  // namespace

CurveId Curves::add(std::span<const std::int64_t> times, std::span<const std::int64_t> slopes) {
  time_.insert(time_.end(), times.begin(), times.end());
  slope_.insert(slope_.end(), slopes.begin(), slopes.end());
  first_.push_back(static_cast<std::uint32_t>(time_.size()));
  return count() - 1;
}

FlowRange Curves::flow_range(CurveId c, std::int64_t x) const {
  const auto point_times = times(c);
  const auto point_slopes = slopes(c);
  const auto k = static_cast<std::size_t>(std::ranges::upper_bound(point_times, x) - point_times.begin()) - 1;
  if (point_times[k] != x) return {point_slopes[k], point_slopes[k]};
  return {point_slopes[k], k == 0 ? kFlowLimit - 1 : point_slopes[k - 1]};
}

Int128 Curves::cost(CurveId c, std::int64_t x) const {
  Int128 sum = 0;
  const auto t = times(c);
  const auto s = slopes(c);
  for (std::size_t k = 0; k + 1 < t.size(); ++k) {
    if (x < t[k + 1]) sum += Int128{s[k]} * (t[k + 1] - std::max(x, t[k]));
  }
  return sum;
}

CurveId Curves::add_coarse(const Curves& fine, CurveId c, std::uint32_t step) {
  const auto t = fine.times(c);
  const auto s = fine.slopes(c);
  std::vector<std::int64_t> times{t[0]};
  std::vector<std::int64_t> slopes;
  const std::uint32_t last = static_cast<std::uint32_t>(t.size()) - 1;
  for (std::uint32_t k = 0; k < last;) {
    const std::uint32_t next = std::min(k + step, last);
    Int128 drop = 0;
    for (std::uint32_t i = k; i < next; ++i) drop += Int128{s[i]} * (t[i + 1] - t[i]);
    std::int64_t slope = std::max<std::int64_t>(1, static_cast<std::int64_t>(drop / (t[next] - t[k])));
    if (!slopes.empty() && slope >= slopes.back()) {
      times.back() = t[next];
    } else {
      slopes.push_back(slope);
      times.push_back(t[next]);
    }
    k = next;
  }
  slopes.push_back(0);
  return add(times, slopes);
}

core::Seconds Scaled::seconds(std::int64_t ticks) const {
  return core::Seconds(std::ldexp(static_cast<double>(ticks), time_exponent));
}

core::Watts Scaled::watts(std::int64_t flow) const {
  return core::Watts(std::ldexp(static_cast<double>(flow), power_exponent));
}

core::Result<Scaled> scale(const Problem& problem) {
  Scaled scaled;
  scaled.time_exponent = std::max(exponent_of(longest(problem)) - kTimeBits, kFinestTick);

  std::vector<std::uint32_t> uses(problem.option_set_count(), 0);
  std::vector<std::uint32_t> rank(problem.option_set_count(), 0);
  for (ComputationId i = 0; i < problem.size(); ++i) {
    ++uses[problem.option_set_of(i)];
    rank[problem.option_set_of(i)] = problem.pipeline().rank_of(i);
  }
  std::vector<std::vector<RealPoint>> hulls;
  long double steepest_sum = 0;
  long double least_cost = 0;
  for (std::uint32_t set = 0; set < problem.option_set_count(); ++set) {
    hulls.push_back(hull(problem.option_set(set), problem.blocking_power(rank[set]), scaled.time_exponent));
    const auto& h = hulls.back();
    if (h.size() > 1) steepest_sum += uses[set] * slope_watts(h[0], h[1], scaled.time_exponent);
    least_cost += uses[set] * h.back().cost;
  }
  scaled.power_exponent = std::max(exponent_of(steepest_sum) - kFlowBits, kFinestPower);
  if (scaled.power_exponent > kCoarsestPower) {
    return core::fail(
        ErrorCode::kOverflow,
        fmt::format("the steepest power slopes of all computations sum to {:.3g} W; exact arithmetic "
                    "holds {:.3g} W (are two options nearly equal in time?)",
                    static_cast<double>(steepest_sum), std::ldexp(1.0, kFlowBits + kCoarsestPower)));
  }
  for (const auto& h : hulls) add_curve(scaled.curves, h, scaled.time_exponent, scaled.power_exponent);

  const auto edges = static_cast<core::EdgeId>(problem.pipeline().edges().size());
  scaled.lag.resize(edges);
  for (core::EdgeId e = 0; e < edges; ++e) scaled.lag[e] = ticks_up(problem.lag(e), scaled.time_exponent);
  const double blocking = std::ldexp(problem.total_blocking_power().value(), -scaled.power_exponent);
  scaled.total_blocking = blocking >= static_cast<double>(kFlowLimit)
                              ? kFlowLimit
                              : static_cast<std::int64_t>(std::floor(blocking));
  scaled.least_cost = core::Joules(static_cast<double>(least_cost));
  return scaled;
}

}  // namespace perseus::solver
