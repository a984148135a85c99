// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/cli/doctor.h"
#include "perseus/format/text.h"

namespace perseus::cli {
namespace {

constexpr const char* kFooter =
    "Changes nothing. Exit code 0: no problem; 1: at least one.\n\nExample:\n  sudo perseus doctor";

void print_text(const std::vector<Finding>& findings, std::ostream& out) {
  for (const Finding& finding : findings) {
    out << fmt::format("{:<8} {}: {}\n", health_name(finding.health), finding.what, finding.found);
    if (!finding.repair.empty()) out << fmt::format("         -> {}\n", finding.repair);
  }
}

void print_json(const std::vector<Finding>& findings, bool ok, std::ostream& out) {
  std::string text = fmt::format("{{\"ok\":{},\"checks\":[", ok);
  for (const Finding& finding : findings) {
    if (&finding != findings.data()) text += ',';
    text += fmt::format("{{\"name\":\"{}\",\"health\":\"{}\",\"found\":", finding.what,
                        health_name(finding.health));
    format::append_json_string(text, finding.found);
    text += ",\"repair\":";
    format::append_json_string(text, finding.repair);
    text += '}';
  }
  out << text << "]}\n";
}

class DoctorCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("doctor", "What this node lacks for the agent, and how to repair it");
    command->add_option("--backend", backend_, "nvml, amd, sim, command or auto (default auto)")
        ->type_name("NAME");
    command->add_option("--library", options_.backend.library, "Another path of the vendor's library")
        ->type_name("FILE");
    command->add_option("--socket", options_.socket, "The agent's socket")
        ->type_name("PATH")
        ->capture_default_str();
    command->add_option("--state-dir", options_.state_dir, "The agent's journal")
        ->type_name("DIR")
        ->capture_default_str();
    command->add_flag("--json", json_, "Print JSON");
    command->footer(kFooter);
    return command;
  }

  core::Status run(const Io& io) override {
    auto kind = gpu::parse_backend(backend_);
    if (!kind) return std::unexpected(kind.error().at({"--backend"}));
    options_.backend.kind = *kind;
    const std::vector<Finding> findings = examine(options_);
    const auto problems = std::ranges::count(findings, Health::kProblem, &Finding::health);
    if (json_) {
      print_json(findings, problems == 0, io.out);
    } else {
      print_text(findings, io.out);
    }
    if (problems == 0) return {};
    return core::fail(core::ErrorCode::kUnsupported,
                      fmt::format("{} problem{} on this node", problems, problems == 1 ? "" : "s"));
  }

 private:
  DoctorOptions options_;
  std::string backend_ = "auto";
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_doctor_command() {
  return std::make_unique<DoctorCommand>();
}

}  // namespace perseus::cli
