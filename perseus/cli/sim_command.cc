// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <ostream>
#include <random>

#include "perseus/cli/command.h"
#include "perseus/cli/sim_gpu.h"
#include "perseus/cli/sim_library.h"
#include "perseus/cli/table.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/report/json_out.h"
#include "perseus/simgpu/node.h"

namespace perseus::cli {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  return value != nullptr ? value : "";
}

/// A name that no other node of this machine has: in memory, private to the user where the system has such a
/// place.
std::string new_state_path() {
  std::string folder = environment("XDG_RUNTIME_DIR");
  std::error_code error;
  if (folder.empty() || !std::filesystem::is_directory(folder, error)) folder = "/dev/shm";
  std::random_device random;
  return fmt::format("{}/perseus-sim-{}-{:08x}", folder, ::getuid(), random());
}

std::string faults_text(const std::vector<simgpu::Fault>& faults) {
  std::string text;
  for (const simgpu::Fault& fault : faults) text += (text.empty() ? "" : " ") + simgpu::fault_text(fault);
  return text.empty() ? "-" : text;
}

std::string clock_text(std::optional<core::Megahertz> clock) {
  return clock ? fmt::format("{}", clock->value()) : "-";
}

/// One of the commands under `perseus sim`.
class Part {
 public:
  Part() = default;
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  virtual ~Part() = default;
  virtual CLI::App* declare(CLI::App& sim) = 0;
  virtual core::Status run(const Io& io) = 0;

 protected:
  void declare_path(CLI::App& command) {
    command.add_option("--path", path_, "State file of the simulated machine (default: $PERSEUS_SIM)")
        ->type_name("FILE");
  }
  void declare_gpu(CLI::App& command) {
    command.add_option("--gpu", gpu_, "Index of the GPU")->type_name("I")->required();
  }
  [[nodiscard]] core::Result<simgpu::Node> open() const {
    return path_.empty() ? simgpu::Node::open_environment() : simgpu::Node::open(path_);
  }
  /// The node, which must have the GPU.
  [[nodiscard]] core::Result<simgpu::Node> open_with_gpu() const {
    PERSEUS_ASSIGN_OR_RETURN(simgpu::Node node, open());
    if (gpu_ < node.gpu_count()) return node;
    return core::fail(
        core::ErrorCode::kInvalidInput,
        fmt::format("{} is not from 0 to {}, the GPUs of {}", gpu_, node.gpu_count() - 1, node.path()),
        {"--gpu"});
  }

  std::string path_;
  std::uint32_t gpu_ = 0;
};

class CreatePart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command =
        sim.add_subcommand("create", "Make a simulated machine; print the environment that shows it");
    command->add_option("--gpus", gpus_, "GPUs of the machine, 1 to 64 (default 8)")->type_name("N");
    command->add_option("--gpu-model", gpu_model_, "GPU product by name (listed below)")
        ->type_name("NAME")
        ->required();
    command->add_option("--seed", spec_.seed, "Seed of UUIDs and switch latencies (default 1)")
        ->type_name("N");
    command->add_option("--time-scale", spec_.time_scale, "Simulated seconds in one real second (default 1)")
        ->type_name("X");
    command->add_flag("--every-user", spec_.every_user,
                      "All users may use the GPUs (file mode 0666 instead of 0600)");
    command->add_option("--path", path_, "State file to make (default: a new one in memory)")
        ->type_name("FILE");
    std::string footer = "GPU models: ";
    for (const auto& g : model::gpus()) footer += fmt::format(" {}", g.name);
    command->footer(footer +
                    "\n\nExample:\n  eval \"$(perseus sim create --gpus 8 --gpu-model a100-sxm-80g)\"");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const model::GpuModel* gpu, model::find_gpu(gpu_model_));
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::GpuSpec gpu_spec, simulated_gpu(*gpu));
    PERSEUS_ASSIGN_OR_RETURN(const std::string library, find_sim_library());
    if (gpus_ < 1 || gpus_ > 64) {
      return core::fail(core::ErrorCode::kInvalidInput, fmt::format("{} is not from 1 to 64", gpus_),
                        {"--gpus"});
    }
    spec_.gpus.assign(gpus_, gpu_spec);
    // Whoever uses the file later may run in another folder.
    std::error_code error;
    const auto path = std::filesystem::absolute(path_.empty() ? new_state_path() : path_, error);
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Node node, simgpu::Node::create(path.string(), spec_));
    const std::string folder = std::filesystem::path(library).parent_path().string();
    const std::string before = environment("LD_LIBRARY_PATH");
    io.out << export_line(simgpu::kEnvironment, node.path()) << export_line(kSimLibraryEnvironment, library)
           << export_line("LD_LIBRARY_PATH", before.empty() ? folder : folder + ":" + before);
    return {};
  }

 private:
  std::uint32_t gpus_ = 8;
  std::string gpu_model_;
  simgpu::NodeSpec spec_;
};

