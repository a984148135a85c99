// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "perseus/report/inputs.h"
#include "perseus/report/plot.h"

namespace perseus::report {
namespace {

constexpr Size kSize{1200, 675};  // 16:9, as slides are
constexpr Rect kPlot{92, 132, 1060, 462};
constexpr double kLabelSize = 13;
constexpr double kBoldWidening = 1.12;      // of bold text over the usual; assumed
constexpr double kFar = 34;                 // of a label that needs a leader
constexpr int kFarPlaces = 14;              // such places above and below
constexpr Color kForbidden{244, 246, 248};  // what the bound rules out

bool overlaps(const Rect& a, const Rect& b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

bool contains(const Rect& outer, const Rect& inner) {
  return inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width &&
         inner.y + inner.height <= outer.y + outer.height;
}

/// Puts labels beside marks, each at the first place that is free.
class LabelPlacer {
 public:
  explicit LabelPlacer(Rect bounds) : bounds_(bounds) {}

  void keep_free(const Rect& box) { taken_.push_back(box); }

  struct Place {
    Point at;  ///< of the base line
    Anchor anchor = Anchor::kStart;
    bool is_far = false;  ///< needs a leader from the mark
  };

  /// Where the label of a mark goes: beside it, else further off to its right or left; nothing if all is
  /// taken.
  std::optional<Place> place(Point mark, std::string_view text, double size) {
    const double width = text_width(text, size) * kBoldWidening;
    const double height = size * 1.35;
    for (const Place& place : candidates(mark, size, height)) {
      const double shift = place.anchor == Anchor::kStart ? 0
                           : place.anchor == Anchor::kEnd ? width
                                                          : width / 2;
      const Rect box{place.at.x - shift, place.at.y - size, width, height};
      const auto hits = [&](const Rect& other) { return overlaps(box, other); };
      if (!contains(bounds_, box) || std::ranges::any_of(taken_, hits)) continue;
      if (place.is_far && !is_clear(mark, {place.at.x, box.y + height / 2})) continue;
      taken_.push_back(box);
      return place;
    }
    return std::nullopt;
  }

 private:
  static std::vector<Place> candidates(Point mark, double size, double height) {
    constexpr double kGap = 11;
    const double middle = mark.y + size - height / 2;
    std::vector<Place> places{{{mark.x + kGap, middle}, Anchor::kStart},
                              {{mark.x + kGap, mark.y - height + size - 2}, Anchor::kStart},
                              {{mark.x + kGap, mark.y + size + 2}, Anchor::kStart},
                              {{mark.x - kGap, middle}, Anchor::kEnd},
                              {{mark.x, mark.y - kGap - height + size}, Anchor::kMiddle},
                              {{mark.x, mark.y + kGap + size}, Anchor::kMiddle}};
    for (int k = 1; k <= kFarPlaces; ++k) {
      for (const double y : {middle + k * height / 2, middle - k * height / 2}) {
        places.push_back({{mark.x + kFar, y}, Anchor::kStart, true});
        places.push_back({{mark.x - kFar, y}, Anchor::kEnd, true});
      }
    }
    return places;
  }

  /// True if the line of a leader stays clear of everything but the mark that it starts from.
  [[nodiscard]] bool is_clear(Point from, Point to) const {
    constexpr int kSteps = 8;
    for (int k = 2; k < kSteps; ++k) {
      const Rect spot{std::lerp(from.x, to.x, 1.0 * k / kSteps), std::lerp(from.y, to.y, 1.0 * k / kSteps),
                      0.1, 0.1};
      if (std::ranges::any_of(taken_, [&](const Rect& other) { return overlaps(spot, other); })) return false;
    }
    return true;
  }

  Rect bounds_;
  std::vector<Rect> taken_;
};

class FrontierPlot {
 public:
  FrontierPlot(Canvas& canvas, const ReportInputs& inputs)
      : canvas_(canvas),
        inputs_(inputs),
        labels_({kPlot.x, kPlot.y, kSize.width - kPlot.x - 8, kPlot.height}) {
    baselines_.push_back(all_max_baseline(inputs));
    baselines_.insert(baselines_.end(), inputs.baselines.begin(), inputs.baselines.end());
    for (const CurveSample& s : inputs.curve) bound_.push_back({s.target.value(), s.lower_bound.value()});
    if (bound_.empty()) {
      for (const ReportPoint& p : inputs.points) {
        bound_.push_back({p.plan.target_time.value(), p.plan.lower_bound.value()});
      }
    }
    set_scales();
  }

  void draw() {
    canvas_.text({32, 48}, inputs_.title, {.size = 22, .bold = true});
    canvas_.text({32, 74}, subtitle(inputs_), {.size = kLabelSize, .color = kMuted});
    draw_bound();
    draw_axes();
    draw_time_mark(inputs_.t_min, "T_min");
    draw_time_mark(inputs_.t_star, "T*");
    draw_points();
    for (const ReportBaseline& baseline : baselines_) {
      const Point centre = at(baseline.time, baseline.energy);
      labels_.keep_free({centre.x - 5, centre.y - 5, 10, 10});
    }
    draw_saving();
    for (const ReportBaseline& baseline : baselines_) draw_baseline(baseline);
  }

 private:
  void set_scales() {
    std::vector<double> times, energies;
    for (const Point& p : bound_) times.push_back(p.x), energies.push_back(p.y);
    for (const ReportPoint& p : inputs_.points) {
      times.push_back(p.plan.time.value());
      energies.push_back(p.plan.energy.value());
    }
    for (const ReportBaseline& b : baselines_) {
      times.push_back(b.time.value());
      energies.push_back(b.energy.value());
    }
    unit_ = energy_unit(core::Joules(std::ranges::max(energies)));
    for (double& e : energies) e /= unit_.joules;
    x_ = padded_scale(times, 0.05, kPlot.x, kPlot.x + kPlot.width);
    y_ = padded_scale(energies, 0.09, kPlot.y + kPlot.height, kPlot.y);
  }

  [[nodiscard]] Point at(core::Seconds time, core::Joules energy) const {
    return {x_(time.value()), y_(energy.value() / unit_.joules)};
  }

  void draw_axes() {
    const Ticks xs = ticks(x_.low, x_.high, 8);
    const Ticks ys = ticks(y_.low, y_.high, 6);
    for (const double v : ys.values) {
      canvas_.line({kPlot.x, y_(v)}, {kPlot.x + kPlot.width, y_(v)}, {.color = kHairline});
      canvas_.text({kPlot.x - 12, y_(v) + 4}, fmt::format("{:.{}f}", v, ys.decimals),
                   {.size = kLabelSize, .color = kMuted, .anchor = Anchor::kEnd});
    }
    const double bottom = kPlot.y + kPlot.height;
    canvas_.line({kPlot.x, bottom}, {kPlot.x + kPlot.width, bottom}, {.color = kMuted});
    for (const double v : xs.values) {
      canvas_.line({x_(v), bottom}, {x_(v), bottom + 5}, {.color = kMuted});
      canvas_.text({x_(v), bottom + 22}, fmt::format("{:.{}f}", v, xs.decimals),
                   {.size = kLabelSize, .color = kMuted, .anchor = Anchor::kMiddle});
    }
    canvas_.text({32, kPlot.y - 28},
                 fmt::format("energy of one iteration, {} ({})", unit_.name, name(inputs_.evidence)),
                 {.size = kLabelSize, .color = kMuted});
    canvas_.text({kPlot.x + kPlot.width, bottom + 48},
                 fmt::format("iteration time, s ({})", name(inputs_.evidence)),
                 {.size = kLabelSize, .color = kMuted, .anchor = Anchor::kEnd});
  }

  void draw_bound() {
    std::vector<Point> line;
    line.reserve(bound_.size());
    for (const Point& p : bound_) line.push_back({x_(p.x), y_(p.y / unit_.joules)});
    std::vector<Point> area = line;
    area.push_back({line.back().x, kPlot.y + kPlot.height});
    area.push_back({line.front().x, kPlot.y + kPlot.height});
    canvas_.fill_polygon(area, kForbidden);
    canvas_.polyline(line, {.color = kBound, .width = 1.5});
    canvas_.text({line.front().x + 22, kPlot.y + kPlot.height - 18},
                 "no assignment of clocks lies below the curve: the proven bound",
                 {.size = kLabelSize, .color = kBound});
  }

  void draw_time_mark(core::Seconds time, std::string_view text) {
    const double x = x_(time.value());
    canvas_.line({x, kPlot.y}, {x, kPlot.y + kPlot.height}, {.color = kBound, .dashed = true});
    const std::string label = fmt::format("{} {} s", text, four_digits(time.value()));
    canvas_.text({x, kPlot.y - 7}, label, {.size = kLabelSize, .color = kMuted, .anchor = Anchor::kMiddle});
  }

  void draw_points() {
    for (const ReportPoint& p : inputs_.points) {
      const Point centre = at(p.plan.time, p.plan.energy);
      canvas_.disc(centre, 3.5, kAccent, {.color = kPaper});
      labels_.keep_free({centre.x - 4, centre.y - 4, 8, 8});
    }
  }

  void draw_saving() {
    const ReportBaseline& all_max = baselines_.front();
    const core::Plan& plan = inputs_.points[equal_time_point(inputs_)].plan;
    if (plan.energy >= all_max.energy || plan.time > all_max.time) return;
    const Point from = at(all_max.time, all_max.energy);
    const Point to = at(plan.time, plan.energy);
    canvas_.line({from.x, from.y + 8}, {to.x, to.y - 8}, {.color = kAccent, .width = 2});
    const std::array<Point, 3> head{{{to.x - 5, to.y - 14}, {to.x + 5, to.y - 14}, {to.x, to.y - 5}}};
    canvas_.fill_polygon(head, kAccent);
    const std::string text =
        fmt::format("{} energy at equal time", signed_percent(plan.energy / all_max.energy - 1));
    const Point middle{(from.x + to.x) / 2 + 12, (from.y + to.y) / 2 + 6};
    canvas_.text(middle, text, {.size = 18, .color = kAccent, .bold = true});
    labels_.keep_free({middle.x, middle.y - 18, text_width(text, 18), 24});
    labels_.keep_free({from.x - 4, from.y, 8, to.y - from.y});
  }

  void draw_baseline(const ReportBaseline& baseline) {
    const Point centre = at(baseline.time, baseline.energy);
    canvas_.disc(centre, 5, kBaseline, {.color = kPaper, .width = 1.5});
    const auto place = labels_.place(centre, baseline.name, kLabelSize);
    if (!place) return;
    if (place->is_far) {
      const double side = place->at.x > centre.x ? 1 : -1;
      canvas_.line({centre.x + 6 * side, centre.y}, {place->at.x - 4 * side, place->at.y - kLabelSize / 3},
                   {.color = kBaseline});
    }
    canvas_.text(place->at, baseline.name,
                 {.size = kLabelSize, .color = kBaseline, .anchor = place->anchor, .bold = true});
  }

  Canvas& canvas_;
  const ReportInputs& inputs_;
  LabelPlacer labels_;
  std::vector<ReportBaseline> baselines_;
  std::vector<Point> bound_;  ///< (s, J)
  EnergyUnit unit_;
  Scale x_, y_;
};

}  // namespace

Size frontier_size() {
  return kSize;
}

void draw_frontier(Canvas& canvas, const ReportInputs& inputs) {
  FrontierPlot(canvas, inputs).draw();
}

}  // namespace perseus::report
