// SPDX-License-Identifier: Apache-2.0
//
// The executable perseus-agent.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "perseus/agent/admin.h"
#include "perseus/agent/daemon.h"
#include "perseus/agent/guard.h"
#include "perseus/agent/version.h"

namespace perseus::agent {
namespace {

/// What the command line holds.
struct Arguments {
  DaemonSettings settings;
  std::string backend = "auto";
  std::string library;
  bool restore = false;
  bool all = false;
  bool json = false;
  double quiesce_s = 0;
  double wait_driver_s = 0;
  GuardSettings guard;
};

constexpr const char* kFooter =
    "Run as root (a service manager starts it: perseus-agent.service). docs/agent.md is the operations "
    "guide.\n\n"
    "Example:\n  perseus-agent --backend nvml --config /etc/perseus/agent.yaml\n  perseus-agent status";

int fail(const core::Error& error) {
  std::cerr << "perseus-agent: error: " << error.text() << '\n';
  return core::info(error.code()).exit_code;
}

int finish(const core::Status& status) {
  return status ? 0 : fail(status.error());
}

void declare(CLI::App& app, Arguments& arguments) {
  DaemonSettings& settings = arguments.settings;
  app.option_defaults()->take_last();  // a site's flags stand after those of the unit
  app.set_version_flag("--version", std::string("perseus-agent ") + kVersion);
  app.add_option("--socket", settings.socket, "Unix socket to serve, or to ask")
      ->type_name("PATH")
      ->capture_default_str();
  app.add_option("--state-dir", settings.state_dir, "Folder of the journal")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--backend", arguments.backend, "nvml, amd, sim, command or auto")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--library", arguments.library, "Another path of the vendor's library")->type_name("FILE");
  app.add_option("--config", settings.config,
                 "Configuration (default: /etc/perseus/agent.yaml where that exists)")
      ->type_name("FILE");
  app.add_option("--grants", settings.grants, "Grants (default: /etc/perseus/grants.yaml where that exists)")
      ->type_name("FILE");
  app.add_option("--audit-log", settings.audit_log, "File of the audit log (default: standard error)")
      ->type_name("FILE");
  app.add_option("--wait-driver", arguments.wait_driver_s,
                 "Try to open a driver that is not there for so many seconds (0 to 3,600; default: once)")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0).description(""));
  app.add_flag("--restore", arguments.restore,
               "Bring back what the journal owes, then exit; no agent may run");
  app.add_flag("--all", arguments.all, "With --restore: every GPU, whatever the journal says");
  app.footer(kFooter);
}

/// Flags may stand before or after the subcommand's name.
CLI::App* add_command(CLI::App& app, const char* name, const char* help) {
  CLI::App* command = app.add_subcommand(name, help);
  command->fallthrough();
  return command;
}

/// Runs the daemon; never returns by way of destructors that would wait for a driver that hangs.
int run_daemon(const DaemonSettings& settings) {
  auto daemon = Daemon::open(settings);
  if (!daemon) return fail(daemon.error());
  const bool back = (*daemon)->run();
  if (!back) {
    std::cerr << "perseus-agent: error: not every GPU is back at its baseline; the journal in "
              << settings.state_dir << " knows which\n";
  }
  // Not by way of the destructors: they join threads, and one of those may hang in a driver call.
  std::_Exit(back ? 0 : core::info(core::ErrorCode::kDriver).exit_code);
}

int dispatch(const CLI::App& app, Arguments& arguments) {
  const auto kind = gpu::parse_backend(arguments.backend);
  if (!kind) return fail(kind.error().at({"--backend"}));
  DaemonSettings& settings = arguments.settings;
  settings.backend.kind = *kind;
  settings.backend.library = arguments.library;
  settings.driver_patience = std::chrono::milliseconds(std::llround(arguments.wait_driver_s * 1000));
  settings.config_required = app.count("--config") > 0;
  settings.grants_required = app.count("--grants") > 0;
  if (app.got_subcommand("guard")) {
    arguments.guard.backend = settings.backend;
    arguments.guard.state_dir = settings.state_dir;
    return run_guard(arguments.guard);
  }
  if (app.got_subcommand("status")) return finish(run_status(settings.socket, arguments.json, std::cout));
  if (app.got_subcommand("resume")) return finish(run_resume(settings.socket, std::cout));
  if (app.got_subcommand("quiesce")) {
    std::optional<std::chrono::milliseconds> resume_after;
    if (arguments.quiesce_s > 0)
      resume_after = std::chrono::milliseconds(std::llround(arguments.quiesce_s * 1000));
    return finish(run_quiesce(settings.socket, resume_after, std::cout));
  }
  if (arguments.restore) return finish(run_restore(settings, arguments.all, std::cout));
  if (arguments.all) return fail(core::Error(core::ErrorCode::kUsage, "--all goes with --restore"));
  return run_daemon(settings);
}

int run(int argc, char** argv) {
  CLI::App app{"The node agent of Perseus: leases GPU clocks and always brings them back.", "perseus-agent"};
  Arguments arguments;
  declare(app, arguments);
  app.require_subcommand(0, 1);
  add_command(app, "status", "What the agent and its GPUs do")
      ->add_flag("--json", arguments.json, "As one line of JSON");
  add_command(app, "quiesce", "Bring all clocks back and let go of the driver, so that a GPU can be reset")
      ->add_option("--for", arguments.quiesce_s, "Resume by itself after so many seconds (0.001 to 604,800)")
      ->type_name("S")
      ->check(CLI::Range(0.001, 604'800.0).description(""));
  add_command(app, "resume", "Open the driver again and lease clocks");
  add_command(app, "guard", "The guardian of direct mode; started by programs, not by people")->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::cerr << "perseus-agent: error: " << error.what() << "\nRun with --help for more information.\n";
    return core::info(core::ErrorCode::kUsage).exit_code;
  }
  return dispatch(app, arguments);
}

}  // namespace
}  // namespace perseus::agent

int main(int argc, char** argv) {
  try {
    const int code = perseus::agent::run(argc, argv);
    std::cout.flush();
    return code == 0 && !std::cout ? 3 : code;
  } catch (const std::exception& error) {
    std::cerr << "perseus-agent: error: unexpected failure: " << error.what() << '\n';
    return perseus::core::info(perseus::core::ErrorCode::kInternal).exit_code;
  }
}
