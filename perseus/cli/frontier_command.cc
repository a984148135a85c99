// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <ostream>

#include "perseus/cli/analysis.h"
#include "perseus/cli/command.h"
#include "perseus/cli/describe.h"
#include "perseus/format/files.h"
#include "perseus/format/frontier_file.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;

class FrontierCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("frontier", "Compute the exact iteration time-energy frontier of a job");
    add_input_flags(*command, inputs_);
    command
        ->add_option("--points", points_, "Realised plans at so many evenly spaced target times (default 40)")
        ->type_name("N")
        ->check(CLI::Range(2U, kMostPoints));
    command->add_flag("--all", all_, "Every breakpoint of the exact frontier instead, not realised");
    command
        ->add_option("--range", range_,
                     "Up to T* (this pipeline ends the iteration) or T_max (somebody else does)")
        ->type_name("tstar|tmax")
        ->check(CLI::IsMember({"tstar", "tmax"}));
    command
        ->add_option(
            "--out", out_,
            "Write frontier.perseus (for `perseus plan --frontier`), points.csv and frontier.json there")
        ->type_name("DIR");
    command->add_flag("--json", json_, "Print JSON only");
    command->footer(
        "Example:\n  perseus frontier --profile examples/gpt3-175b-a100-pp8.csv --schedule 1f1b --pp 8 "
        "--microbatches 128 --tp 8 --blocking-power 85");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const Inputs inputs, resolve_inputs(inputs_, io));
    const auto range = range_ == "tmax" ? solver::Range::kTMax : solver::Range::kTStar;
    PERSEUS_ASSIGN_OR_RETURN(const Analysis analysis,
                             analyse(inputs, {range, range, all_ ? 0 : points_}, io));
    const format::FrontierReport report = make_frontier_report(inputs, analysis, all_);
    if (!out_.empty()) PERSEUS_RETURN_IF_ERROR(write_files(inputs, analysis, report));
    if (json_) {
      io.out << format::write_frontier_json(report);
      return {};
    }
    const core::Problem& p = inputs.problem;
    io.out << describe_job(p, *inputs.spec.profile, inputs.fit, inputs.residuals) << '\n'
           << describe_frontier(report, p.parallel().tensor * p.total_blocking_power());
    if (!out_.empty()) io.out << "Written to " << out_ << ": frontier.perseus, points.csv, frontier.json\n";
    return {};
  }

 private:
  static constexpr std::uint32_t kMostPoints = 10'000;  // each costs a plan; a plot needs far fewer

  core::Status write_files(const Inputs& inputs, const Analysis& analysis,
                           const format::FrontierReport& report) const {
    std::error_code error;
    std::filesystem::create_directories(out_, error);
    if (error) return fail(ErrorCode::kIo, "cannot create the folder: " + error.message(), {out_});
    const std::filesystem::path dir(out_);
    const solver::Frontier& frontier = analysis.solved.frontier;
    PERSEUS_ASSIGN_OR_RETURN(const std::string compact,
                             format::write_frontier_file(inputs.problem, frontier.data(), inputs.fit));
    PERSEUS_RETURN_IF_ERROR(format::write_file_atomically((dir / "frontier.perseus").string(), compact));
    PERSEUS_RETURN_IF_ERROR(
        format::write_file_atomically((dir / "points.csv").string(), format::write_points_csv(report)));
    return format::write_file_atomically((dir / "frontier.json").string(),
                                         format::write_frontier_json(report));
  }

  InputFlags inputs_;
  std::uint32_t points_ = 40;
  bool all_ = false;
  bool json_ = false;
  std::string range_ = "tstar";
  std::string out_;
};

}  // namespace

std::unique_ptr<Command> make_frontier_command() {
  return std::make_unique<FrontierCommand>();
}

}  // namespace perseus::cli
