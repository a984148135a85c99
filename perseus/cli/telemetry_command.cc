// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/server/telemetry_server.h"

namespace perseus::cli {
namespace {

class TelemetryCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand(
        "telemetry",
        "Serve what the node's agent publishes, as Prometheus metrics over HTTP; needs no rights");
    command
        ->add_option("--listen", options_.listen,
                     "Address and port (default 127.0.0.1:9787; port 0: any free one)")
        ->type_name("ADDR:PORT");
    command->add_option("--dir", options_.folder, "Where the agent publishes (default /run/perseus)")
        ->type_name("DIR");
    command->add_option("--max-age", max_age_s_, "Older files are answered with 503, s (default 15)")
        ->type_name("S")
        ->check(CLI::Range(1.0, 3600.0));
    command->add_flag(
        "--beyond-loopback", options_.beyond_loopback,
        "Listen on an address that the network reaches: whoever connects may read the GPUs' "
        "UUIDs, clocks, power, energy, temperature and states, unencrypted, and change nothing");
    command->footer(
        "Paths: /metrics, /intended, /healthz. Logs are lines of JSON on standard error. SIGTERM ends it."
        "\n\nExample:\n  perseus telemetry --listen 127.0.0.1:9787");
    return command;
  }

  core::Status run(const Io& io) override {
    options_.max_age = core::Seconds(max_age_s_);
    const auto log = [&io](std::string_view line) { io.err << line << '\n' << std::flush; };
    PERSEUS_ASSIGN_OR_RETURN(const auto server, server::TelemetryServer::start(options_, log));
    server->run();
    return {};
  }

 private:
  server::TelemetryOptions options_;
  double max_age_s_ = options_.max_age.value();
};

}  // namespace

std::unique_ptr<Command> make_telemetry_command() {
  return std::make_unique<TelemetryCommand>();
}

}  // namespace perseus::cli
