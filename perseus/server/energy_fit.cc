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
/// Lengths of intervals that scatter by more than this share are not of one period. Assumed.
constexpr double kMostScatter = 0.2;
/// Settings differ in blocking power by this share, as a standard deviation: static power and what spinning
/// kernels switch change little between clocks. Assumed; data that tell more are believed.
constexpr double kIdleSpread = 0.1;

/// Place of (row, column) with row <= column in an upper triangle of n rows.
std::size_t upper(std::size_t n, std::size_t row, std::size_t column) {
  return row * n - row * (row + 1) / 2 + column;
}

double product(const EnergySums& sums, std::size_t i, std::size_t j) {
  return sums.xtx[upper(sums.columns.size(), std::min(i, j), std::max(i, j))];
}

/// A setting's XtX without what late looks at the counter add to it. All true intervals are whole periods, so
/// what their lengths scatter is how late updates were seen. Each boundary moves a little time into or out
/// of the column that runs there: on average in proportion to the column's share of the time. Left in, it
/// would pass for knowledge (regression dilution), the more the less intervals really differ.
Matrix corrected(const EnergySums& sums) {
  const std::size_t n = sums.columns.size();
  const auto size = static_cast<Eigen::Index>(n);
  Matrix a(size, size);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      a(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = product(sums, i, j);
    }
  }
  const double squares = a.sum();
  const double mean = sums.seconds.value() / sums.intervals;
  const double scatter = squares - sums.intervals * mean * mean;
  // Intervals of several lengths (a missed update) scatter for another reason.
  if (!(scatter > 0) || scatter > kMostScatter * kMostScatter * squares) return a;
  const Vector share = a.rowwise().sum() / squares;
  a.diagonal() -= scatter * share;
  Eigen::SelfAdjointEigenSolver<Matrix> solver(a);
  return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).asDiagonal() *
         solver.eigenvectors().transpose();
}

/// Largest over least eigenvalue of a setting's equations with columns scaled to equal length.
double condition_of(const Matrix& a) {
  const Vector length = a.diagonal().cwiseSqrt();
  if (a.rows() == 0 || length.minCoeff() <= 0) return std::numeric_limits<double>::infinity();
  const Vector inverse = length.cwiseInverse();
  const Matrix scaled = inverse.asDiagonal() * a * inverse.asDiagonal();
  const Vector values = Eigen::SelfAdjointEigenSolver<Matrix>(scaled, Eigen::EigenvaluesOnly).eigenvalues();
  // What is left of a singular matrix is rounding, of either sign.
  const bool singular = values.minCoeff() <= 1e-12 * values.maxCoeff();
  return singular ? std::numeric_limits<double>::infinity() : values.maxCoeff() / values.minCoeff();
}

