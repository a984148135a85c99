// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "perseus/report/inputs.h"

namespace perseus::report {
namespace {

constexpr double kPngScale = 2;

template <class Draw>
core::Result<std::string> drawn(std::unique_ptr<Canvas> canvas, const Draw& draw) {
  draw(*canvas);
  return canvas->finish();
}

std::string frontier_title(const ReportInputs& inputs) {
  return fmt::format("Time-energy frontier of {}", inputs.title);
}

std::string timeline_title(const ReportInputs& inputs) {
  return fmt::format("Timeline of {}", inputs.title);
}

}  // namespace

Scale padded_scale(std::span<const double> values, double margin, double from, double to) {
  const auto [low, high] = std::ranges::minmax(values);
  double pad = margin * (high - low);
  if (!(pad > 0)) pad = std::max(1e-9, 0.05 * std::abs(high));
  return {low - pad, high + pad, from, to};
}

Ticks ticks(double low, double high, int count) {
  const double raw = (high - low) / std::max(count, 1);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double digit = raw / power;
  const double step = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
  Ticks result;
  result.decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  const double first = std::ceil(low / step - 1e-9);
  for (double k = first; k * step <= high + 1e-9 * step; ++k) result.values.push_back(k == 0 ? 0 : k * step);
  return result;
}

EnergyUnit energy_unit(core::Joules largest) {
  const double joules = std::abs(largest.value());
  if (joules >= 1e9) return {"GJ", 1e9};
  if (joules >= 1e6) return {"MJ", 1e6};
  if (joules >= 1e3) return {"kJ", 1e3};
  return {"J", 1};
}

std::string four_digits(double value) {
  return std::abs(value) >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:#.4g}", value);
}

std::string signed_percent(double fraction) {
  const std::string digits = fmt::format("{:.1f}", std::abs(100 * fraction));
  if (digits == "0.0") return "0.0 %";
  return fmt::format("{}{} %", fraction < 0 ? "\u2212" : "+", digits);
}

std::string subtitle(const ReportInputs& inputs) {
  const core::Schedule& schedule = inputs.problem.pipeline().schedule();
  const core::Parallel& parallel = inputs.problem.parallel();
  std::string degrees =
      fmt::format("{} pipeline ranks \u00d7 {} microbatches", schedule.pipeline(), schedule.microbatches);
  if (schedule.virtual_stages > 1) degrees += fmt::format(", {} stages a rank", schedule.virtual_stages);
  if (parallel.tensor > 1) degrees += fmt::format(", tensor {}", parallel.tensor);
  return fmt::format("{} \u00b7 {} \u00b7 {} \u00b7 {}", inputs.profile_name, schedule.name, degrees,
                     inputs.provenance);
}

core::Result<std::string> write_frontier_svg(const ReportInputs& inputs) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs));
  return drawn(svg_canvas(frontier_size(), frontier_title(inputs)),
               [&](Canvas& canvas) { draw_frontier(canvas, inputs); });
}

core::Result<std::string> write_frontier_png(const ReportInputs& inputs) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs));
  return drawn(png_canvas(frontier_size(), kPngScale),
               [&](Canvas& canvas) { draw_frontier(canvas, inputs); });
}

core::Result<std::string> write_timeline_svg(const ReportInputs& inputs, std::size_t point,
                                             ColorBy color_by) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs, point));
  return drawn(svg_canvas(timeline_size(inputs), timeline_title(inputs)),
               [&](Canvas& canvas) { draw_timeline(canvas, inputs, point, color_by); });
}

core::Result<std::string> write_timeline_png(const ReportInputs& inputs, std::size_t point,
                                             ColorBy color_by) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs, point));
  return drawn(png_canvas(timeline_size(inputs), kPngScale),
               [&](Canvas& canvas) { draw_timeline(canvas, inputs, point, color_by); });
}

}  // namespace perseus::report
