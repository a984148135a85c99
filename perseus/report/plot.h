// SPDX-License-Identifier: Apache-2.0
//
// The two pictures, drawn on any canvas.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/report/canvas.h"
#include "perseus/report/report.h"

namespace perseus::report {

/// Maps [low, high] of a quantity onto [from, to] of the canvas. low < high.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  [[nodiscard]] double operator()(double value) const {
    return from + (value - low) / (high - low) * (to - from);
  }
};

/// The least and greatest of `values` widened by `margin` of their distance on both sides; never empty.
/// `values` has at least one element.
[[nodiscard]] Scale padded_scale(std::span<const double> values, double margin, double from, double to);

/// Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high], about `count` of them, with the
/// decimals that tell them apart.
struct Ticks {
  std::vector<double> values;
  int decimals = 0;
};
[[nodiscard]] Ticks ticks(double low, double high, int count);

/// "J", "kJ", "MJ" or "GJ" and its size, such that `largest` has one to three digits before the point.
struct EnergyUnit {
  std::string_view name;
  double joules = 1;
};
[[nodiscard]] EnergyUnit energy_unit(core::Joules largest);

/// Four significant digits: "28.50", "0.001234", "12346".
[[nodiscard]] std::string four_digits(double value);

/// A saving or an excess in percent with its sign: "−12.3 %". Uses U+2212 for minus.
[[nodiscard]] std::string signed_percent(double fraction);

/// Says what the picture is about, in one line.
[[nodiscard]] std::string subtitle(const ReportInputs& inputs);

[[nodiscard]] Size frontier_size();
void draw_frontier(Canvas& canvas, const ReportInputs& inputs);

[[nodiscard]] Size timeline_size(const ReportInputs& inputs);
/// `point` is a valid index.
void draw_timeline(Canvas& canvas, const ReportInputs& inputs, std::size_t point, ColorBy color_by);

}  // namespace perseus::report
