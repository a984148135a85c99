// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "perseus/solver/convex_regression.h"

namespace perseus::solver {
namespace {

using core::ErrorCode;
using core::fail;
using core::Joules;
using core::Option;
using core::Seconds;

/// Neighbouring clocks' times differ by at least this share: far below what a measurement tells apart
/// (assumed).
constexpr double kLeastStep = 1e-7;

/// Sums up residuals.
struct Tally {
  double squares = 0;
  double most = 0;
  std::size_t count = 0;

  void add(double measured, double fitted) {
    const double r = fitted != 0 ? measured / fitted - 1 : 0;
    squares += r * r;
    most = std::max(most, std::abs(r));
    ++count;
  }
  void add(const Tally& other) {
    squares += other.squares;
    most = std::max(most, other.most);
    count += other.count;
  }
  [[nodiscard]] Residual residual() const {
    return {.rms = count == 0 ? 0 : std::sqrt(squares / static_cast<double>(count)), .most = most};
  }
};

/// samples / std^2 where every option has a positive standard deviation, else samples / value^2.
template <class Value, class Deviation>
std::vector<double> weights(const std::vector<Option*>& group, Value value, Deviation deviation) {
  const bool known = std::ranges::all_of(
      group, [&](const Option* o) { return deviation(*o).has_value() && deviation(*o)->value() > 0; });
  std::vector<double> result;
  for (const Option* o : group) {
    const double scale = known ? deviation(*o)->value() : std::max(value(*o), 1e-12);
    result.push_back(o->samples / (scale * scale));
  }
  // A common factor changes nothing; without it squares of tiny deviations could overflow.
  const double largest = std::ranges::max(result);
  for (double& w : result) w = std::max(w / largest, 1e-12);
  return result;
}

/// Times of a group in the order of rising clock, strictly falling.
std::vector<double> fit_times(const std::vector<Option*>& group) {
  std::vector<double> clock;
  std::vector<double> time;
  for (const Option* o : group) {
    clock.push_back(o->clock->value());
    time.push_back(o->time.value());
  }
  const auto w = weights(
      group, [](const Option& o) { return o.time.value(); }, [](const Option& o) { return o.time_std; });
  auto fitted = internal::convex_regression(clock, time, w, internal::Slope::kFalling);
  for (std::size_t k = 0; k < fitted.size(); ++k) {
    fitted[k] = std::clamp(fitted[k], core::kMinTime.value(), core::kMaxTime.value());
    if (k > 0 && !(fitted[k] < fitted[k - 1])) fitted[k] = fitted[k - 1] * (1 - kLeastStep);
  }
  return fitted;
}

/// Energies over the fitted times, in the order of rising clock (falling time).
std::vector<double> fit_energies(const std::vector<Option*>& group, const std::vector<double>& times) {
  const std::vector<double> x(times.rbegin(), times.rend());
  std::vector<double> y;
  y.reserve(group.size());
  for (const Option* o : group) y.push_back(o->energy.value());
  auto w = weights(
      group, [](const Option& o) { return o.energy.value(); }, [](const Option& o) { return o.energy_std; });
  std::ranges::reverse(y);
  std::ranges::reverse(w);
  auto fitted = internal::convex_regression(x, y, w, internal::Slope::kAny);
  std::ranges::reverse(fitted);
  // The maximum of a convex function and 0 is convex.
  for (double& e : fitted) e = std::clamp(e, 0.0, core::kMaxEnergy.value());
  return fitted;
}

/// Fits the options in place; they have one key, one set of knobs and a clock each.
void fit_group(std::vector<Option*>& group, Tally& time, Tally& energy) {
  const auto times = fit_times(group);
  const auto energies = fit_energies(group, times);
  for (std::size_t k = 0; k < group.size(); ++k) {
    time.add(group[k]->time.value(), times[k]);
    energy.add(group[k]->energy.value(), energies[k]);
    group[k]->time = Seconds(times[k]);
    group[k]->energy = Joules(energies[k]);
  }
}

core::Status fit_entry(core::ProfileEntry& entry, FitReport& report, Tally& all_times, Tally& all_energies) {
  std::map<std::vector<std::string>, std::vector<Option*>> groups;
  for (Option& o : entry.options) {
    if (o.clock) groups[o.knobs].push_back(&o);
  }
  for (auto& [knobs, group] : groups) {
    std::ranges::sort(group, {}, [](const Option* o) { return *o->clock; });
    for (std::size_t k = 1; k < group.size(); ++k) {
      if (group[k]->clock != group[k - 1]->clock) continue;
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format(
              "stage {}, instruction {}: clock {} MHz stands twice with the same knobs; a fit needs one "
              "value per clock",
              entry.stage, entry.instruction, group[k]->clock->value()));
    }
    Tally time;
    Tally energy;
    fit_group(group, time, energy);
    all_times.add(time);
    all_energies.add(energy);
    report.groups.push_back({.stage = entry.stage,
                             .instruction = entry.instruction,
                             .stage_b = entry.stage_b,
                             .knobs = knobs,
                             .options = static_cast<std::uint32_t>(group.size()),
                             .time = time.residual(),
                             .energy = energy.residual()});
  }
  // Options of different knobs stand together by clock: their order follows the fitted times.
  std::ranges::sort(entry.options, [](const Option& a, const Option& b) {
    if (a.clock != b.clock) return a.clock > b.clock;
    return std::tie(a.time, a.energy, a.knobs) < std::tie(b.time, b.energy, b.knobs);
  });
  return {};
}

}  // namespace

core::Result<FitReport> fit_convex(const core::Profile& profile) {
  FitReport report{.profile = profile, .groups = {}, .time = {}, .energy = {}};
  Tally time;
  Tally energy;
  for (core::ProfileEntry& entry : report.profile.entries) {
    PERSEUS_RETURN_IF_ERROR(fit_entry(entry, report, time, energy));
  }
  report.time = time.residual();
  report.energy = energy.residual();
  return report;
}

core::Result<FittedProblem> fit_convex(const core::Problem& problem) {
  PERSEUS_ASSIGN_OR_RETURN(FitReport report, fit_convex(problem.profile()));
  core::ProblemInputs inputs = problem.inputs();
  inputs.profile = report.profile;
  PERSEUS_ASSIGN_OR_RETURN(core::Problem fitted, core::Problem::build(problem.pipeline(), std::move(inputs)));
  return FittedProblem{std::move(fitted), std::move(report)};
}

std::string default_fit(const core::Profile& profile) {
  for (const core::ProfileEntry& entry : profile.entries) {
    const auto scatters = [](const core::Option& o) { return o.samples > 1 || o.time_std || o.energy_std; };
    if (std::ranges::any_of(entry.options, scatters)) return "convex";
  }
  return "none";
}

}  // namespace perseus::solver
