// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/energy_fit.h"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "perseus/core/profile.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using core::Watts;
using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

/// What an interval is never known better than: a share of its mean energy. Counters tell whole millijoules,
/// and the moment of an update is seen within some milliseconds of 100. Assumed; it keeps a perfect fit of
/// few equations from claiming perfect trust.
constexpr double kLeastDeviation = 1e-4;

/// Place of (row, column) with row <= column in an upper triangle of n rows.
std::size_t upper(std::size_t n, std::size_t row, std::size_t column) {
  return row * n - row * (row + 1) / 2 + column;
}

double product(const EnergySums& sums, std::size_t i, std::size_t j) {
  return sums.xtx[upper(sums.columns.size(), std::min(i, j), std::max(i, j))];
}

/// Normal equations over all unknowns of a rank.
struct Equations {
  std::vector<EnergyFit::Unknown> unknowns;
  std::vector<std::vector<Eigen::Index>> place;  ///< per setting: unknown of each of its columns
  Matrix a;
  Vector b;
  double yty = 0;
  double intervals = 0;
  double joules = 0;
};

Equations assemble(std::span<const EnergySums> settings) {
  Equations out;
  std::map<std::pair<EnergyColumn, std::uint32_t>, Eigen::Index> known;
  for (std::uint32_t s = 0; s < settings.size(); ++s) {
    auto& place = out.place.emplace_back();
    for (const EnergyColumn& column : settings[s].columns) {
      const std::uint32_t setting = column.idle ? s : 0;
      const auto [at, fresh] =
          known.try_emplace({column, setting}, static_cast<Eigen::Index>(out.unknowns.size()));
      if (fresh) out.unknowns.push_back({column, setting, {}, {}});
      place.push_back(at->second);
    }
  }
  const auto n = static_cast<Eigen::Index>(out.unknowns.size());
  out.a = Matrix::Zero(n, n);
  out.b = Vector::Zero(n);
  for (std::size_t s = 0; s < settings.size(); ++s) {
    const EnergySums& sums = settings[s];
    const auto& place = out.place[s];
    for (std::size_t i = 0; i < place.size(); ++i) {
      out.b(place[i]) += sums.xty[i];
      for (std::size_t j = 0; j < place.size(); ++j) out.a(place[i], place[j]) += product(sums, i, j);
    }
    out.yty += sums.yty;
    out.intervals += sums.intervals;
    out.joules += sums.joules.value();
  }
  return out;
}

/// Largest over least eigenvalue of a setting's equations with columns scaled to equal length.
double condition_of(const EnergySums& sums) {
  const auto n = static_cast<Eigen::Index>(sums.columns.size());
  if (n == 0) return std::numeric_limits<double>::infinity();
  Matrix scaled(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j < n; ++j) {
      const auto at = [&](Eigen::Index r, Eigen::Index c) {
        return product(sums, static_cast<std::size_t>(r), static_cast<std::size_t>(c));
      };
      const double length = std::sqrt(at(i, i) * at(j, j));
      if (length == 0) return std::numeric_limits<double>::infinity();
      scaled(i, j) = at(i, j) / length;
    }
  }
  const Vector values = Eigen::SelfAdjointEigenSolver<Matrix>(scaled, Eigen::EigenvaluesOnly).eigenvalues();
  const double least = values.minCoeff();
  // Rounding leaves a singular matrix eigenvalues of either sign.
  return least <= 0 ? std::numeric_limits<double>::infinity() : values.maxCoeff() / least;
}

double residual_squares(const Equations& e, const Vector& x) {
  return std::max(0.0, e.yty - 2 * e.b.dot(x) + x.dot(e.a * x));
}

struct Prior {
  Vector mean;
  Vector deviation;
};

