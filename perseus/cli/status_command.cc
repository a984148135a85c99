// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <ostream>
#include <thread>

#include "perseus/cli/command.h"
#include "perseus/cli/table.h"
#include "perseus/server/api_client.h"

namespace perseus::cli {
namespace {

/// A value of the environment, or what stands for "not given".
std::optional<std::string> environment(const char* name) {
  const char* value =
      std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread, before anything is started
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

std::string figure(const std::optional<core::Seconds>& time, const std::optional<core::Joules>& energy) {
  const std::string left = time ? seconds_text(*time) + " s" : "-";
  return energy ? fmt::format("{}, {:.0f} J", left, energy->value()) : left;
}

std::string saving(const server::JobRow& job) {
  if (!job.intrinsic_pct || !job.extrinsic_pct) return "-";
  return fmt::format("{:.1f} + {:.1f} %", *job.intrinsic_pct, *job.extrinsic_pct);
}

std::string state_text(const server::JobRow& job) {
  std::string out = job.state;
  if (job.state == "profiling") out += fmt::format(" {}/{}", job.windows_done, job.windows_planned);
  if (job.state == "planning" && job.planned_pct) out += fmt::format(" {:.0f} %", *job.planned_pct);
  if (job.dry_run) out += " (dry run)";
  return out;
}

std::string jobs_table(const std::vector<server::JobRow>& jobs) {
  if (jobs.empty()) return "no jobs\n";
  Table table({"job", "state", "schedule", "ranks", "plan", "stragglers", "predicted", "measured",
               "saved (predicted: intrinsic + extrinsic)"});
  std::string errors;
  for (const server::JobRow& job : jobs) {
    table.row({job.job, state_text(job), job.schedule, fmt::format("{}/{}", job.ranks_live, job.ranks_known),
               fmt::format("{}", job.generation), fmt::format("{}", job.stragglers),
               figure(job.predicted_time, job.predicted_energy),
               figure(job.measured_time, job.measured_energy), saving(job)});
    if (job.planner_error) errors += fmt::format("{}: the planner failed: {}\n", job.job, *job.planner_error);
  }
  return table.text() + errors;
}

class StatusCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("status", "Show the jobs of a server");
    command->add_option("--server", url_, "Server (default: PERSEUS_SERVER, or http://127.0.0.1:7787)")
        ->type_name("URL");
    command->add_option("--token-file", token_file_, "File with a bearer token (default: PERSEUS_TOKEN_FILE)")
        ->type_name("FILE");
    command
        ->add_option("--ca-file", ca_file_,
                     "Authorities for https, PEM (default: PERSEUS_CA_FILE, or the system's)")
        ->type_name("FILE");
    auto* json = command->add_flag("--json", json_, "The server's own answer");
    command->add_option("--watch", watch_s_, "Ask again every S seconds until interrupted")
        ->type_name("S")
        ->check(CLI::Range(0.1, 3600.0))
        ->excludes(json);
    command->footer("Example:\n  perseus status --server http://127.0.0.1:7787 --watch 2");
    return command;
  }

  core::Status run(const Io& io) override {
    const std::string url = url_ ? *url_ : environment("PERSEUS_SERVER").value_or("http://127.0.0.1:7787");
    PERSEUS_ASSIGN_OR_RETURN(const server::ServerUrl at, server::parse_server_url(url));
    server::GetOptions options{.ca_file = ca_file_ ? ca_file_ : environment("PERSEUS_CA_FILE")};
    if (const auto file = token_file_ ? token_file_ : environment("PERSEUS_TOKEN_FILE")) {
      PERSEUS_ASSIGN_OR_RETURN(options.token, server::read_token_file(*file));
    }
    while (true) {
      PERSEUS_ASSIGN_OR_RETURN(const std::string body, server::get(at, "/api/v1/jobs", options));
      if (json_) {
        io.out << body << '\n';
        return {};
      }
      PERSEUS_ASSIGN_OR_RETURN(const auto jobs, server::parse_jobs(body));
      // On a terminal the table is drawn over the last one.
      if (watch_s_ && io.err_is_terminal) io.out << "\033[H\033[2J";
      io.out << jobs_table(jobs) << std::flush;
      if (!watch_s_) return {};
      std::this_thread::sleep_for(std::chrono::duration<double>(*watch_s_));
    }
  }

 private:
  std::optional<std::string> url_, token_file_, ca_file_;
  bool json_ = false;
  std::optional<double> watch_s_;
};

}  // namespace

std::unique_ptr<Command> make_status_command() {
  return std::make_unique<StatusCommand>();
}

}  // namespace perseus::cli
