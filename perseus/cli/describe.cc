// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "perseus/cli/table.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::cli {
namespace {

using core::Joules;
using core::Seconds;

std::string blocking_text(const core::Problem& problem) {
  const auto& watts = problem.inputs().blocking_power;
  const auto [least, most] = std::ranges::minmax(watts);
  if (least == most) return fmt::format("{:g} W", least.value());
  return fmt::format("{:g} to {:g} W", least.value(), most.value());
}

/// Saving against all-max; beyond T* of a synchronised frontier both wait for the same T'.
double saving(const format::FrontierReport& report, Seconds target, Joules energy, core::Watts waiting) {
  const Seconds waits = report.range == "tmax" ? target - report.all_max.time : Seconds(0);
  return 1 - energy / (report.all_max.energy + waiting * waits);
}

std::string landmarks(Seconds t_min, Seconds t_star, Seconds t_max) {
  const auto row = [&](const char* name, Seconds t, const char* meaning) {
    const std::string slower = t == t_min ? std::string() : fmt::format("+{}", percent_text(t / t_min - 1));
    return fmt::format("{:<6} {:>11} s  {:>9}  {}\n", name, seconds_text(t), slower, meaning);
  };
  return row("T_min", t_min, "every computation at its fastest option") +
         row("T*", t_star, "least energy while this pipeline itself ends the iteration") +
         row("T_max", t_max, "least effective cost: slower never pays");
}

std::string bloat_text(const baseline::BloatBreakdown& bloat, const EnergyUnit& unit) {
  std::string text =
      fmt::format("Intrinsic bloat: all-max wastes {} {} ({}) at the same iteration time.\n",
                  unit.text(bloat.intrinsic), unit.name, percent_text(bloat.intrinsic_share()));
  if (bloat.straggler) {
    text +=
        fmt::format("Extrinsic bloat: rushing only to wait for T' wastes another {} {} ({}).\n",
                    unit.text(bloat.straggler->extrinsic), unit.name, percent_text(bloat.extrinsic_share()));
  }
  return text;
}

std::string points_table(const format::FrontierReport& report, core::Watts waiting) {
  const EnergyUnit unit = energy_unit(report.all_max.energy);
  Table table({"target s", "slower", "time s", std::string("energy ") + unit.name, "saved",
               std::string("bound ") + unit.name, "above bound", "-dE/dT W"});
  for (const auto& p : report.points) {
    table.row({seconds_text(p.target_time), percent_text(p.target_time / report.t_min - 1),
               seconds_text(p.time), unit.text(p.energy),
               percent_text(saving(report, p.target_time, p.energy, waiting)), unit.text(p.lower_bound),
               percent_text(p.gap), fmt::format("{:.1f}", p.marginal.value())});
  }
  return table.text();
}

std::string breakpoints_table(const format::FrontierReport& report) {
  const EnergyUnit unit = energy_unit(report.all_max.energy);
  Table table({"target s", std::string("bound ") + unit.name, "-dE/dT W"});
  for (const auto& b : *report.breakpoints) {
    table.row({fmt::format("{:.9f}", b.target_time.value()), unit.text(b.lower_bound),
               fmt::format("{:.3f}", b.marginal.value())});
  }
  return table.text();
}

std::string baselines_table(const format::FrontierReport& report) {
  const EnergyUnit unit = energy_unit(report.all_max.energy);
  Table table({"baseline", "time s", "slower", std::string("energy ") + unit.name, "saved"});
  const auto row = [&](const std::string& name, Seconds time, Joules energy) {
    table.row({name, seconds_text(time), percent_text(time / report.t_min - 1), unit.text(energy),
               percent_text(1 - energy / report.all_max.energy)});
  };
  row("all-max", report.all_max.time, report.all_max.energy);
  for (const auto& b : report.baselines) row(b.name, b.time, b.energy);
  return table.text();
}

}  // namespace

