// SPDX-License-Identifier: Apache-2.0
//
// One command of the binary `perseus`.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "perseus/cli/io.h"
#include "perseus/core/result.h"

namespace perseus::cli {

/// A command declares its flags once and runs once. Implementations live in one file each.
class Command {
 public:
  Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  virtual ~Command() = default;

  /// Adds the subcommand with its flags, help and an example to `app`; returns it. The flags are bound to
  /// members.
  virtual CLI::App* declare(CLI::App& app) = 0;
  /// Does the work. Results go to io.out only when all of it succeeded.
  virtual core::Status run(const Io& io) = 0;
  /// Of a run that succeeded: 0, or that of a program that was run on behalf of the user.
  [[nodiscard]] virtual int exit_code() const { return 0; }
};

std::unique_ptr<Command> make_frontier_command();
std::unique_ptr<Command> make_plan_command();
std::unique_ptr<Command> make_verify_command();
std::unique_ptr<Command> make_schedule_command();
std::unique_ptr<Command> make_synth_command();
std::unique_ptr<Command> make_report_command();
std::unique_ptr<Command> make_sim_command();
std::unique_ptr<Command> make_lease_command();
std::unique_ptr<Command> make_calibrate_command();
std::unique_ptr<Command> make_agent_command();
std::unique_ptr<Command> make_doctor_command();
std::unique_ptr<Command> make_serve_command();
std::unique_ptr<Command> make_status_command();
std::unique_ptr<Command> make_demo_command();
std::unique_ptr<Command> make_telemetry_command();

/// Parses `arguments` (without the program's name), runs one command, and returns the exit code of
/// core::error_table: 0 ok, 1 refused input, 2 usage, 3 environment. Never throws.
int run_cli(std::vector<std::string> arguments, const Io& io);

}  // namespace perseus::cli
