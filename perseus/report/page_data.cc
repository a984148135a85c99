// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/page_data.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>

#include "perseus/report/inputs.h"
#include "perseus/report/json_out.h"
#include "perseus/report/palette.h"

namespace perseus::report {
namespace {

using core::ComputationId;

/// Computations that are alike in everything but their microbatch.
struct Class {
  ComputationId example = 0;
  std::vector<std::uint32_t> used;  ///< options that some embedded plan uses, rising
};

struct Classes {
  std::vector<Class> list;
  std::vector<std::uint32_t> of;  ///< per computation
};

Classes classify(const core::Problem& problem) {
  using Key = std::tuple<std::uint32_t, core::Kind, std::uint32_t, std::uint32_t, std::uint32_t>;
  std::map<Key, std::uint32_t> known;
  Classes classes;
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const core::Computation& c = problem.pipeline().computation(i);
    const Key key{problem.option_set_of(i), c.kind, c.stage, c.stage_b, c.instruction};
    const auto [it, is_new] = known.emplace(key, static_cast<std::uint32_t>(classes.list.size()));
    if (is_new) classes.list.push_back({.example = i, .used = {}});
    classes.of.push_back(it->second);
  }
  return classes;
}

/// Unsigned numbers as base64 of the narrowest little-endian width that holds them all.
void write_packed(JsonOut& out, std::span<const std::uint32_t> values) {
  const std::uint32_t most = values.empty() ? 0 : std::ranges::max(values);
  const unsigned width = most < 1U << 8 ? 1 : most < 1U << 16 ? 2 : 4;
  std::vector<std::uint8_t> bytes;
  bytes.reserve(values.size() * width);
  for (const std::uint32_t value : values) {
    for (unsigned k = 0; k < width; ++k) bytes.push_back(static_cast<std::uint8_t>(value >> 8 * k & 0xFFU));
  }
  out.begin_object().key("bytes").number(width).key("data").text(base64(bytes)).end_object();
}

class DataWriter {
 public:
  explicit DataWriter(const ReportInputs& inputs)
      : inputs_(inputs),
        problem_(inputs.problem),
        with_plan_(points_with_plans(inputs.points.size(), problem_.size())),
        straggler_with_plan_(inputs.straggler_points.empty()
                                 ? std::vector<std::size_t>()
                                 : points_with_plans(inputs.straggler_points.size(), problem_.size())),
        has_timeline_(problem_.size() <= kMaxTimelineComputations) {}

  std::string write() {
    out_.begin_object().key("format").text("perseus-report/1");
    write_texts();
    write_inputs();
    write_numbers();
    write_points("points", inputs_.points);
    write_points("straggler_points", inputs_.straggler_points);
    write_palette();
    if (has_timeline_) write_pipeline();
    out_.end_object();
    return out_.take();
  }

 private:
  void write_texts() {
    out_.key("title").text(inputs_.title).key("profile").text(inputs_.profile_name);
    out_.key("provenance").text(inputs_.provenance).key("evidence").text(name(inputs_.evidence));
    out_.key("fit").text(inputs_.fit).key("schedule").text(problem_.pipeline().schedule().name);
    out_.key("facts").begin_array();
    for (const Fact& fact : inputs_.facts) out_.begin_array().text(fact.name).text(fact.value).end_array();
    out_.end_array().key("warnings").begin_array();
    for (const core::Warning& warning : inputs_.warnings) out_.text(warning.text());
    out_.end_array();
  }

  void write_inputs() {
    const core::Schedule& schedule = problem_.pipeline().schedule();
    out_.key("pipeline").number(schedule.pipeline()).key("virtual_stages").number(schedule.virtual_stages);
    out_.key("microbatches").number(schedule.microbatches);
    out_.key("tensor").number(problem_.parallel().tensor).key("data").number(problem_.parallel().data);
    out_.key("computations")
        .number(problem_.size())
        .key("p2p_lag_s")
        .number(problem_.inputs().p2p_lag.value());
    out_.key("blocking_power_w").begin_array();
    for (const core::Watts power : problem_.inputs().blocking_power) out_.number(power.value());
    out_.end_array();
  }

