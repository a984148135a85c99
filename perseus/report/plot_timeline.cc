// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "perseus/report/inputs.h"
#include "perseus/report/plot.h"
#include "perseus/report/timing.h"

namespace perseus::report {
namespace {

using core::ComputationId;

constexpr double kWidth = 1200;
constexpr double kLeft = 76;
constexpr double kRight = 32;
constexpr double kHeader = 104;
constexpr double kPanelTitle = 26;
constexpr double kPanelGap = 22;
constexpr double kFooter = 62;
constexpr double kCriticalHeight = 2.5;
constexpr int kColors = 64;  // steps of the ramp; blocks of one step are one path

double row_height(std::uint32_t ranks) {
  return std::clamp(400.0 / ranks, 5.0, 28.0);
}

/// How tall a block stands in its row, so that kinds are told apart without colour.
double share_of_row(core::Kind kind) {
  switch (kind) {
    case core::Kind::kForward:
      return 0.66;
    case core::Kind::kBackwardInput:
      return 0.84;
    case core::Kind::kBackwardWeight:
    case core::Kind::kRecompute:
    case core::Kind::kOther:
      return 0.5;
    case core::Kind::kBackward:
    case core::Kind::kForwardBackward:
      return 1;
  }
  return 1;
}

std::string_view kind_name(core::Kind kind) {
  switch (kind) {
    case core::Kind::kForward:
      return "forward";
    case core::Kind::kBackward:
      return "backward";
    case core::Kind::kBackwardInput:
      return "input gradient";
    case core::Kind::kBackwardWeight:
      return "weight gradient";
    case core::Kind::kForwardBackward:
      return "forward and backward";
    case core::Kind::kRecompute:
      return "recomputation";
    case core::Kind::kOther:
      return "other";
  }
  return "other";
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double v) { low = std::min(low, v), high = std::max(high, v); }
  [[nodiscard]] double position(double v) const { return high > low ? (v - low) / (high - low) : 1; }
};

std::optional<double> shade(const core::Option& option, ColorBy color_by) {
  if (option.time == core::Seconds(0)) return std::nullopt;
  if (color_by == ColorBy::kPower) return power(option).value();
  if (!option.clock) return std::nullopt;
  return option.clock->value();
}

class TimelinePlot {
 public:
  TimelinePlot(Canvas& canvas, const ReportInputs& inputs, std::size_t point, ColorBy color_by)
      : canvas_(canvas),
        inputs_(inputs),
        problem_(inputs.problem),
        plan_(inputs.points[point].plan),
        color_by_(color_by),
        all_max_timing_(plan_timing(problem_, inputs.all_max)),
        plan_timing_(plan_timing(problem_, plan_.choice)),
        row_(row_height(ranks())),
        time_{0, std::max({all_max_timing_.makespan, plan_timing_.makespan}).value(), kLeft,
              kWidth - kRight} {
    if (!(time_.high > 0)) time_.high = 1;
    for (ComputationId i = 0; i < problem_.size(); ++i) {
      for (const core::Choice* choice : {&inputs_.all_max, &plan_.choice}) {
        if (const auto value = shade(problem_.options(i)[(*choice)[i]], color_by_)) shades_.include(*value);
      }
    }
  }

  void draw() {
    canvas_.text({32, 44}, inputs_.title, {.size = 22, .bold = true});
    canvas_.text({32, 68}, subtitle(inputs_), {.size = 13, .color = kMuted});
    draw_legend();
    const ReportBaseline all_max = all_max_baseline(inputs_);
    const double first = kHeader;
    const double second = first + panel_height() + kPanelGap;
    draw_panel(first, "all-max", all_max.time, all_max.energy, inputs_.all_max, all_max_timing_);
    const std::string heading =
        fmt::format("Perseus, {} energy", signed_percent(plan_.energy / all_max.energy - 1));
    draw_panel(second, heading, plan_.time, plan_.energy, plan_.choice, plan_timing_);
    draw_axis(second + panel_height() + 6);
  }

 private:
  [[nodiscard]] std::uint32_t ranks() const { return problem_.pipeline().schedule().pipeline(); }
  [[nodiscard]] double panel_height() const { return kPanelTitle + row_ * ranks(); }

  void draw_legend() {
    constexpr double kLegendWidth = 160;
    if (!(shades_.high >= shades_.low)) return;
    const double x = kWidth - kRight - kLegendWidth;
    for (int k = 0; k < 40; ++k) {
      canvas_.fill_rect({x + k * kLegendWidth / 40, 34, kLegendWidth / 40 + 0.5, 10},
                        ramp(color_by_, k / 39.0));
    }
    const std::string_view unit = color_by_ == ColorBy::kClock ? "MHz" : "W";
    canvas_.text({x - 8, 44}, fmt::format("{:.0f}", shades_.low),
                 {.size = 12, .color = kMuted, .anchor = Anchor::kEnd});
    canvas_.text({x + kLegendWidth, 62}, fmt::format("{:.0f} {}", shades_.high, unit),
                 {.size = 12, .color = kMuted, .anchor = Anchor::kEnd});
  }

