// SPDX-License-Identifier: Apache-2.0
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/server/server.h"

namespace perseus::cli {
namespace {

class ServeCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("serve", "Run the server that plans jobs and hands plans to their ranks");
    server::ServerOptions& o = options_;
    command
        ->add_option("--listen", o.listen, "Address and port (default 127.0.0.1:7787; port 0: any free one)")
        ->type_name("ADDR:PORT");
    command->add_option("--state", o.state, "Folder for jobs, profiles and plans (default ./perseus-state)")
        ->type_name("DIR");
    const std::string security = "Security (beyond loopback all three are needed)";
    command->add_option("--tls-cert", o.tls_cert, "Certificate with its chain, PEM")
        ->type_name("FILE")
        ->group(security);
    command->add_option("--tls-key", o.tls_key, "Private key, PEM, closed to others")
        ->type_name("FILE")
        ->group(security);
    command
        ->add_option("--token-file", o.token_file,
                     "Bearer tokens, mode 0600; lines 'admin TOKEN', 'read TOKEN', 'job NAME TOKEN'")
        ->type_name("FILE")
        ->group(security);
    command
        ->add_flag("--insecure-plain", o.insecure_plain,
                   "Listen beyond loopback although TLS or tokens are missing")
        ->group(security);
    command
        ->add_option("--zeus-plain", o.zeus_plain,
                     "Answer Zeus's routes, which know neither TLS nor tokens, on this address too (else on "
                     "loopback only)")
        ->type_name("ADDR:PORT")
        ->group(security);
    const std::string rules = "Rules of jobs";
    const auto seconds = [&](const char* flag, std::optional<double>& to, const char* what,
                             CLI::Range range) {
      command->add_option(flag, to, what)->type_name("S")->check(range)->group(rules);
    };
    seconds("--rank-ttl", rank_ttl_s_, "A rank that is silent for so long is gone, s (default 30)",
            CLI::Range(1.0, 86'400.0));
    seconds("--plan-ttl", plan_ttl_s_, "Ranks keep a plan so long without the server, s (default 300)",
            CLI::Range(1.0, 86'400.0));
    seconds("--min-hold", min_hold_s_, "Least time from one change to the next slow-down, s (default 60)",
            CLI::Range(0.0, 86'400.0));
    seconds("--reprofile-interval", reprofile_interval_s_,
            "Least time from the end of a job's sweep to its next one, s (default 1800)",
            CLI::Range(0.0, 31'536'000.0));
    command
        ->add_option("--hysteresis", o.hysteresis, "Smaller changes of T' are noise (default 0.02, a share)")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 1.0))
        ->group(rules);
    command
        ->add_option("--max-connections", o.max_connections, "Further connections are closed (default 12000)")
        ->type_name("N")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1'000'000}))
        ->group(rules);
    command->footer(
        "Logs are lines of JSON on standard error. SIGTERM ends it in order.\n\nExample:\n  perseus serve "
        "--state "
        "/var/lib/perseus --listen 127.0.0.1:7787");
    return command;
  }

  core::Status run(const Io& io) override {
    const auto seconds = [](const std::optional<double>& s) {
      return s ? std::optional(core::Seconds(*s)) : std::nullopt;
    };
    options_.rank_ttl = seconds(rank_ttl_s_);
    options_.plan_ttl = seconds(plan_ttl_s_);
    options_.min_hold = seconds(min_hold_s_);
    options_.reprofile_interval = seconds(reprofile_interval_s_);
    const auto log = [&io](std::string_view line) { io.err << line << '\n' << std::flush; };
    PERSEUS_ASSIGN_OR_RETURN(const auto server, server::Server::start(options_, log));
    server->run();
    return {};
  }

 private:
  server::ServerOptions options_;
  std::optional<double> rank_ttl_s_, plan_ttl_s_, min_hold_s_, reprofile_interval_s_;
};

}  // namespace

std::unique_ptr<Command> make_serve_command() {
  return std::make_unique<ServeCommand>();
}

}  // namespace perseus::cli