  void write_numbers() {
    out_.key("t_min_s").number(inputs_.t_min.value()).key("t_star_s").number(inputs_.t_star.value());
    out_.key("t_max_s").number(inputs_.t_max.value());
    if (inputs_.solver_time) out_.key("solver_s").number(inputs_.solver_time->value());
    if (inputs_.breakpoints) out_.key("breakpoints").number(*inputs_.breakpoints);
    out_.key("baselines").begin_array();
    write_baseline(all_max_baseline(inputs_));
    for (const ReportBaseline& baseline : inputs_.baselines) write_baseline(baseline);
    out_.end_array().key("curve").begin_array();
    for (const CurveSample& sample : inputs_.curve) {
      out_.begin_array().number(sample.target.value()).number(sample.lower_bound.value()).end_array();
    }
    out_.end_array();
  }

  void write_baseline(const ReportBaseline& baseline) {
    out_.begin_object().key("name").text(baseline.name).key("time_s").number(baseline.time.value());
    out_.key("energy_j").number(baseline.energy.value()).end_object();
  }

  void write_points(std::string_view list, const std::vector<ReportPoint>& points) {
    out_.key(list).begin_array();
    for (const ReportPoint& point : points) {
      const core::Plan& plan = point.plan;
      out_.begin_object().key("target_time_s").number(plan.target_time.value());
      out_.key("time_s").number(plan.time.value()).key("energy_j").number(plan.energy.value());
      if (plan.sync_time) out_.key("sync_time_s").number(plan.sync_time->value());
      out_.key("lower_bound_j").number(plan.lower_bound.value()).key("gap").number(plan.gap);
      out_.key("marginal_w").number(point.marginal.value()).end_object();
    }
    out_.end_array();
  }

  void write_palette() {
    const auto write_ramp = [&](std::string_view key, ColorBy color_by) {
      out_.key(key).begin_array();
      for (const Color color : ramp_stops(color_by)) out_.text(hex(color));
      out_.end_array();
    };
    out_.key("ramps").begin_object();
    write_ramp("clock", ColorBy::kClock);
    write_ramp("power", ColorBy::kPower);
    out_.end_object();
  }

  // Everything that the page needs to draw plans and to time them itself.
  void write_pipeline() {
    const core::Pipeline& pipeline = problem_.pipeline();
    classes_ = classify(problem_);
    collect_used_options();
    out_.key("dag").begin_object().key("first_of_rank").begin_array();
    for (std::uint32_t r = 0; r <= pipeline.schedule().pipeline(); ++r)
      out_.number(pipeline.first_of_rank(r));
    out_.end_array();
    write_classes();
    out_.key("class_of");
    write_packed(out_, classes_.of);
    write_microbatches();
    write_edges();
    out_.end_object().key("plans").begin_object().key("all_max");
    write_choice(inputs_.all_max);
    write_plans("points", inputs_.points, with_plan_);
    write_plans("straggler_points", inputs_.straggler_points, straggler_with_plan_);
    out_.end_object();
  }

  void collect_used_options() {
    std::vector<std::vector<bool>> is_used;
    is_used.reserve(classes_.list.size());
    for (const Class& c : classes_.list) is_used.emplace_back(problem_.options(c.example).size());
    const auto mark = [&](const core::Choice& choice) {
      for (ComputationId i = 0; i < problem_.size(); ++i) is_used[classes_.of[i]][choice[i]] = true;
    };
    mark(inputs_.all_max);
    for (const std::size_t p : with_plan_) mark(inputs_.points[p].plan.choice);
    for (const std::size_t p : straggler_with_plan_) mark(inputs_.straggler_points[p].plan.choice);
    for (std::size_t c = 0; c < is_used.size(); ++c) {
      for (std::uint32_t k = 0; k < is_used[c].size(); ++k) {
        if (is_used[c][k]) classes_.list[c].used.push_back(k);
      }
    }
  }

