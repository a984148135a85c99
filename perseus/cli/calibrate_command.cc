// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <ostream>
#include <thread>

#include "perseus/cli/command.h"
#include "perseus/cli/table.h"
#include "perseus/client/agent_link.h"
#include "perseus/client/clock_link.h"
#include "perseus/client/guard_link.h"
#include "perseus/format/calibration_json.h"
#include "perseus/format/files.h"
#include "perseus/gpu/backend.h"
#include "perseus/gpu/calibration.h"
#include "perseus/simgpu/node.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::cli {
namespace {

using client::ClockHold;
using client::ClockLink;
using client::HoldState;
using core::ErrorCode;
using core::Megahertz;
using core::Seconds;
using namespace std::chrono_literals;

/// For the lease and for each clock to be set; as `perseus lease`.
constexpr auto kPatience = 10s;
/// Between two looks at whether the guardian has set a clock: short beside a switch, which takes
/// milliseconds.
constexpr auto kLook = 50us;
/// A simulated computation that outlasts any calibration; the driver drops it when this process ends.
constexpr Seconds kSimulatedWork{1e6};
/// Light enough that the power limit does not hold the highest clocks down. Assumed.
constexpr double kSimulatedLoad = 0.3;

constexpr const char* kFooter =
    "The GPU must be busy meanwhile, or its clock does not move: run steady work on it, such as a matrix\n"
    "multiplication in a loop. On the simulated driver this command runs simulated work itself.\n"
    "The clock is held through a guardian process (or, with --socket, through the agent) and comes back "
    "whatever\n"
    "happens.\n\n"
    "Example:\n  perseus calibrate --gpu 0 --clocks 8 -o gpu0-calibration.json";

/// The time now, in UTC.
std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

/// Asks for the clock and returns when the driver has said yes to the one who holds the GPU for us.
core::Status set_through(ClockHold& hold, Megahertz clock) {
  hold.want(clock);
  const auto deadline = wire::deadline_in(kPatience);
  while (true) {
    const HoldState state = hold.state();
    if (state == HoldState::kApplied) return {};
    if (state == HoldState::kNoEffect) return {};  // that it does not follow is what is measured here
    if (state != HoldState::kWaiting) {
      return core::fail(ErrorCode::kDriver,
                        fmt::format("{} MHz could not be set: {}", clock.value(),
                                    state == HoldState::kEnded ? hold.ended_reason()
                                                               : "the driver or another owner refuses"));
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return core::fail(ErrorCode::kTimeout,
                        fmt::format("{} MHz was not set within {} s", clock.value(), kPatience.count()));
    }
    std::this_thread::sleep_for(kLook);
  }
}

std::string milliseconds(Seconds time) {
  return fmt::format("{:.2f}", time.value() * 1e3);
}

std::string period_text(const std::optional<format::ReadingPeriod>& period) {
  return period ? fmt::format("every {} ms (longest {} ms)", milliseconds(period->median),
                              milliseconds(period->longest))
                : std::string("no changes seen");
}

class CalibrateCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("calibrate", "Measure how fast a GPU follows its clock");
    command->add_option("--gpu", gpu_, "Index of the GPU")->type_name("I")->required();
    command->add_option("--backend", backend_, "nvml, amd, sim or auto (default auto)")->type_name("NAME");
    command
        ->add_option("--clocks", clocks_,
                     "Number of target clocks, spread over all that it offers (default 6)")
        ->type_name("N")
        ->check(CLI::Range(2U, 256U).description(""));
    command->add_option("--tries", tries_, "Switches of each ordered pair of clocks (default 5)")
        ->type_name("N")
        ->check(CLI::Range(1U, 1000U).description(""));
    command->add_option("--seed", seed_, "Of the order of the switches (default 1)")->type_name("N");
    command
        ->add_option("--socket", socket_,
                     "Hold the GPU through the agent at this socket (default: a guardian)")
        ->type_name("PATH");
    command->add_option("--state-dir", state_dir_, "Folder of the guardian's journal")->type_name("DIR");
    command->add_option("-o,--output", output_, "File to write")->type_name("FILE")->required();
    command->add_flag("--json", json_, "Print the file's content instead of a table");
    command->footer(kFooter);
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const gpu::BackendKind kind, gpu::parse_backend(backend_));
    if (kind == gpu::BackendKind::kCommand) {
      return core::fail(ErrorCode::kUnsupported,
                        "'command' has no options here; calibrate through the agent that "
                        "has them (--socket), with nvml for reading",
                        {"--backend"});
    }
    PERSEUS_ASSIGN_OR_RETURN(const auto backend, gpu::open_backend({.kind = kind}));
    PERSEUS_ASSIGN_OR_RETURN(gpu::Device* const device, gpu::find_device(*backend, gpu_));
    PERSEUS_ASSIGN_OR_RETURN(const auto work, simulated_work(kind));
    PERSEUS_ASSIGN_OR_RETURN(const auto link, ClockLink::open(endpoint(), {.client = "perseus calibrate"},
                                                              wire::deadline_in(kPatience)));
    PERSEUS_ASSIGN_OR_RETURN(
        ClockHold* const hold,
        link->acquire(device->identity().uuid, "perseus calibrate", wire::deadline_in(kPatience)));
    auto result = measure(io, *device, *hold);
    const core::Status released = link->release(*hold, wire::deadline_in(kPatience));
    io.progress_done();
    if (!result) return std::unexpected(std::move(result).error());
    result->backend = backend->name();
    result->driver_version = backend->driver_version();
    result->measured_at = utc_now();
    result->load = work ? "simulated work" : "whatever ran on it";
    const std::string text = format::write_calibration_json(*result);
    PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(output_, text));
    PERSEUS_RETURN_IF_ERROR(released);  // a clock that may not be back is an error, whatever was measured
    if (json_) {
      io.out << text;
    } else {
      show(io, *device, *result);
    }
    return {};
  }

 private:
  /// On the simulated driver: a computation that keeps the GPU busy until this process ends.
  core::Result<std::optional<simgpu::Node>> simulated_work(gpu::BackendKind kind) const {
    if (kind != gpu::BackendKind::kSim) return std::optional<simgpu::Node>();
    PERSEUS_ASSIGN_OR_RETURN(simgpu::Node node, simgpu::Node::open_environment());
    PERSEUS_RETURN_IF_ERROR(node.enqueue(gpu_, {.duration = kSimulatedWork, .utilization = kSimulatedLoad}));
    return std::optional(std::move(node));
  }

  [[nodiscard]] std::unique_ptr<client::Endpoint> endpoint() const {
    if (!socket_.empty()) return std::make_unique<client::AgentEndpoint>(socket_);
    return std::make_unique<client::GuardEndpoint>(
        client::GuardOptions{.program = {}, .backend = backend_, .state_dir = state_dir_});
  }

  core::Result<format::Calibration> measure(const Io& io, gpu::Device& device, ClockHold& hold) const {
    // Of the clocks that we may set: the site may allow fewer than the GPU offers.
    const gpu::CalibrationPlan plan{
        .targets = gpu::spread_targets(hold.clocks(), clocks_), .tries = tries_, .seed = seed_};
    return gpu::calibrate(
        device, [&hold](Megahertz clock) { return set_through(hold, clock); }, gpu::steady_time(), plan,
        [&io](double share) { io.progress(share, "switching clocks"); });
  }

  void show(const Io& io, const gpu::Device& device, const format::Calibration& result) const {
    Table table({"clock MHz", "switches", "median ms", "p95 ms", "longest ms", "not settled", "throttled"});
    for (const auto& target : result.targets) {
      const auto cell = [&](Seconds format::SwitchLatency::* member) {
        return target.latency ? milliseconds(*target.latency.*member) : std::string("-");
      };
      table.row({fmt::format("{}", target.clock.value()), fmt::format("{}", target.samples),
                 cell(&format::SwitchLatency::median), cell(&format::SwitchLatency::p95),
                 cell(&format::SwitchLatency::longest), fmt::format("{}", target.unsettled),
                 fmt::format("{}", target.throttled)});
    }
    io.out << fmt::format("GPU {} ({}), {}\n", gpu_, device.identity().uuid, result.name) << table.text()
           << fmt::format("energy {}: {}\npower: {}\n",
                          result.energy_counter ? "counter" : "(integrated power)",
                          result.energy_counter ? period_text(result.energy_period) : "no period of its own",
                          period_text(result.power_period));
  }

  std::uint32_t gpu_ = 0;
  std::string backend_ = "auto";
  std::uint32_t clocks_ = 6;
  std::uint32_t tries_ = 5;
  std::uint64_t seed_ = 1;
  std::string socket_;
  std::string state_dir_;
  std::string output_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_calibrate_command() {
  return std::make_unique<CalibrateCommand>();
}

}  // namespace perseus::cli
