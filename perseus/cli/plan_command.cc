// SPDX-License-Identifier: Apache-2.0
#include <ostream>

#include "perseus/baseline/baseline.h"
#include "perseus/baseline/bloat.h"
#include "perseus/cli/command.h"
#include "perseus/cli/describe.h"
#include "perseus/cli/inputs.h"
#include "perseus/cli/planning.h"
#include "perseus/format/files.h"
#include "perseus/format/frontier_file.h"
#include "perseus/format/plan_csv.h"
#include "perseus/format/plan_json.h"
#include "perseus/format/zeus.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;

/// A frontier to plan from, solved now or read from a file.
struct Source {
  solver::Frontier frontier;
  std::string fit;
  std::optional<FitResiduals> residuals;
};

class PlanCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("plan", "Choose a clock for every computation of one iteration");
    add_input_flags(*command, inputs_);
    command
        ->add_option("--frontier", frontier_,
                     "A frontier.perseus of `perseus frontier --out` instead of inputs")
        ->type_name("FILE");
    declare_question(*command);
    command
        ->add_option(
            "--polish", polish_s_,
            "Improve the plan by so many seconds' work (of the documented reference machine; default 0)")
        ->type_name("S")
        ->check(CLI::Range(0.0, kMostPolish));
    command->add_option("--format", format_, "json, zeus (freqs_pipeline_*.py) or csv")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"json", "zeus", "csv"}));
    command
        ->add_option("--certificate", certificate_, "Write the proof to a file of its own, not into the plan")
        ->type_name("FILE");
    command
        ->add_option(
            "-o,--output", output_,
            "File for the plan, - for standard output (default); with a file standard output gets a summary")
        ->type_name("FILE");
    command->add_flag("--json", json_,
                      "With -o: the summary as JSON. Without: the plan as JSON, as by default");
    command->footer(
        "Without a question the plan is the fastest: T_min, no slowdown.\n\nExample:\n  perseus plan "
        "--profile "
        "examples/gpt3-175b-a100-pp8.csv --schedule 1f1b --pp 8 --microbatches 128 --tp 8 --blocking-power "
        "85 "
        "--straggler 1.1 -o plan.json");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_RETURN_IF_ERROR(check_outputs());
    PERSEUS_ASSIGN_OR_RETURN(const Source source, frontier_.empty() ? solve(io) : read(io));
    const solver::Frontier& frontier = source.frontier;
    PERSEUS_ASSIGN_OR_RETURN(const Target target,
                             resolve(question(), frontier.t_min(), frontier.t_star(), frontier.t_max()));
    PERSEUS_RETURN_IF_ERROR(check_range(frontier, target));
    if (sync_time_s_ && target.sync_time > core::Seconds(*sync_time_s_)) {
      io.warn({{"is below T_min: this pipeline is then the slowest, and T' is T_min", {"--sync-time"}}});
    }
    PERSEUS_ASSIGN_OR_RETURN(core::Plan plan,
                             make_plan(frontier, target, core::Seconds(polish_s_), source.fit));
    PERSEUS_ASSIGN_OR_RETURN(const PlanSummary summary, summarise(frontier, plan));
    if (!certificate_.empty()) PERSEUS_RETURN_IF_ERROR(move_certificate(frontier.problem(), plan));
    PERSEUS_ASSIGN_OR_RETURN(const std::string text, write(frontier.problem(), plan));
    if (is_standard_output(output_)) {
      io.out << text;
      return {};
    }
    PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(output_, text));
    if (json_) {
      io.out << plan_summary_json(summary, output_);
    } else {
      io.out << describe_job(frontier.problem(), profile_name(), source.fit, source.residuals) << '\n'
             << describe_plan(summary) << "Written to " << output_ << '\n';
    }
    return {};
  }

 private:
  static constexpr double kMostPolish = 86'400;  // a day; polishing stops by itself long before

  void declare_question(CLI::App& command) {
    const std::string group = "The question (at most one)";
    auto* target = command.add_option("--target-time", target_time_s_, "Iteration time to keep, s");
    auto* slowdown = command.add_option("--slowdown", question_.slowdown_percent,
                                        "Slowdown over T_min to allow, per cent");
    auto* least = command.add_flag("--min-energy", question_.min_energy, "Least energy of all: T*");
    auto* straggler = command.add_option("--straggler", question_.straggler_factor,
                                         "Another pipeline ends the iteration at FACTOR x T_min");
    auto* sync = command.add_option("--sync-time", sync_time_s_,
                                    "Another pipeline ends the iteration at this time, s");
    target->type_name("S");
    slowdown->type_name("PCT");
    straggler->type_name("FACTOR");
    sync->type_name("S");
    const std::vector<CLI::Option*> all = {target, slowdown, least, straggler, sync};
    for (CLI::Option* one : all) {
      one->group(group);
      for (CLI::Option* other : all) {
        if (one != other) one->excludes(other);
      }
    }
  }

  [[nodiscard]] Question question() const {
    Question q = question_;
    if (target_time_s_) q.target_time = core::Seconds(*target_time_s_);
    if (sync_time_s_) q.sync_time = core::Seconds(*sync_time_s_);
    return q;
  }

  [[nodiscard]] core::Status check_outputs() const {
    if (json_ && format_ != "json" && is_standard_output(output_)) {
      return fail(ErrorCode::kUsage, "with --format " + format_ + " needs -o FILE", {"--json"});
    }
    return {};
  }

  [[nodiscard]] std::string profile_name() const {
    return frontier_.empty() ? inputs_.spec.profile.value_or(inputs_.job_file.value_or("")) : frontier_;
  }

  core::Result<Source> solve(const Io& io) const {
    PERSEUS_ASSIGN_OR_RETURN(const Inputs inputs, resolve_inputs(inputs_, io));
    const auto range =
        question_.straggler_factor || sync_time_s_ ? solver::Range::kTMax : solver::Range::kTStar;
    PERSEUS_ASSIGN_OR_RETURN(auto solved, solve_frontier(inputs.problem, range, io));
    return Source{std::move(solved.frontier), inputs.fit, inputs.residuals};
  }

  core::Result<Source> read(const Io& /*io*/) const {
    if (any_given(inputs_)) {
      return fail(ErrorCode::kUsage, "holds the whole job; no flag of the inputs goes with it",
                  {"--frontier"});
    }
    PERSEUS_ASSIGN_OR_RETURN(const std::string bytes,
                             format::read_file(frontier_, format::kMaxFrontierBytes));
    PERSEUS_ASSIGN_OR_RETURN(auto stored, format::parse_frontier_file(bytes, frontier_));
    PERSEUS_ASSIGN_OR_RETURN(auto frontier,
                             solver::Frontier::from_data(stored.problem, std::move(stored.data)));
    return Source{std::move(frontier), stored.fit, std::nullopt};
  }

  /// A stored frontier may end at T*, where a straggler's plan goes on.
  [[nodiscard]] core::Status check_range(const solver::Frontier& frontier, const Target& target) const {
    const bool beyond = frontier.range() == solver::Range::kTStar && target.time > frontier.t_star();
    if (!beyond) return {};
    return fail(ErrorCode::kInvalidInput,
                "the plan lies beyond T*, where this file ends; make it with `perseus frontier --range tmax`",
                {frontier_});
  }

  static core::Result<PlanSummary> summarise(const solver::Frontier& frontier, const core::Plan& plan) {
    const core::Problem& problem = frontier.problem();
    const core::Seconds t_min = frontier.t_min();
    PERSEUS_ASSIGN_OR_RETURN(const core::Plan fastest,
                             make_plan(frontier, {t_min, std::nullopt}, core::Seconds(0), plan.fit));
    std::optional<baseline::StragglerPlan> straggler;
    if (plan.sync_time) straggler = baseline::StragglerPlan{plan.choice, *plan.sync_time};
    PlanSummary summary{.plan = plan,
                        .t_min = t_min,
                        .t_star = frontier.t_star(),
                        .t_max = frontier.t_max(),
                        .all_max = baseline::all_max(problem, {plan.sync_time}),
                        .bloat = baseline::bloat(problem, fastest.choice, straggler)};
    summary.plan.certificate.reset();
    return summary;
  }

  core::Status move_certificate(const core::Problem& problem, core::Plan& plan) const {
    PERSEUS_ASSIGN_OR_RETURN(const auto described, format::describe_plan(problem, plan));
    const format::CertificateFile file{.schedule_sha256 = described.schedule_sha256,
                                       .target_time = plan.target_time,
                                       .certificate = *described.certificate};
    plan.certificate.reset();
    return format::write_file_atomically(certificate_, format::write_certificate_json(file));
  }

  [[nodiscard]] core::Result<std::string> write(const core::Problem& problem, const core::Plan& plan) const {
    if (format_ == "zeus") return format::write_zeus_schedule(problem, plan);
    if (format_ == "csv") return format::write_plan_csv(problem, plan);
    return format::write_plan_json(problem, plan);
  }

  InputFlags inputs_;
  Question question_;
  std::optional<double> target_time_s_;
  std::optional<double> sync_time_s_;
  double polish_s_ = 0;
  std::string frontier_;
  std::string format_ = "json";
  std::string certificate_;
  std::string output_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_plan_command() {
  return std::make_unique<PlanCommand>();
}

}  // namespace perseus::cli
