// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <ostream>

#include "perseus/cli/analysis.h"
#include "perseus/cli/command.h"
#include "perseus/cli/describe.h"
#include "perseus/format/files.h"
#include "perseus/report/report.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;

class ReportCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("report", "Write a self-contained HTML report, plots and a trace");
    add_input_flags(*command, inputs_);
    command->add_option("-o,--output", output_, "HTML file to write")->type_name("FILE")->required();
    command->add_option("--points", points_, "Frontier points on the slider (default 40)")
        ->type_name("N")
        ->check(CLI::Range(2U, kMostPoints));
    command->add_option("--title", title_, "Headline (default: the profile's name)")->type_name("TEXT");
    command->add_option("--svg", svg_, "Also write frontier.svg and timeline.svg there")->type_name("DIR");
    command->add_option("--png", png_, "Also write frontier.png and timeline.png there")->type_name("DIR");
    command->add_option("--trace", trace_, "Also write the fastest plan as a Chrome/Perfetto trace")
        ->type_name("FILE");
    command->footer(
        "Example:\n  perseus report --profile examples/gpt3-175b-a100-pp8.csv --schedule 1f1b --pp 8 "
        "--microbatches 128 --tp 8 --blocking-power 85 -o report.html");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const Inputs inputs, resolve_inputs(inputs_, io));
    PERSEUS_ASSIGN_OR_RETURN(const report::ReportInputs content, collect(inputs, io));
    PERSEUS_ASSIGN_OR_RETURN(const std::string html, report::write_html(content));
    PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(output_, html));
    io.out << "Report: " << output_ << '\n';
    PERSEUS_RETURN_IF_ERROR(write_plots(content, svg_, "svg", io));
    PERSEUS_RETURN_IF_ERROR(write_plots(content, png_, "png", io));
    if (trace_.empty()) return {};
    PERSEUS_ASSIGN_OR_RETURN(const std::string trace,
                             report::write_chrome_trace(content, report::equal_time_point(content)));
    PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(trace_, trace));
    io.out << "Trace: " << trace_ << '\n';
    return {};
  }

 private:
  static constexpr std::uint32_t kMostPoints = 400;
  /// Points on the slider beyond T*, where only a straggler leads.
  static constexpr std::uint32_t kStragglerPoints = 12;

  core::Result<report::ReportInputs> collect(const Inputs& inputs, const Io& io) const {
    const core::Problem& problem = inputs.problem;
    // One solve of the whole range serves the self-timed points and, beyond T*, the stragglers.
    PERSEUS_ASSIGN_OR_RETURN(const Analysis analysis,
                             analyse(inputs, {solver::Range::kTMax, solver::Range::kTStar, points_}, io));
    const solver::Frontier& frontier = analysis.solved.frontier;
    report::ReportInputs content(problem);
    content.title = title_.empty() ? default_title(inputs) : title_;
    content.profile_name = std::filesystem::path(*inputs.spec.profile).filename().string();
    content.provenance = "Predicted from the profile by the exact planner; nothing was run.";
    content.fit = inputs.fit;
    content.all_max = analysis.all_max.choice;
    content.t_min = frontier.t_min();
    content.t_star = frontier.t_star();
    content.t_max = frontier.t_max();
    content.solver_time = analysis.solved.seconds;
    content.breakpoints = frontier.breakpoint_count();
    content.warnings = inputs.warnings;
    if (inputs.residuals)
      content.facts.push_back({"Measured against the fit", residuals_text(*inputs.residuals)});
    for (const core::Plan& plan : analysis.plans) {
      content.points.push_back({plan, marginal_power(problem, *plan.certificate)});
      content.curve.push_back({plan.target_time, plan.lower_bound});
    }
    for (const auto& b : analysis.baselines) content.baselines.push_back({b.name, b.time, b.energy});
    PERSEUS_RETURN_IF_ERROR(add_stragglers(frontier, inputs.fit, content));
    return content;
  }

  static std::string residuals_text(const FitResiduals& r) {
    return fmt::format("time {:.2f} % rms, {:.2f} % at most; energy {:.2f} % rms, {:.2f} % at most",
                       100 * r.time_rms, 100 * r.time_most, 100 * r.energy_rms, 100 * r.energy_most);
  }

  static std::string default_title(const Inputs& inputs) {
    return std::filesystem::path(*inputs.spec.profile).stem().string();
  }

  static core::Status add_stragglers(const solver::Frontier& frontier, const std::string& fit,
                                     report::ReportInputs& content) {
    const Seconds from = std::max(frontier.t_star(), frontier.t_min());
    const Seconds to = frontier.t_max();
    if (to <= from) return {};
    for (std::uint32_t k = 1; k <= kStragglerPoints; ++k) {
      const Seconds sync =
          k == kStragglerPoints ? to : from + (static_cast<double>(k) / kStragglerPoints) * (to - from);
      PERSEUS_ASSIGN_OR_RETURN(auto plan, make_plan(frontier, {sync, sync}, Seconds(0), fit));
      const core::Watts marginal = marginal_power(frontier.problem(), *plan.certificate);
      content.straggler_points.push_back({std::move(plan), marginal});
    }
    return {};
  }

  static core::Status write_plots(const report::ReportInputs& content, const std::string& dir,
                                  const char* type, const Io& io) {
    if (dir.empty()) return {};
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) return fail(ErrorCode::kIo, "cannot create the folder: " + error.message(), {dir});
    const bool svg = std::string_view(type) == "svg";
    const std::size_t point = report::equal_time_point(content);
    PERSEUS_ASSIGN_OR_RETURN(const std::string frontier,
                             svg ? report::write_frontier_svg(content) : report::write_frontier_png(content));
    PERSEUS_ASSIGN_OR_RETURN(const std::string timeline, svg ? report::write_timeline_svg(content, point)
                                                             : report::write_timeline_png(content, point));
    for (const auto& [name, bytes] : {std::pair("frontier", &frontier), std::pair("timeline", &timeline)}) {
      const auto path = (std::filesystem::path(dir) / fmt::format("{}.{}", name, type)).string();
      PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(path, *bytes));
      io.out << "Plot: " << path << '\n';
    }
    return {};
  }

  InputFlags inputs_;
  std::uint32_t points_ = 40;
  std::string output_;
  std::string title_;
  std::string svg_;
  std::string png_;
  std::string trace_;
};

}  // namespace

std::unique_ptr<Command> make_report_command() {
  return std::make_unique<ReportCommand>();
}

}  // namespace perseus::cli
