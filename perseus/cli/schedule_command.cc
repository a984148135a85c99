// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/core/pipeline.h"
#include "perseus/format/schedule_csv.h"
#include "perseus/format/schedule_json.h"
#include "perseus/schedule/generate.h"
#include "perseus/schedule/render.h"

namespace perseus::cli {
namespace {

std::string names_help() {
  std::string text = "Schedules:\n";
  for (const auto& s : schedule::known_schedules()) text += fmt::format("  {:<24} {}\n", s.name, s.summary);
  return text + "\nExample:\n  perseus schedule --schedule zbv --pp 4 --microbatches 8";
}

class ScheduleCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("schedule", "Print a pipeline schedule");
    command->add_option("--schedule", request_.name, "Schedule by name (listed below)")
        ->type_name("NAME")
        ->required();
    command->add_option("--pp", request_.pipeline, "Pipeline ranks")->type_name("N")->required();
    command->add_option("--microbatches", request_.microbatches, "Microbatches of one iteration")
        ->type_name("N")
        ->required();
    command->add_option("--virtual-stages", request_.virtual_stages, "Model stages per rank")->type_name("N");
    command->add_option("--group-size", request_.group_size, "Microbatch group of interleaved-1f1b")
        ->type_name("N");
    command->add_option("--format", format_, "text, csv (PyTorch's compute_only form) or json")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"text", "csv", "json"}));
    command->add_flag("--json", json_, "Same as --format json");
    command->add_option("--width", width_, "Columns of the text form; 0 = unbounded (default 160)")
        ->type_name("N");
    command->footer(names_help());
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const auto schedule, schedule::generate(request_));
    if (json_ || format_ == "json") {
      io.out << format::write_schedule_json(schedule);
    } else if (format_ == "csv") {
      io.out << format::write_schedule_csv(schedule);
    } else {
      io.out << schedule::render_text(schedule, {.width = width_});
    }
    return {};
  }

 private:
  schedule::Request request_;
  std::string format_ = "text";
  bool json_ = false;
  std::size_t width_ = 160;
};

}  // namespace

std::unique_ptr<Command> make_schedule_command() {
  return std::make_unique<ScheduleCommand>();
}

}  // namespace perseus::cli