/// Normal equations over all unknowns of a rank.
struct Equations {
  std::vector<EnergyFit::Unknown> unknowns;
  std::vector<std::vector<Eigen::Index>> place;  ///< per setting: unknown of each of its columns
  Matrix a;                                      ///< corrected
  Matrix observed;                               ///< as reported: what residuals are counted with
  Vector b;
  std::vector<double> condition;  ///< per setting
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
  out.a = out.observed = Matrix::Zero(n, n);
  out.b = Vector::Zero(n);
  for (std::size_t s = 0; s < settings.size(); ++s) {
    const EnergySums& sums = settings[s];
    const auto& place = out.place[s];
    const Matrix block = corrected(sums);
    out.condition.push_back(condition_of(block));
    for (std::size_t i = 0; i < place.size(); ++i) {
      out.b(place[i]) += sums.xty[i];
      for (std::size_t j = 0; j < place.size(); ++j) {
        out.observed(place[i], place[j]) += product(sums, i, j);
        out.a(place[i], place[j]) += block(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
      }
    }
    out.yty += sums.yty;
    out.intervals += sums.intervals;
    out.joules += sums.joules.value();
  }
  return out;
}

double residual_squares(const Equations& e, const Vector& x) {
  return std::max(0.0, e.yty - 2 * e.b.dot(x) + x.dot(e.observed * x));
}

/// What is believed before the data: normal about `mean` with inverse covariance `weight`.
struct Prior {
  Vector mean;
  Matrix weight;
};

/// All computations of a clock as one unknown, all waiting as another: this much is told even by whole
/// iterations, since settings differ in the share that is waited. Indexed by clock; 0 MHz is waiting.
std::map<core::Megahertz, double> group_powers(const Equations& e, double mean_power) {
  constexpr core::Megahertz kIdle{0};
  std::map<core::Megahertz, Eigen::Index> group;
  std::vector<Eigen::Index> group_of;
  for (const auto& unknown : e.unknowns) {
    const core::Megahertz clock = unknown.column.idle ? kIdle : unknown.column.clock;
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
  constexpr double kPull = 1e-4;
  for (const auto& [clock, i] : group) {
    const double weight = std::max(kPull * a(i, i), std::numeric_limits<double>::min());
    a(i, i) += weight;
    b(i) += weight * mean_power * (clock == kIdle ? kPriorBlocking : 1);
  }
  const Vector powers = a.ldlt().solve(b);
  std::map<core::Megahertz, double> out;
  for (const auto& [clock, i] : group) {
    // A negative one would say nothing but that the data are poor.
    out[clock] = powers(i) > 0 ? powers(i) : mean_power * (clock == kIdle ? kPriorBlocking : 1);
  }
  return out;
}

Prior prior_of(const Equations& e, std::span<const EnergySums> settings) {
  double seconds = 0;
  for (const EnergySums& sums : settings) seconds += sums.seconds.value();
  const double mean_power = seconds > 0 ? e.joules / seconds : 0;
  const auto powers = group_powers(e, mean_power);
  const auto n = static_cast<Eigen::Index>(e.unknowns.size());
  Prior out{Vector(n), Matrix::Zero(n, n)};
  Vector waits = Vector::Zero(n);
  double idle = 0;
  for (Eigen::Index i = 0; i < n; ++i) {
    const auto& column = e.unknowns[static_cast<std::size_t>(i)].column;
    out.mean(i) = powers.at(column.idle ? core::Megahertz(0) : column.clock);
    if (column.idle) {
      waits(i) = 1;
      idle = std::max(out.mean(i), kPriorBlocking * mean_power);
    } else {
      out.weight(i, i) = 1 / std::pow(std::max(kPriorSpread * std::max(out.mean(i), mean_power), 1e-9), 2);
    }
  }
  // Blocking powers scatter little about a mean of their own, of which little is known: the inverse of
  // d^2 I + m^2 1 1^T.
  const double count = waits.sum();
  if (count == 0) return out;
  const double each = std::pow(std::max(kIdleSpread * idle, 1e-9), 2);
  const double mean = std::pow(2 * kPriorSpread * std::max(idle, 1e-9), 2);
  out.weight += Matrix(waits.asDiagonal()) / each;
  out.weight -= waits * waits.transpose() * (mean / (each * (each + count * mean)));
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
    place.reserve(part->columns.size());
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

void spread(EnergyFit& joint, std::span<const EnergyFit> gpus) {
  double squares = 0;
  double count = 0;
  for (const EnergyFit& gpu : gpus) {
    for (const auto& mean : joint.unknowns) {
      const auto* own = mean.column.idle ? gpu.idle(mean.setting) : gpu.find(mean.column);
      if (own == nullptr || mean.std_error <= Watts(0)) continue;
      squares += std::pow((own->power - mean.power) / mean.std_error, 2);
      ++count;
    }
  }
  // A mean of R like parts differs from each by R - 1 times its own variance.
  const double parts = static_cast<double>(gpus.size());
  joint.inflation = gpus.size() < 2 || count == 0 ? kLoneInflation
                                                  : std::max(1.0, std::sqrt(squares / count / (parts - 1)));
  for (auto& unknown : joint.unknowns) unknown.std_error = joint.inflation * unknown.std_error;
  for (double& c : joint.covariance) c *= joint.inflation * joint.inflation;
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
    const Matrix weight = variance * prior.weight;
    const Eigen::LDLT<Matrix> solved(e.a + weight);
    if (solved.info() != Eigen::Success || !solved.isPositive()) {
      return fail(ErrorCode::kInvalidInput, "no intervals have the sums that were reported");
    }
    x = solved.solve(e.b + weight * prior.mean);
    variance = std::max(least, residual_squares(e, x) / freedom);
    if (pass == 1) inverse = solved.solve(Matrix::Identity(n, n));
  }
  EnergyFit out{.unknowns = std::move(e.unknowns),
                .covariance = {},
                .condition = std::move(e.condition),
                .intervals = static_cast<std::uint64_t>(e.intervals),
                .interval_std = core::Joules(std::sqrt(variance))};
  const Matrix covariance = variance * inverse;
  out.covariance.reserve(static_cast<std::size_t>(n * n));
  for (Eigen::Index i = 0; i < n; ++i) {
    auto& unknown = out.unknowns[static_cast<std::size_t>(i)];
    unknown.power = Watts(x(i));
    unknown.std_error = Watts(std::sqrt(std::max(0.0, covariance(i, i))));
    for (Eigen::Index j = 0; j < n; ++j) out.covariance.push_back(covariance(i, j));
  }
  PERSEUS_RETURN_IF_ERROR(check_powers(out));
  return out;
}

}  // namespace perseus::server
