// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/frontier_json.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

/// Writes members of JSON objects with their commas.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  void name(std::string_view name, std::string_view before = "") {
    if (!std::exchange(first_, false)) out_ += ',';
    out_ += before;
    append_json_string(out_, name);
    out_ += ':';
  }
  void number(std::string_view member, double value) {
    name(member);
    append_number(out_, value);
  }
  void count(std::string_view member, std::uint64_t value) {
    name(member);
    fmt::format_to(std::back_inserter(out_), "{}", value);
  }
  void string(std::string_view member, std::string_view value) {
    name(member);
    append_json_string(out_, value);
  }
  void close() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

/// Writes one report; one use.
class ReportWriter {
 public:
  explicit ReportWriter(const FrontierReport& report) : report_(report) {}

  std::string write() {
    ObjectWriter top(out_);
    line(top, "t_min_s", report_.t_min.value());
    line(top, "t_star_s", report_.t_star.value());
    line(top, "t_max_s", report_.t_max.value());
    top.name("all_max", kLine);
    figure(report_.all_max, false);
    top.name("points", kLine);
    points();
    top.name("baselines", kLine);
    list(report_.baselines, [this](const FrontierFigure& f) { figure(f, true); });
    top.name("solver", kLine);
    solver();
    top.name("range", kLine);
    append_json_string(out_, report_.range);
    top.name("fit", kLine);
    append_json_string(out_, report_.fit);
    top.name("origin", kLine);
    append_json_string(out_, "predicted");
    top.name("dp", kLine);
    fmt::format_to(std::back_inserter(out_), "{}", report_.data);
    if (report_.straggler) {
      top.name("straggler", kLine);
      straggler(*report_.straggler);
    }
    out_ += "\n}\n";
    return std::move(out_);
  }

 private:
  static constexpr std::string_view kLine = "\n  ";

  void line(ObjectWriter& object, std::string_view name, double value) {
    object.name(name, kLine);
    append_number(out_, value);
  }

  template <class Items, class Write>
  void list(const Items& items, Write&& write) {
    out_ += '[';
    bool first = true;
    for (const auto& item : items) {
      out_ += std::exchange(first, false) ? "\n    " : ",\n    ";
      write(item);
    }
    out_ += items.empty() ? "]" : "\n  ]";
  }

  void job_energy(ObjectWriter& object, std::string_view name, core::Joules energy) const {
    if (report_.data > 1) object.number(name, energy.value() * report_.data);
  }

  void figure(const FrontierFigure& f, bool named) {
    ObjectWriter object(out_);
    if (named) object.string("name", f.name);
    object.number("time_s", f.time.value());
    object.number("energy_j", f.energy.value());
    job_energy(object, "job_energy_j", f.energy);
    object.close();
  }

  void points() {
    if (report_.breakpoints) {
      list(*report_.breakpoints, [this](const FrontierBreakpoint& b) { breakpoint(b); });
    } else {
      list(report_.points, [this](const FrontierPoint& p) { point(p); });
    }
  }

  void point(const FrontierPoint& p) {
    ObjectWriter object(out_);
    object.number("target_time_s", p.target_time.value());
    object.number("time_s", p.time.value());
    object.number("energy_j", p.energy.value());
    object.number("lower_bound_j", p.lower_bound.value());
    object.number("gap", p.gap);
    object.number("marginal_w", p.marginal.value());
    job_energy(object, "job_energy_j", p.energy);
    job_energy(object, "job_lower_bound_j", p.lower_bound);
    object.close();
  }

  void breakpoint(const FrontierBreakpoint& b) {
    ObjectWriter object(out_);
    object.number("target_time_s", b.target_time.value());
    object.number("lower_bound_j", b.lower_bound.value());
    object.number("marginal_w", b.marginal.value());
    job_energy(object, "job_lower_bound_j", b.lower_bound);
    object.close();
  }

  void solver() {
    ObjectWriter object(out_);
    object.count("breakpoints", report_.breakpoint_count);
    object.number("seconds", report_.solver_time.value());
    object.close();
  }

  void straggler(const FrontierStraggler& s) {
    ObjectWriter object(out_);
    object.number("factor", s.factor);
    object.number("sync_time_s", s.sync_time.value());
    object.number("time_s", s.time.value());
    object.number("energy_j", s.energy.value());
    object.number("lower_bound_j", s.lower_bound.value());
    object.number("gap", s.gap);
    object.number("all_max_energy_j", s.all_max_energy.value());
    object.number("intrinsic_bloat_j", s.intrinsic_bloat.value());
    object.number("extrinsic_bloat_j", s.extrinsic_bloat.value());
    object.close();
  }

  const FrontierReport& report_;
  std::string out_;
};

/// Appends numbers as one CSV row; one that does not exist is empty.
void append_row(std::string& out, std::initializer_list<double> numbers) {
  bool first = true;
  for (const double number : numbers) {
    if (!std::exchange(first, false)) out += ',';
    const std::string text = number_text(number);
    if (text != "null") out += text;
  }
  out += '\n';
}

}  // namespace

std::string write_frontier_json(const FrontierReport& report) {
  return ReportWriter(report).write();
}

std::string write_points_csv(const FrontierReport& report) {
  std::string out;
  if (report.breakpoints) {
    out = "target_time_s,lower_bound_j,marginal_w\n";
    for (const FrontierBreakpoint& b : *report.breakpoints) {
      append_row(out, {b.target_time.value(), b.lower_bound.value(), b.marginal.value()});
    }
    return out;
  }
  out = "target_time_s,time_s,energy_j,lower_bound_j,gap,marginal_w\n";
  for (const FrontierPoint& p : report.points) {
    append_row(out, {p.target_time.value(), p.time.value(), p.energy.value(), p.lower_bound.value(), p.gap,
                     p.marginal.value()});
  }
  return out;
}

}  // namespace perseus::format
