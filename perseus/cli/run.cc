// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <exception>
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/cli/version.h"

namespace perseus::cli {
namespace {

int report(const Io& io, const core::Error& error) {
  io.progress_done();
  io.err << "perseus: error: " << error.text() << '\n';
  return core::info(error.code()).exit_code;
}

/// What CLI11 says of wrong usage, in the form of our other errors.
int report_usage(const Io& io, const CLI::App& app, const CLI::ParseError& error,
                 const std::string& first_argument) {
  std::string message = error.what();
  std::string known;
  bool is_known = first_argument.empty() || first_argument.front() == '-';
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    known += " " + command->get_name();
    is_known = is_known || command->get_name() == first_argument;
  }
  if (!is_known) message = "unknown command '" + first_argument + "'; commands:" + known;
  io.err << "perseus: error: " << message << "\nRun with --help for more information.\n";
  return core::info(core::ErrorCode::kUsage).exit_code;
}

/// CLI11 answers by exceptions; help and version are two of them.
int parse_and_run(std::vector<std::string> arguments, const Io& io) {
  CLI::App app{"Perseus: the exact time-energy frontier of pipeline-parallel training.", "perseus"};
  app.set_version_flag("--version", std::string("perseus ") + kVersion);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer("`perseus COMMAND --help` shows a command's flags and an example.");

  std::vector<std::pair<CLI::App*, std::unique_ptr<Command>>> commands;
  for (auto* make : {make_frontier_command, make_plan_command, make_verify_command, make_schedule_command,
                     make_synth_command, make_report_command, make_sim_command, make_lease_command,
                     make_agent_command, make_doctor_command, make_calibrate_command, make_serve_command,
                     make_status_command, make_telemetry_command, make_demo_command}) {
    auto command = make();
    CLI::App* subcommand = command->declare(app);
    commands.emplace_back(subcommand, std::move(command));
  }
  const std::string first_argument = arguments.empty() ? "" : arguments.front();
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes the arguments from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success)) {
      return report_usage(io, app, error, first_argument);
    }
    app.exit(error, io.out, io.err);
    return 0;
  }
  for (const auto& [subcommand, command] : commands) {
    if (!subcommand->parsed()) continue;
    const core::Status status = command->run(io);
    return status ? command->exit_code() : report(io, status.error());
  }
  return core::info(core::ErrorCode::kUsage).exit_code;
}

}  // namespace

int run_cli(std::vector<std::string> arguments, const Io& io) {
  try {
    return parse_and_run(std::move(arguments), io);
  } catch (const std::bad_alloc&) {
    return report(io, core::Error(core::ErrorCode::kLimit, "out of memory"));
  } catch (const std::exception& error) {
    return report(
        io, core::Error(core::ErrorCode::kInternal, std::string("unexpected failure: ") + error.what()));
  }
}

}  // namespace perseus::cli
