// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <ostream>

#include "perseus/certify/verify.h"
#include "perseus/cli/command.h"
#include "perseus/cli/inputs.h"
#include "perseus/cli/table.h"
#include "perseus/format/files.h"
#include "perseus/format/numbers.h"
#include "perseus/format/plan_json.h"
#include "perseus/format/text.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;

std::string number_or(const std::optional<double>& value, const char* absent) {
  return value && std::isfinite(*value) ? format::number_text(*value) : absent;
}

std::string verdict_table(const certify::Verdict& verdict) {
  Table table({"claim", "holds", "claimed", "recomputed", ""});
  for (const certify::Check& c : verdict.checks) {
    table.row(
        {c.name, c.holds ? "yes" : "NO", number_or(c.claimed, "-"), number_or(c.recomputed, "-"), c.detail});
  }
  return table.text();
}

std::string verdict_json(const certify::Verdict& verdict) {
  std::string text = fmt::format("{{\"holds\":{},\"checks\":[", verdict.holds());
  for (std::size_t i = 0; i < verdict.checks.size(); ++i) {
    const certify::Check& c = verdict.checks[i];
    text += i == 0 ? "\n  {\"name\":" : ",\n  {\"name\":";
    format::append_json_string(text, c.name);
    text += fmt::format(
        ",\"holds\":{},\"claimed\":{},\"recomputed\":{},\"tolerance\":{},\"detail\":", c.holds,
        number_or(c.claimed, "null"), number_or(c.recomputed, "null"), format::number_text(c.tolerance));
    format::append_json_string(text, c.detail);
    text += '}';
  }
  return text + "\n]}\n";
}

class VerifyCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("verify", "Check a plan's own claims without any solver");
    command->add_option("--plan", plan_, "Plan JSON of `perseus plan`")->type_name("FILE")->required();
    command
        ->add_option("--certificate", certificate_,
                     "The plan's proof, if it was written to a file of its own")
        ->type_name("FILE");
    add_input_flags(*command, inputs_);
    command->add_flag("--json", json_, "Print the verdict as JSON");
    command->footer(
        "Exit code 1 if a claim is false; the verdict is printed all the same.\n\nExample:\n  perseus verify "
        "--plan "
        "plan.json --profile examples/gpt3-175b-a100-pp8.csv --schedule 1f1b --pp 8 --microbatches 128 --tp "
        "8 "
        "--blocking-power 85");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const std::string bytes, format::read_file(plan_, format::kMaxPlanBytes));
    PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_plan_json(bytes, plan_));
    if (!certificate_.empty()) PERSEUS_RETURN_IF_ERROR(read_certificate(parsed));
    PERSEUS_RETURN_IF_ERROR(agree_on_fit(parsed));
    PERSEUS_ASSIGN_OR_RETURN(const Inputs inputs, resolve_inputs(inputs_, io));
    auto bound = format::bind_plan(inputs.problem, parsed);
    if (!bound) return std::unexpected(bound.error().at({plan_}));
    PERSEUS_ASSIGN_OR_RETURN(const auto verdict, certify::verify(inputs.problem, *bound));
    io.out << (json_ ? verdict_json(verdict) : verdict_table(verdict));
    if (auto status = verdict.status(); !status) return std::unexpected(status.error().at({plan_}));
    return {};
  }

 private:
  core::Status read_certificate(format::ParsedPlan& plan) const {
    PERSEUS_ASSIGN_OR_RETURN(const std::string bytes, format::read_file(certificate_, format::kMaxPlanBytes));
    PERSEUS_ASSIGN_OR_RETURN(auto file, format::parse_certificate_json(bytes, certificate_));
    if (file.schedule_sha256 != plan.schedule_sha256 || file.target_time != plan.target_time) {
      return fail(ErrorCode::kInvalidInput, "belongs to another plan: schedule or target time differ",
                  {certificate_});
    }
    plan.certificate = std::move(file.certificate);
    return {};
  }

  /// A plan names the fit that its input went through; the same fit is made again here.
  core::Status agree_on_fit(const format::ParsedPlan& plan) {
    if (inputs_.spec.fit && *inputs_.spec.fit != plan.fit) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("is {}, but the plan was made with {}", *inputs_.spec.fit, plan.fit),
                  {"--fit"});
    }
    inputs_.spec.fit = plan.fit;
    return {};
  }

  InputFlags inputs_;
  std::string plan_;
  std::string certificate_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_verify_command() {
  return std::make_unique<VerifyCommand>();
}

}  // namespace perseus::cli