/// All computations of a clock as one unknown, all waiting as another: this much is told even by whole
/// iterations, since settings differ in the share that is waited.
Prior prior_of(const Equations& e, std::span<const EnergySums> settings) {
  double seconds = 0;
  for (const EnergySums& sums : settings) seconds += sums.seconds.value();
  const double mean_power = seconds > 0 ? e.joules / seconds : 0;
  std::map<core::Megahertz, Eigen::Index> group;
  std::vector<Eigen::Index> group_of;
  for (const auto& unknown : e.unknowns) {
    const core::Megahertz clock = unknown.column.idle ? core::Megahertz(0) : unknown.column.clock;
    group_of.push_back(group.try_emplace(clock, static_cast<Eigen::Index>(group.size())).first->second);
  }
  const auto m = static_cast<Eigen::Index>(group.size());
  Matrix a = Matrix::Zero(m, m);
  Vector b = Vector::Zero(m);
  for (std::size_t i = 0; i < group_of.size(); ++i) {
    b(group_of[i]) += e.b(static_cast<Eigen::Index>(i));
    for (std::size_t j = 0; j < group_of.size(); ++j) {
      a(group_of[i], group_of[j]) += e.a(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
    }
  }
  // A pull towards the mean power that only decides what the data leave open.
  constexpr double kPull = 1e-6;
  for (Eigen::Index i = 0; i < m; ++i) {
    const double weight = std::max(kPull * a(i, i), std::numeric_limits<double>::min());
    const bool idle =
        !group.empty() && group.begin()->first == core::Megahertz(0) && group.begin()->second == i;
    a(i, i) += weight;
    b(i) += weight * mean_power * (idle ? kPriorBlocking : 1);
  }
  const Vector powers = a.ldlt().solve(b);
  const auto n = static_cast<Eigen::Index>(e.unknowns.size());
  Prior out{Vector(n), Vector(n)};
  for (Eigen::Index i = 0; i < n; ++i) {
    const bool idle = e.unknowns[static_cast<std::size_t>(i)].column.idle;
    const double power = powers(group_of[static_cast<std::size_t>(i)]);
    // A negative one would say nothing but that the data are poor.
    out.mean(i) = power > 0 ? power : mean_power * (idle ? kPriorBlocking : 1);
    out.deviation(i) = idle ? std::max(out.mean(i), kPriorBlocking * mean_power) * 2 * kPriorSpread
                            : kPriorSpread * std::max(out.mean(i), mean_power);
  }
  return out;
}

core::Status check_sums(const EnergySums& sums) {
  const std::size_t n = sums.columns.size();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) {
      const double cross = product(sums, i, j);
      // Cauchy and Schwarz, with room for rounding.
      if (cross * cross <= product(sums, i, i) * product(sums, j, j) * (1 + 1e-9)) continue;
      return fail(ErrorCode::kInvalidInput, fmt::format("no intervals have the sums of columns {} and {}",
                                                        to_text(sums.columns[i]), to_text(sums.columns[j])));
    }
  }
  return {};
}

core::Status check_powers(const EnergyFit& fit) {
  for (const auto& unknown : fit.unknowns) {
    const double power = unknown.power.value();
    if (std::isfinite(power) && power >= 0 && power <= core::kMaxPower.value()) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the power of {} comes out as {:.3g} W (standard error {:.3g} W)",
                            to_text(unknown.column), power, unknown.std_error.value()));
  }
  return {};
}

}  // namespace

void accumulate(EnergySums& into, const EnergySums& more) {
  std::vector<EnergyColumn> columns = into.columns;
  for (const EnergyColumn& column : more.columns) {
    if (std::ranges::find(columns, column) == columns.end()) columns.push_back(column);
  }
  const std::size_t n = columns.size();
  EnergySums out{.intervals = into.intervals + more.intervals,
                 .seconds = into.seconds + more.seconds,
                 .joules = into.joules + more.joules,
                 .columns = std::move(columns),
                 .xtx = std::vector<double>(n * (n + 1) / 2, 0),
                 .xty = std::vector<double>(n, 0),
                 .yty = into.yty + more.yty};
  for (const EnergySums* part : {static_cast<const EnergySums*>(&into), &more}) {
    std::vector<std::size_t> place;
    for (const EnergyColumn& column : part->columns) {
      place.push_back(static_cast<std::size_t>(std::ranges::find(out.columns, column) - out.columns.begin()));
    }
    for (std::size_t i = 0; i < place.size(); ++i) {
      out.xty[place[i]] += part->xty[i];
      for (std::size_t j = i; j < place.size(); ++j) {
        const auto [low, high] = std::minmax(place[i], place[j]);
        out.xtx[upper(n, low, high)] += product(*part, i, j);
      }
    }
  }
  into = std::move(out);
}

