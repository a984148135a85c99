// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace perseus::solver::internal {
namespace {

/// A sum of terms with a bound of its rounding error. Each term comes with a bound `size` of the magnitudes
/// that went into it and is itself the result of at most six double operations on them, so it is wrong by at
/// most 8 * 2^-53 * size. Adding n terms in long double adds at most n * epsilon * (sum of sizes).
class SafeSum {
 public:
  void add(double term, double size) {
    sum_ += term;
    size_ += size;
    ++terms_;
  }
  [[nodiscard]] long double lower() const {
    constexpr long double kTerm = 8 * 0x1p-53L;
    const long double adding =
        static_cast<long double>(terms_ + 1) * std::numeric_limits<long double>::epsilon();
    return sum_ - 2 * (kTerm + adding) * size_;
  }

 private:
  long double sum_ = 0;
  long double size_ = 0;
  std::size_t terms_ = 0;
};

/// The options of one set in columns.
struct Columns {
  std::vector<double> time;
  std::vector<double> energy;
  double most_time = 0;
  double most_energy = 0;
  // What the last price gave: in the steady state equal computations mostly carry equal flows.
  double last_price = std::numeric_limits<double>::quiet_NaN();
  double last_least = 0;
};

/// Options that no price can make the cheapest are left out: those that lie above the line between a faster
/// and a slower one by clearly more than rounding (`doubt`). Each is judged against two that are kept at that
/// moment; were one of those left out later, it would lie above the then kept ones, and so does all above it.
Columns columns(std::span<const core::Option> options) {
  std::vector<const core::Option*> sorted;
  for (const core::Option& o : options) sorted.push_back(&o);
  std::ranges::sort(sorted, [](const core::Option* a, const core::Option* b) {
    return a->time != b->time ? a->time < b->time : a->energy > b->energy;
  });
  Columns c;
  for (const core::Option* o : sorted) {
    const double t = o->time.value();
    const double e = o->energy.value();
    c.most_time = std::max(c.most_time, t);
    c.most_energy = std::max(c.most_energy, e);
    while (c.time.size() >= 2) {
      const std::size_t k = c.time.size() - 1;
      const double before = c.time[k] - c.time[k - 1];
      const double whole = t - c.time[k - 1];
      const double above = (c.energy[k] - c.energy[k - 1]) * whole - (e - c.energy[k - 1]) * before;
      const double doubt = 0x1p-48 * (c.most_energy * whole + (c.most_energy + e) * c.most_time);
      if (above <= doubt) break;
      c.time.pop_back();
      c.energy.pop_back();
    }
    c.time.push_back(t);
    c.energy.push_back(e);
  }
  return c;
}

/// min_k (energy_k + price * time_k). Four running minima, so that one need not wait for the other.
double least(Columns& c, double price) {
  if (price == c.last_price) return c.last_least;
  double low[4];
  std::ranges::fill(low, std::numeric_limits<double>::infinity());
  const std::size_t n = c.time.size();
  std::size_t k = 0;
  for (; k + 4 <= n; k += 4) {
    for (std::size_t j = 0; j < 4; ++j) low[j] = std::min(low[j], c.energy[k + j] + price * c.time[k + j]);
  }
  for (; k < n; ++k) low[0] = std::min(low[0], c.energy[k] + price * c.time[k]);
  c.last_price = price;
  return c.last_least = std::min(std::min(low[0], low[1]), std::min(low[2], low[3]));
}

/// A of the head comment.
SafeSum priced_options(const core::Problem& problem, const core::Certificate& certificate) {
  std::vector<Columns> sets;
  for (std::uint32_t s = 0; s < problem.option_set_count(); ++s)
    sets.push_back(columns(problem.option_set(s)));
  SafeSum sum;
  const double unit = std::ldexp(1.0, certificate.unit_exponent);
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    Columns& c = sets[problem.option_set_of(i)];
    const double flow = unit * static_cast<double>(certificate.computation[i]);
    const double power = problem.blocking_power(problem.pipeline().rank_of(i)).value();
    // The flow is rounded to a double and again by the subtraction: size counts its full magnitude.
    sum.add(least(c, flow - power), c.most_energy + (flow + power) * c.most_time);
  }
  for (const auto& [edge, flow] : certificate.edges) {
    const double paid = unit * static_cast<double>(flow) * problem.lag(edge).value();
    sum.add(paid, paid);
  }
  return sum;
}

/// A - F end + blocked * sum P_r, rounded down.
long double bound_at(SafeSum sum, const core::Problem& problem, const core::Certificate& certificate,
                     core::Seconds end, core::Seconds blocked) {
  const double value = std::ldexp(static_cast<double>(certificate.value), certificate.unit_exponent);
  sum.add(-value * end.value(), value * end.value());
  for (const core::Watts p : problem.inputs().blocking_power) {
    const double paid = (p * blocked).value();
    sum.add(paid, paid);
  }
  return sum.lower();
}

/// T_min rounded down.
core::Seconds earliest_end(const core::Problem& problem) {
  const auto up = core::exact_timing(problem, core::fastest_choice(problem)).makespan.ceil_seconds();
  return core::Seconds(std::nextafter(up.value(), 0.0));
}

}  // namespace

core::Joules proven_energy(const core::Problem& problem, const core::Certificate& certificate,
                           core::Seconds target, std::optional<core::Seconds> sync) {
  const SafeSum sum = priced_options(problem, certificate);
  long double bound = bound_at(sum, problem, certificate, target, sync.value_or(target));
  const double value = std::ldexp(static_cast<double>(certificate.value), certificate.unit_exponent);
  if (!sync && value <= problem.total_blocking_power().value() * (1 + 0x1p-40)) {
    const core::Seconds earliest = earliest_end(problem);
    bound = std::min(bound, bound_at(sum, problem, certificate, earliest, earliest));
  }
  if (bound <= 0) return core::Joules(0);
  const auto energy = static_cast<double>(bound * problem.parallel().tensor);
  // Two roundings, of the product and to a double.
  return core::Joules(energy * (1 - 0x1p-51));
}

}  // namespace perseus::solver::internal