class ShowPart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command = sim.add_subcommand("show", "What the simulated GPUs do at this moment");
    declare_path(*command);
    command->add_flag("--json", json_, "Print JSON");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Node node, open());
    std::vector<simgpu::Identity> identities;
    std::vector<simgpu::Observation> seen;
    for (std::uint32_t i = 0; i < node.gpu_count(); ++i) {
      PERSEUS_ASSIGN_OR_RETURN(auto identity, node.identity(i));
      PERSEUS_ASSIGN_OR_RETURN(auto observation, node.observe(i));
      identities.push_back(std::move(identity));
      seen.push_back(std::move(observation));
    }
    io.out << (json_ ? json(identities, seen) : table(identities, seen));
    return {};
  }

 private:
  static std::string json(const std::vector<simgpu::Identity>& identities,
                          const std::vector<simgpu::Observation>& seen) {
    report::JsonOut out;
    out.begin_object().key("gpus").begin_array();
    for (std::size_t i = 0; i < seen.size(); ++i) {
      out.begin_object()
          .key("index")
          .number(identities[i].index)
          .key("uuid")
          .text(identities[i].uuid)
          .key("locked_mhz");
      seen[i].locked ? out.number(seen[i].locked->value()) : out.null();
      out.key("sm_clock_mhz").number(seen[i].sm_clock.value());
      out.key("power_w").number(seen[i].power.value()).key("energy_j").number(seen[i].energy.value());
      out.key("faults").begin_array();
      for (const simgpu::Fault& fault : seen[i].faults) out.text(simgpu::fault_text(fault));
      out.end_array().end_object();
    }
    out.end_array().end_object();
    return out.take() + "\n";
  }

  static std::string table(const std::vector<simgpu::Identity>& identities,
                           const std::vector<simgpu::Observation>& seen) {
    Table table({"gpu", "name", "uuid", "locked MHz", "SM MHz", "W", "J", "C", "load", "faults"});
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const simgpu::Observation& now = seen[i];
      table.row({fmt::format("{}", identities[i].index), identities[i].name, identities[i].uuid,
                 clock_text(now.locked), fmt::format("{}", now.sm_clock.value()),
                 fmt::format("{:.1f}", now.power.value()), fmt::format("{:.3f}", now.energy.value()),
                 fmt::format("{:.1f}", now.temperature.value()), percent_text(now.utilization),
                 faults_text(now.faults)});
    }
    return table.text();
  }

  bool json_ = false;
};

class FaultPart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command =
        sim.add_subcommand("fault", "Let something go wrong with a simulated GPU, or clear it");
    declare_path(*command);
    declare_gpu(*command);
    command->add_option("fault", fault_, "NAME or NAME=VALUE (listed below)")->type_name("FAULT");
    command->add_flag("--clear", clear_, "Clear the named fault, or all faults of the GPU");
    std::string footer = "Faults:\n";
    for (const simgpu::FaultInfo& row : simgpu::fault_table()) {
      const std::string name = std::string(row.name) + std::string(row.value);
      footer += fmt::format("  {:<19} {}\n", name, row.meaning);
    }
    command->footer(
        footer +
        "\nExample:\n  perseus sim fault --gpu 0 slow=0.5\n  perseus sim fault --gpu 0 --clear slow");
    return command;
  }

  core::Status run(const Io& /*io*/) override {
    PERSEUS_ASSIGN_OR_RETURN(simgpu::Node node, open_with_gpu());
    if (clear_) {
      if (fault_.empty()) return node.clear_faults(gpu_);
      PERSEUS_ASSIGN_OR_RETURN(const simgpu::FaultKind kind, simgpu::parse_fault_name(fault_));
      return node.clear_fault(gpu_, kind);
    }
    if (fault_.empty())
      return core::fail(core::ErrorCode::kUsage, "which fault? NAME, NAME=VALUE or --clear");
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Fault fault, simgpu::parse_fault(fault_));
    return node.inject(gpu_, fault);
  }

 private:
  std::string fault_;
  bool clear_ = false;
};