std::string describe_job(const core::Problem& problem, const std::string& profile_name,
                         const std::string& fit, const std::optional<FitResiduals>& residuals) {
  const core::Schedule& s = problem.pipeline().schedule();
  const core::Parallel& parallel = problem.parallel();
  const std::string stages =
      s.virtual_stages == 1
          ? fmt::format("{} stage{}", s.stages(), s.stages() == 1 ? "" : "s")
          : fmt::format("{} stages on {} rank{}", s.stages(), s.pipeline(), s.pipeline() == 1 ? "" : "s");
  std::string text = fmt::format("{}: {}, {} x {} microbatch{}, {} computations\n", profile_name, s.name,
                                 stages, s.microbatches, s.microbatches == 1 ? "" : "es", problem.size());
  text += fmt::format("{} GPU{} per rank, {} pipeline{}, blocking power {}, fit {}\n", parallel.tensor,
                      parallel.tensor == 1 ? "" : "s", parallel.data, parallel.data == 1 ? "" : "s",
                      blocking_text(problem), fit);
  if (residuals) {
    text +=
        fmt::format("Measured values against the fit: time {} rms, {} at most; energy {} rms, {} at most\n",
                    percent_text(residuals->time_rms), percent_text(residuals->time_most),
                    percent_text(residuals->energy_rms), percent_text(residuals->energy_most));
  }
  return text + "All figures are predicted from the profile, for one pipeline.\n";
}

std::string describe_frontier(const format::FrontierReport& report, core::Watts waiting) {
  std::string text = landmarks(report.t_min, report.t_star, report.t_max) + '\n';
  text += report.breakpoints ? breakpoints_table(report) : points_table(report, waiting);
  text += '\n' + baselines_table(report);
  text += fmt::format("\nExact frontier: {} breakpoints in {:.3g} s.\n", report.breakpoint_count,
                      report.solver_time.value());
  return text;
}

std::string describe_plan(const PlanSummary& s) {
  const EnergyUnit unit = energy_unit(s.all_max.energy);
  const core::Plan& plan = s.plan;
  std::string text = landmarks(s.t_min, s.t_star, s.t_max) + '\n';
  Table table({"", "target s", "time s", std::string("energy ") + unit.name, "saved"});
  table.row({"all-max", "", seconds_text(s.all_max.time), unit.text(s.all_max.energy), ""});
  table.row({"plan", seconds_text(plan.target_time), seconds_text(plan.time), unit.text(plan.energy),
             percent_text(1 - plan.energy / s.all_max.energy)});
  table.row({"proven bound", seconds_text(plan.target_time), "", unit.text(plan.lower_bound), ""});
  text += table.text();
  text += fmt::format(
      "\nThe plan is {} above the proven least energy of any choice of clocks that ends by its target.\n",
      percent_text(plan.gap));
  if (plan.sync_time) {
    text += fmt::format("Synchronised at T' = {} s: every energy counts the waiting until then.\n",
                        seconds_text(*plan.sync_time));
  }
  text += bloat_text(s.bloat, unit);
  return text;
}

std::string plan_summary_json(const PlanSummary& s, const std::string& path) {
  using format::number_text;
  const core::Plan& p = s.plan;
  std::string text = "{";
  const auto member = [&](const char* name, const std::string& value) {
    text += fmt::format("{}\"{}\":{}", text.size() == 1 ? "" : ",", name, value);
  };
  const auto seconds = [&](const char* name, Seconds t) { member(name, number_text(t.value())); };
  const auto joules = [&](const char* name, Joules e) { member(name, number_text(e.value())); };
  std::string quoted_path;
  format::append_json_string(quoted_path, path);
  member("path", quoted_path);
  seconds("t_min_s", s.t_min);
  seconds("t_star_s", s.t_star);
  seconds("t_max_s", s.t_max);
  seconds("target_time_s", p.target_time);
  member("sync_time_s", p.sync_time ? number_text(p.sync_time->value()) : "null");
  seconds("time_s", p.time);
  joules("energy_j", p.energy);
  joules("lower_bound_j", p.lower_bound);
  member("gap", std::isfinite(p.gap) ? number_text(p.gap) : "null");
  member("all_max", fmt::format("{{\"time_s\":{},\"energy_j\":{}}}", number_text(s.all_max.time.value()),
                                number_text(s.all_max.energy.value())));
  joules("intrinsic_saved_j", s.bloat.intrinsic);
  if (s.bloat.straggler) joules("extrinsic_saved_j", s.bloat.straggler->extrinsic);
  return text + "}\n";
}

}  // namespace perseus::cli