  void write_classes() {
    const core::Schedule& schedule = problem_.pipeline().schedule();
    out_.key("classes").begin_array();
    for (const Class& c : classes_.list) {
      const core::Computation& computation = problem_.pipeline().computation(c.example);
      const auto options = problem_.options(c.example);
      out_.begin_object().key("kind").text(core::letter(computation.kind));
      out_.key("instruction").text(instruction(schedule, computation)).key("stage").number(computation.stage);
      if (computation.kind == core::Kind::kForwardBackward) out_.key("stage_b").number(computation.stage_b);
      out_.key("clock_mhz").begin_array();
      for (const std::uint32_t k : c.used) {
        const auto& clock = options[k].clock;
        if (clock) {
          out_.number(clock->value());
        } else {
          out_.null();
        }
      }
      out_.end_array().key("time_s").begin_array();
      for (const std::uint32_t k : c.used) out_.number(options[k].time.value());
      out_.end_array().key("energy_j").begin_array();
      for (const std::uint32_t k : c.used) out_.number(options[k].energy.value());
      out_.end_array().end_object();
    }
    out_.end_array();
  }

  void write_microbatches() {
    std::vector<std::uint32_t> forward(problem_.size());
    std::vector<std::uint32_t> backward(problem_.size());
    for (ComputationId i = 0; i < problem_.size(); ++i) {
      forward[i] = problem_.pipeline().computation(i).microbatch;
      backward[i] = problem_.pipeline().computation(i).microbatch_b;
    }
    out_.key("microbatch");
    write_packed(out_, forward);
    if (std::ranges::all_of(backward, [](std::uint32_t m) { return m == 0; })) return;
    out_.key("microbatch_b");
    write_packed(out_, backward);
  }

  // A rank's own order follows from the ids; only the other edges are written.
  void write_edges() {
    const core::Pipeline& pipeline = problem_.pipeline();
    std::vector<std::uint32_t> from, to, lag_of;
    std::map<double, std::uint32_t> lags;
    for (core::EdgeId e = 0; e < pipeline.edges().size(); ++e) {
      const core::Edge& edge = pipeline.edges()[e];
      if (edge.to == edge.from + 1 && pipeline.rank_of(edge.from) == pipeline.rank_of(edge.to)) continue;
      from.push_back(edge.from);
      to.push_back(edge.to);
      lag_of.push_back(
          lags.emplace(problem_.lag(e).value(), static_cast<std::uint32_t>(lags.size())).first->second);
    }
    std::vector<double> lag_table(lags.size());
    for (const auto& [lag, index] : lags) lag_table[index] = lag;
    out_.key("edge_from");
    write_packed(out_, from);
    out_.key("edge_to");
    write_packed(out_, to);
    out_.key("lags_s").begin_array();
    for (const double lag : lag_table) out_.number(lag);
    out_.end_array();
    if (lag_table.size() < 2) return;
    out_.key("edge_lag");
    write_packed(out_, lag_of);
  }

  void write_choice(const core::Choice& choice) {
    std::vector<std::uint32_t> indices(choice.size());
    for (ComputationId i = 0; i < choice.size(); ++i) {
      const auto& used = classes_.list[classes_.of[i]].used;
      indices[i] = static_cast<std::uint32_t>(std::ranges::lower_bound(used, choice[i]) - used.begin());
    }
    write_packed(out_, indices);
  }

  void write_plans(std::string_view list, const std::vector<ReportPoint>& points,
                   const std::vector<std::size_t>& which) {
    out_.key(list).begin_array();
    for (const std::size_t p : which) {
      out_.begin_object().key("point").number(p).key("choice");
      write_choice(points[p].plan.choice);
      out_.end_object();
    }
    out_.end_array();
  }

  const ReportInputs& inputs_;
  const core::Problem& problem_;
  const std::vector<std::size_t> with_plan_;
  const std::vector<std::size_t> straggler_with_plan_;
  const bool has_timeline_;
  Classes classes_;
  JsonOut out_;
};

}  // namespace

std::vector<std::size_t> points_with_plans(std::size_t points, std::size_t computations, std::size_t limit) {
  const std::size_t room =
      std::clamp<std::size_t>(limit / std::max<std::size_t>(computations, 1), 2, points < 2 ? 2 : points);
  std::vector<std::size_t> chosen;
  if (points <= room) {
    for (std::size_t p = 0; p < points; ++p) chosen.push_back(p);
    return chosen;
  }
  for (std::size_t k = 0; k < room; ++k) chosen.push_back(k * (points - 1) / (room - 1));
  return chosen;
}

std::string page_data(const ReportInputs& inputs) {
  return DataWriter(inputs).write();
}

}  // namespace perseus::report
