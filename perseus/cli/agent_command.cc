// SPDX-License-Identifier: Apache-2.0
//
// `perseus agent ARGUMENTS...`: the agent is an executable of its own, since it runs as root and links
// little; this command becomes it.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "perseus/cli/command.h"
#include "perseus/client/guard_link.h"

namespace perseus::cli {
namespace {

class AgentCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    app_ = app.add_subcommand("agent", "The node agent that leases GPU clocks (perseus agent --help)");
    // Everything that follows is the agent's own, --help too.
    app_->prefix_command();
    app_->set_help_flag();
    return app_;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const std::string program, client::find_agent_program());
    std::vector<std::string> arguments = app_->remaining();
    std::vector<char*> argv;
    std::string name = "perseus-agent";
    argv.push_back(name.data());
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    io.progress_done();
    ::execv(program.c_str(), argv.data());
    return core::fail(core::ErrorCode::kIo,
                      fmt::format("cannot be started: {}", std::generic_category().message(errno)),
                      {program});
  }

 private:
  CLI::App* app_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_agent_command() {
  return std::make_unique<AgentCommand>();
}

}  // namespace perseus::cli