class RunPart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command = sim.add_subcommand("run", "Run a simulated computation and wait for its end");
    declare_path(*command);
    declare_gpu(*command);
    command->add_option("--work", seconds_, "Seconds that it takes at the top clock")
        ->type_name("S")
        ->required();
    command
        ->add_option("--memory-bound", work_.memory_bound,
                     "Share of that time that does not scale with the clock (default 0)")
        ->type_name("X");
    command
        ->add_option(
            "--utilization", utilization_,
            "Share of the SMs' dynamic power (default: what the power limit allows at the top clock)")
        ->type_name("X");
    command
        ->add_option("--memory-utilization", work_.memory_utilization,
                     "Share of the memory's power (default 0)")
        ->type_name("X");
    command->add_flag("--json", json_, "Print JSON");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(simgpu::Node node, open_with_gpu());
    work_.duration = core::Seconds(seconds_);
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::GpuSpec spec, node.spec(gpu_));
    work_.utilization = utilization_.value_or(simgpu::sustained_utilization(spec, work_.memory_utilization));
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Completion done, node.run(gpu_, work_));
    if (!json_) {
      io.out << fmt::format("{} s, {:.3f} J (simulated)\n", seconds_text(done.time), done.energy.value());
      return {};
    }
    report::JsonOut out;
    out.begin_object()
        .key("time_s")
        .number(done.time.value())
        .key("energy_j")
        .number(done.energy.value())
        .end_object();
    io.out << out.take() << '\n';
    return {};
  }

 private:
  double seconds_ = 0;
  std::optional<double> utilization_;
  simgpu::Work work_;
  bool json_ = false;
};

class HistoryPart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command =
        sim.add_subcommand("history", "The setting calls that a simulated GPU got, oldest first");
    declare_path(*command);
    declare_gpu(*command);
    command->add_flag("--json", json_, "Print JSON");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Node node, open_with_gpu());
    PERSEUS_ASSIGN_OR_RETURN(const auto entries, node.history(gpu_));
    io.out << (json_ ? json(entries) : table(entries));
    return {};
  }

 private:
  static std::string json(const std::vector<simgpu::HistoryEntry>& entries) {
    report::JsonOut out;
    out.begin_object().key("calls").begin_array();
    for (const simgpu::HistoryEntry& entry : entries) {
      out.begin_object().key("monotonic_ns").number(entry.real_ns).key("simulated_ns").number(entry.time_ns);
      out.key("pid").number(entry.pid).key("call").text(simgpu::setting_name(entry.call));
      out.key("low_mhz").number(entry.low.value()).key("high_mhz").number(entry.high.value());
      out.key("value").number(entry.value).key("result").text(simgpu::answer_name(entry.answer)).end_object();
    }
    out.end_array().end_object();
    return out.take() + "\n";
  }

  static std::string table(const std::vector<simgpu::HistoryEntry>& entries) {
    Table table({"simulated s", "pid", "call", "low MHz", "high MHz", "value", "result"});
    for (const simgpu::HistoryEntry& entry : entries) {
      table.row({fmt::format("{:.6f}", static_cast<double>(entry.time_ns) * 1e-9),
                 fmt::format("{}", entry.pid), std::string(simgpu::setting_name(entry.call)),
                 fmt::format("{}", entry.low.value()), fmt::format("{}", entry.high.value()),
                 fmt::format("{}", entry.value), std::string(simgpu::answer_name(entry.answer))});
    }
    return table.text();
  }

  bool json_ = false;
};

class DestroyPart final : public Part {
 public:
  CLI::App* declare(CLI::App& sim) override {
    CLI::App* command =
        sim.add_subcommand("destroy", "Remove the simulated machine; its users see an unloaded driver");
    declare_path(*command);
    return command;
  }

  core::Status run(const Io& /*io*/) override {
    // Opened first, for the refusal of what is no state file.
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Node node, open());
    return simgpu::Node::destroy(node.path());
  }
};

class SimCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("sim", "Simulated GPUs that unmodified NVML programs see");
    command->require_subcommand(1);
    for (auto& [part, subcommand] : parts_) subcommand = part->declare(*command);
    command->footer(
        "`perseus sim COMMAND --help` shows a command's flags. What is simulated: docs/simulated_gpu.md.");
    return command;
  }

  core::Status run(const Io& io) override {
    for (auto& [part, subcommand] : parts_) {
      if (subcommand->parsed()) return part->run(io);
    }
    return core::fail(core::ErrorCode::kUsage, "which command of sim?");
  }

 private:
  template <class... Parts>
  static std::vector<std::pair<std::unique_ptr<Part>, CLI::App*>> make() {
    std::vector<std::pair<std::unique_ptr<Part>, CLI::App*>> parts;
    (parts.emplace_back(std::make_unique<Parts>(), nullptr), ...);
    return parts;
  }
  std::vector<std::pair<std::unique_ptr<Part>, CLI::App*>> parts_ =
      make<CreatePart, ShowPart, FaultPart, RunPart, HistoryPart, DestroyPart>();
};

}  // namespace

std::unique_ptr<Command> make_sim_command() {
  return std::make_unique<SimCommand>();
}

}  // namespace perseus::cli