const EnergyFit::Unknown* EnergyFit::find(const EnergyColumn& column) const {
  const auto found = std::ranges::find(unknowns, column, &Unknown::column);
  return found == unknowns.end() ? nullptr : &*found;
}

const EnergyFit::Unknown* EnergyFit::idle(std::uint32_t setting) const {
  const auto found =
      std::ranges::find_if(unknowns, [&](const Unknown& u) { return u.column.idle && u.setting == setting; });
  return found == unknowns.end() ? nullptr : &*found;
}

core::Joules EnergyFit::std_error(std::span<const std::pair<const Unknown*, core::Seconds>> sum) const {
  const std::size_t n = unknowns.size();
  double variance = 0;
  for (const auto& [left, left_time] : sum) {
    for (const auto& [right, right_time] : sum) {
      const auto row = static_cast<std::size_t>(left - unknowns.data());
      const auto column = static_cast<std::size_t>(right - unknowns.data());
      variance += left_time.value() * right_time.value() * covariance[row * n + column];
    }
  }
  return core::Joules(std::sqrt(std::max(0.0, variance)));
}

core::Result<EnergyFit> fit_powers(std::span<const EnergySums> settings) {
  for (const EnergySums& sums : settings) PERSEUS_RETURN_IF_ERROR(check_sums(sums));
  Equations e = assemble(settings);
  const auto n = static_cast<Eigen::Index>(e.unknowns.size());
  if (n == 0 || e.intervals <= static_cast<double>(n)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} intervals of the energy counter for {} unknown powers", e.intervals, n));
  }
  const Prior prior = prior_of(e, settings);
  const double least = std::pow(kLeastDeviation * e.joules / e.intervals, 2);
  const double freedom = e.intervals - static_cast<double>(n);
  Matrix inverse;
  Vector x;
  double variance = least;
  // First with next to no prior, to learn how far equations scatter; then with the prior weighed against
  // that.
  for (int pass = 0; pass < 2; ++pass) {
    const Vector weight = variance * prior.deviation.cwiseAbs2().cwiseMax(1e-30).cwiseInverse();
    Matrix a = e.a;
    a.diagonal() += weight;
    const Eigen::LDLT<Matrix> solved(a);
    if (solved.info() != Eigen::Success || !solved.isPositive()) {
      return fail(ErrorCode::kInvalidInput, "no intervals have the sums that were reported");
    }
    x = solved.solve(e.b + weight.cwiseProduct(prior.mean));
    variance = std::max(least, residual_squares(e, x) / freedom);
    if (pass == 1) inverse = solved.solve(Matrix::Identity(n, n));
  }
  EnergyFit out{.unknowns = std::move(e.unknowns),
                .covariance = {},
                .condition = {},
                .intervals = static_cast<std::uint64_t>(e.intervals),
                .interval_std = core::Joules(std::sqrt(variance))};
  const Matrix covariance = variance * inverse;
  for (Eigen::Index i = 0; i < n; ++i) {
    auto& unknown = out.unknowns[static_cast<std::size_t>(i)];
    unknown.power = Watts(x(i));
    unknown.std_error = Watts(std::sqrt(std::max(0.0, covariance(i, i))));
    for (Eigen::Index j = 0; j < n; ++j) out.covariance.push_back(covariance(i, j));
  }
  for (const EnergySums& sums : settings) out.condition.push_back(condition_of(sums));
  PERSEUS_RETURN_IF_ERROR(check_powers(out));
  return out;
}

}  // namespace perseus::server