  void draw_panel(double top, std::string_view heading, core::Seconds time, core::Joules energy,
                  const core::Choice& choice, const PlanTiming& timing) {
    const EnergyUnit unit = energy_unit(energy);
    canvas_.text({32, top + 12}, heading, {.size = 14, .bold = true});
    canvas_.text({kWidth - kRight, top + 12},
                 fmt::format("{} s, {} {} ({})", four_digits(time.value()),
                             four_digits(energy.value() / unit.joules), unit.name, name(inputs_.evidence)),
                 {.size = 13, .color = kMuted, .anchor = Anchor::kEnd});
    const double rows = top + kPanelTitle;
    const double width = time_(timing.makespan.value()) - kLeft;
    const double gap = row_ > 10 ? 2 : 1;
    const auto label_every = static_cast<std::uint32_t>(std::ceil(14 / row_));
    for (std::uint32_t r = 0; r < ranks(); ++r) {
      canvas_.fill_rect({kLeft, rows + r * row_, width, row_ - gap}, kIdle);
      if (r % label_every != 0) continue;
      canvas_.text({kLeft - 10, rows + r * row_ + row_ / 2 + 4}, fmt::format("rank {}", r),
                   {.size = 12, .color = kMuted, .anchor = Anchor::kEnd});
    }
    draw_blocks(rows, row_ - gap, choice, timing);
  }

  void draw_blocks(double rows, double height, const core::Choice& choice, const PlanTiming& timing) {
    std::map<int, std::vector<Rect>> by_color;
    std::vector<Rect> critical;
    const core::Pipeline& pipeline = problem_.pipeline();
    for (ComputationId i = 0; i < problem_.size(); ++i) {
      const core::Option& option = problem_.options(i)[choice[i]];
      if (option.time == core::Seconds(0)) continue;
      const double x = time_(timing.start[i].value());
      const double width = time_((timing.start[i] + option.time).value()) - x;
      const double bottom = rows + pipeline.rank_of(i) * row_ + height;
      const double tall = height * share_of_row(pipeline.computation(i).kind);
      const auto value = shade(option, color_by_);
      const int step = value ? static_cast<int>(std::lround(shades_.position(*value) * (kColors - 1))) : -1;
      // A hair's breadth between neighbours, where there is room for it.
      by_color[step].push_back({x, bottom - tall, width > 3 ? width - 0.6 : width, tall});
      if (timing.critical[i]) critical.push_back({x, bottom - kCriticalHeight, width, kCriticalHeight});
    }
    for (const auto& [step, rects] : by_color) {
      canvas_.fill_rects(rects, step < 0 ? kBound : ramp(color_by_, step / (kColors - 1.0)));
    }
    canvas_.fill_rects(critical, kInk);
  }

  /// "blocks from low to tall: forward, backward; " as far as the pipeline has several kinds.
  [[nodiscard]] std::string heights() const {
    std::vector<core::Kind> kinds;
    for (ComputationId i = 0; i < problem_.size(); ++i) {
      const core::Kind kind = problem_.pipeline().computation(i).kind;
      if (std::ranges::find(kinds, kind) != kinds.end()) continue;
      kinds.insert(std::ranges::upper_bound(kinds, share_of_row(kind), {}, share_of_row), kind);
    }
    if (kinds.size() < 2) return {};
    std::string text;
    for (const core::Kind kind : kinds)
      text += fmt::format("{}{}", text.empty() ? "" : ", ", kind_name(kind));
    return "blocks from low to tall: " + text + "; ";
  }

  void draw_axis(double y) {
    const Ticks marks = ticks(0, time_.high, 8);
    for (const double v : marks.values) {
      canvas_.line({time_(v), y}, {time_(v), y + 5}, {.color = kMuted});
      canvas_.text({time_(v), y + 21}, fmt::format("{:.{}f}{}", v, marks.decimals, v == 0 ? " s" : ""),
                   {.size = 12, .color = kMuted, .anchor = Anchor::kMiddle});
    }
    canvas_.fill_rect({kLeft, y + 36, 22, kCriticalHeight}, kInk);
    canvas_.text({kLeft + 30, y + 41}, "critical path; " + heights() + "grey is waiting",
                 {.size = 12, .color = kMuted});
  }

  Canvas& canvas_;
  const ReportInputs& inputs_;
  const core::Problem& problem_;
  const core::Plan& plan_;
  const ColorBy color_by_;
  const PlanTiming all_max_timing_;
  const PlanTiming plan_timing_;
  const double row_;
  Scale time_;
  Range shades_;
};

}  // namespace

Size timeline_size(const ReportInputs& inputs) {
  const std::uint32_t ranks = inputs.problem.pipeline().schedule().pipeline();
  return {kWidth, kHeader + 2 * (kPanelTitle + row_height(ranks) * ranks) + kPanelGap + kFooter};
}

void draw_timeline(Canvas& canvas, const ReportInputs& inputs, std::size_t point, ColorBy color_by) {
  TimelinePlot(canvas, inputs, point, color_by).draw();
}

}  // namespace perseus::report
