// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/convex_regression.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace perseus::solver::internal {
namespace {

/// A convex function of least squares is a constant plus falling hinges c_j (x_j - x)_+ with c_j >= 0, where
/// the hinge at the last x is the linear part, which may have either sign if the function may rise. Its
/// support, the hinges with c_j != 0, is found one by one.
class Regression {
 public:
  Regression(std::span<const double> x, std::span<const double> y, std::span<const double> weight,
             Slope slope)
      : x_(x),
        y_(y),
        weight_(weight),
        free_linear_(slope == Slope::kAny),
        n_(x.size()),
        hinge_(n_, 0),
        active_(n_, false) {}

  std::vector<double> solve() {
    if (free_linear_) active_[n_ - 1] = true;
    refit();
    // Each round adds a hinge and lowers the sum of squares, so no support comes twice; the limit guards
    // against rounding only, and any round's function has the shape.
    for (std::size_t round = 0; round < 4 * n_ + 16; ++round) {
      const std::size_t j = steepest();
      if (j == 0) break;
      active_[j] = true;
      refit();
    }
    return values();
  }

 private:
  /// The inactive hinge whose addition lowers the sum of squares fastest; 0 if none does beyond rounding.
  [[nodiscard]] std::size_t steepest() const {
    const std::vector<double> f = values();
    std::size_t best = 0;
    double most = 0;
    double sum = 0;     // of residual weights left of x_j
    double moment = 0;  // of the same times the distance to x_j
    double magnitude = 0;
    for (std::size_t j = 1; j < n_; ++j) {
      sum += weight_[j - 1] * (y_[j - 1] - f[j - 1]);
      magnitude += weight_[j - 1] * std::abs(y_[j - 1]);
      moment += sum * (x_[j] - x_[j - 1]);
      const double distance = x_[j] - x_[0];
      if (active_[j] || moment <= 1e-12 * magnitude * distance) continue;
      // Compared per unit of the hinge's own size.
      if (moment / distance > most) {
        most = moment / distance;
        best = j;
      }
    }
    return best;
  }

  /// Least squares over the active hinges; those that would turn negative leave on the way (Lawson and Hanson
  /// 1974).
  void refit() {
    for (;;) {
      const auto [constant, target] = unconstrained();
      double step = 1;
      std::size_t leaving = 0;
      for (std::size_t j = 1; j < n_; ++j) {
        if (!active_[j] || target[j] >= 0 || (free_linear_ && j == n_ - 1)) continue;
        const double share = hinge_[j] / (hinge_[j] - target[j]);
        if (leaving == 0 || share < step) {
          step = share;
          leaving = j;
        }
      }
      constant_ += step * (constant - constant_);
      for (std::size_t j = 1; j < n_; ++j) hinge_[j] += step * (target[j] - hinge_[j]);
      if (leaving == 0) return;
      active_[leaving] = false;
      hinge_[leaving] = 0;
    }
  }

  struct Coefficients {
    double constant = 0;
    std::vector<double> hinge;
  };

  /// Least squares over constant and active hinges, as values at the breaks: a tridiagonal system.
  [[nodiscard]] Coefficients unconstrained() const {
    std::vector<std::size_t> breaks{0};
    for (std::size_t j = 1; j < n_; ++j) {
      if (active_[j]) breaks.push_back(j);
    }
    const std::size_t m = breaks.size();
    std::vector<double> diagonal(m, 0);
    std::vector<double> beside(m, 0);
    std::vector<double> right(m, 0);
    std::size_t k = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      while (k + 1 < m && i >= breaks[k + 1]) ++k;
      // Beyond the last break the function is constant.
      const double u = k + 1 < m ? (x_[i] - x_[breaks[k]]) / (x_[breaks[k + 1]] - x_[breaks[k]]) : 0;
      diagonal[k] += weight_[i] * (1 - u) * (1 - u);
      right[k] += weight_[i] * (1 - u) * y_[i];
      if (u == 0) continue;
      diagonal[k + 1] += weight_[i] * u * u;
      beside[k] += weight_[i] * u * (1 - u);
      right[k + 1] += weight_[i] * u * y_[i];
    }
    // Every break is a point itself, so the matrix is positive definite.
    for (std::size_t j = 1; j < m; ++j) {
      const double factor = beside[j - 1] / diagonal[j - 1];
      diagonal[j] -= factor * beside[j - 1];
      right[j] -= factor * right[j - 1];
    }
    std::vector<double> value(m);
    for (std::size_t j = m; j-- > 0;) {
      value[j] = (right[j] - (j + 1 < m ? beside[j] * value[j + 1] : 0)) / diagonal[j];
    }
    Coefficients result{.constant = value.back(), .hinge = std::vector<double>(n_, 0)};
    double slope = 0;
    for (std::size_t j = m; j-- > 1;) {
      const double before = (value[j] - value[j - 1]) / (x_[breaks[j]] - x_[breaks[j - 1]]);
      result.hinge[breaks[j]] = slope - before;
      slope = before;
    }
    return result;
  }

  [[nodiscard]] std::vector<double> values() const {
    std::vector<double> f(n_);
    double value = constant_;
    double slope = 0;
    for (std::size_t i = n_; i-- > 0;) {
      if (i + 1 < n_) value -= slope * (x_[i + 1] - x_[i]);
      f[i] = value;
      slope -= hinge_[i];
    }
    return f;
  }

  std::span<const double> x_;
  std::span<const double> y_;
  std::span<const double> weight_;
  bool free_linear_;
  std::size_t n_;
  double constant_ = 0;
  std::vector<double> hinge_;
  std::vector<bool> active_;
};

bool has_shape(std::span<const double> x, std::span<const double> y, Slope slope) {
  double before = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 1; i < x.size(); ++i) {
    const double now = (y[i] - y[i - 1]) / (x[i] - x[i - 1]);
    if (now < before || (slope == Slope::kFalling && now > 0)) return false;
    before = now;
  }
  return true;
}

}  // namespace

std::vector<double> convex_regression(std::span<const double> x, std::span<const double> y,
                                      std::span<const double> weight, Slope slope) {
  if (has_shape(x, y, slope)) return {y.begin(), y.end()};
  return Regression(x, y, weight, slope).solve();
}

}  // namespace perseus::solver::internal
