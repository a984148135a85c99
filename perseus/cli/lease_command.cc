// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <ostream>
#include <thread>

#include "perseus/cli/child_process.h"
#include "perseus/cli/command.h"
#include "perseus/client/agent_link.h"
#include "perseus/client/clock_link.h"
#include "perseus/client/guard_link.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::cli {
namespace {

using client::ClockHold;
using client::ClockLink;
using client::HoldState;
using core::ErrorCode;
using namespace std::chrono_literals;

/// For connecting, taking the lease, the first clock and the release: a driver call takes tens of
/// milliseconds, loading a driver's library and starting a guardian up to seconds (assumed).
constexpr auto kPatience = 10s;
/// Between two looks at a clock that is being set.
constexpr auto kLook = 2ms;
/// Between two looks at the lease while the command runs.
constexpr auto kWatch = 500ms;

constexpr const char* kFooter =
    "The clock comes back when the command ends, and when it, `perseus lease` or both are killed. The exit "
    "status is\n"
    "the command's, or 128 and the number of the signal that killed it; 127 if it cannot be run.\n\n"
    "Example:\n  perseus lease --gpu 0 --clock 900 -- python3 train.py";

std::string mhz_list(const std::vector<core::Megahertz>& clocks) {
  const auto step = clocks.size() < 2 ? 0 : clocks[1].value() - clocks[0].value();
  bool even = clocks.size() > 3;
  for (std::size_t i = 1; i < clocks.size(); ++i)
    even = even && clocks[i].value() - clocks[i - 1].value() == step;
  if (even)
    return fmt::format("{} to {} MHz in steps of {}", clocks.front().value(), clocks.back().value(), step);
  std::string out;
  for (const core::Megahertz clock : clocks)
    out += fmt::format("{}{}", out.empty() ? "" : ", ", clock.value());
  return out + " MHz";
}

/// What stands against this state of a hold, or nothing.
std::optional<core::Error> complaint(HoldState state, const ClockHold& hold) {
  switch (state) {
    case HoldState::kRefused:
      return core::Error(ErrorCode::kInvalidInput, "the clock was refused");
    case HoldState::kFailed:
      return core::Error(ErrorCode::kDriver,
                         "the driver refused to set the clock; the GPU is at its baseline");
    case HoldState::kYielded:
      return core::Error(ErrorCode::kBusy, "somebody else sets this GPU's clock");
    case HoldState::kNoEffect:
      return core::Error(ErrorCode::kUnsupported,
                         "the driver accepts the clock, but the GPU does not follow");
    case HoldState::kEnded:
      return core::Error(ErrorCode::kBusy, fmt::format("the lease is over: {}", hold.ended_reason()));
    case HoldState::kLost:
      return core::Error(ErrorCode::kIo, "the lease was lost; it is asked for again");
    case HoldState::kWaiting:
    case HoldState::kApplied:
      break;
  }
  return std::nullopt;
}

class LeaseCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("lease", "Run a command while a GPU's clock is lowered");
    command->add_option("--gpu", gpu_, "GPU: its index or UUID")->type_name("GPU")->required();
    command->add_option("--clock", clock_, "Clock in MHz, one that the GPU offers")
        ->type_name("MHZ")
        ->check(CLI::Range(1U, 65'535U).description(""))
        ->required();
    command->add_option("--socket", socket_, "The agent's socket")->type_name("PATH")->capture_default_str();
    command->add_option("--job", job_, "What others see as the owner (default: the command's name)")
        ->type_name("NAME");
    auto* direct = command->add_flag("--direct", direct_,
                                     "Without an agent, by a guardian; needs the right to set clocks");
    command->add_option("--backend", backend_, "With --direct: nvml, amd, sim, command or auto")
        ->type_name("NAME")
        ->needs(direct);
    command->add_option("--state-dir", state_dir_, "With --direct: folder of the journal")
        ->type_name("DIR")
        ->needs(direct);
    command->add_flag("--quiet", quiet_, "Say nothing unless something goes wrong");
    command->add_option("COMMAND", arguments_, "The command and its arguments, after --")->required();
    command->footer(kFooter);
    return command;
  }

  core::Status run(const Io& io) override {
    const SignalRelay relay;
    if (job_.empty()) job_ = arguments_.front().substr(arguments_.front().rfind('/') + 1);
    PERSEUS_ASSIGN_OR_RETURN(const auto link, ClockLink::open(endpoint(), {.client = "perseus lease"},
                                                              wire::deadline_in(kPatience)));
    PERSEUS_ASSIGN_OR_RETURN(ClockHold* const hold, link->acquire(gpu_, job_, wire::deadline_in(kPatience)));
    if (const core::Status status = lower(*hold); !status) {
      static_cast<void>(
          link->release(*hold, wire::deadline_in(kPatience)));  // the first error is what counts
      return status;
    }
    say(io, fmt::format("{} at {} MHz, through {}", name(*hold), clock_, link->peer()));
    const core::Status status = run_under(io, *hold, relay);
    if (const core::Status released = link->release(*hold, wire::deadline_in(kPatience)); !released) {
      warn(io, released.error().text());
    } else {
      say(io, fmt::format("{} back at {}", name(*hold), baseline(*hold)));
    }
    return status;
  }

  [[nodiscard]] int exit_code() const override { return exit_code_; }

 private:
  [[nodiscard]] std::unique_ptr<client::Endpoint> endpoint() const {
    if (!direct_) return std::make_unique<client::AgentEndpoint>(socket_);
    return std::make_unique<client::GuardEndpoint>(
        client::GuardOptions{.program = {}, .backend = backend_, .state_dir = state_dir_});
  }

  [[nodiscard]] std::string name(const ClockHold& hold) const {
    return gpu_ == hold.gpu() ? gpu_ : fmt::format("GPU {} ({})", gpu_, hold.gpu());
  }
  [[nodiscard]] static std::string baseline(const ClockHold& hold) {
    return hold.baseline() ? fmt::format("{} MHz", hold.baseline()->value()) : "its default clock";
  }

  void say(const Io& io, const std::string& line) const {
    if (!quiet_) io.err << "perseus lease: " << line << '\n' << std::flush;
  }
  static void warn(const Io& io, const std::string& line) {
    io.err << "perseus lease: warning: " << line << '\n' << std::flush;
  }

  /// Sets the clock and waits until the driver has said yes.
  core::Status lower(ClockHold& hold) const {
    const core::Megahertz clock(clock_);
    if (!std::ranges::binary_search(hold.clocks(), clock)) {
      return core::fail(
          ErrorCode::kInvalidInput,
          fmt::format("{} does not offer {} MHz; it offers {}", name(hold), clock_, mhz_list(hold.clocks())),
          {"--clock"});
    }
    hold.want(clock);
    const auto deadline = wire::deadline_in(kPatience);
    for (HoldState state = hold.state(); state != HoldState::kApplied; state = hold.state()) {
      if (const auto error = complaint(state, hold)) return std::unexpected(*error);
      if (std::chrono::steady_clock::now() >= deadline) {
        return core::fail(ErrorCode::kTimeout,
                          fmt::format("the driver has not set the clock within {} s", kPatience.count()));
      }
      std::this_thread::sleep_for(kLook);
    }
    return {};
  }

  core::Status run_under(const Io& io, const ClockHold& hold, const SignalRelay& relay) {
    auto child = ChildProcess::start(arguments_, relay);
    if (!child) {
      // As env(1) and timeout(1) do: the status tells a command that cannot be run from one that has failed.
      io.err << "perseus: error: " << child.error().text() << '\n';
      constexpr int kCannotRun = 127;
      exit_code_ = kCannotRun;
      return {};
    }
    HoldState known = HoldState::kApplied;
    std::uint32_t known_losses = 0;
    while (!child->exit_code()) {
      child->turn(kWatch);
      const HoldState state = hold.state();
      const std::uint32_t losses = hold.reacquired();  // those that were over between two looks, too
      const bool changed =
          state != std::exchange(known, state) || losses != std::exchange(known_losses, losses);
      if (!changed) continue;
      if (const auto error = complaint(state, hold)) {
        warn(io, fmt::format("{}; the command goes on", error->text()));
      } else if (state == HoldState::kApplied) {
        say(io, fmt::format("{} at {} MHz again", name(hold), clock_));
      }
    }
    exit_code_ = *child->exit_code();
    return {};
  }

  std::string gpu_;
  std::uint32_t clock_ = 0;
  std::string socket_ = std::string(client::kDefaultAgentSocket);
  std::string job_;
  bool direct_ = false;
  std::string backend_ = "auto";
  std::string state_dir_;
  bool quiet_ = false;
  std::vector<std::string> arguments_;
  int exit_code_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_lease_command() {
  return std::make_unique<LeaseCommand>();
}

}  // namespace perseus::cli
