// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/cli/sim_gpu.h"
#include "perseus/cli/sim_library.h"
#include "perseus/cli/table.h"
#include "perseus/client/guard_link.h"
#include "perseus/demo/demo.h"
#include "perseus/model/gpu_zoo.h"

namespace perseus::cli {
namespace {

// Set by a signal handler.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

/// While it lives, signals that would end the program ask the demo to end in order instead.
class Interruption {
 public:
  Interruption() {
    interrupted = false;
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = true; };
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &former_[i]);
  }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &former_[i], nullptr);
  }

 private:
  static constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> former_{};
};

/// Lines that stay go to `out`; on a terminal the last line of standard error says what goes on.
class Lines final : public demo::Progress {
 public:
  Lines(const Io& io, bool json) : io_(io), out_(json ? io.err : io.out) {}
  void note(std::string_view line) override {
    wipe();
    out_ << line << '\n' << std::flush;
  }
  void live(std::string_view line) override {
    if (!io_.err_is_terminal) return;
    io_.err << "\r\033[K" << line << std::flush;
    drawn_ = true;
  }
  void wipe() {
    if (drawn_) io_.err << "\r\033[K" << std::flush;
    drawn_ = false;
  }

 private:
  const Io& io_;
  std::ostream& out_;
  bool drawn_ = false;
};

/// A program beside this one in the build tree, or where it was installed.
core::Result<std::string> find_rank_program() {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string places;
  for (const char* place : {"", "../libexec/perseus"}) {
    const auto path = (own.parent_path() / place / "perseus-demo-rank").lexically_normal();
    if (std::filesystem::exists(path, error)) return path.string();
    places += fmt::format("{}{}", places.empty() ? "" : " nor ", path.string());
  }
  return core::fail(core::ErrorCode::kNotFound, fmt::format("no training program at {}", places));
}

std::string own_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

std::string energy(core::Joules joules) {
  return fmt::format("{:.0f}", joules.value());
}

std::vector<std::string> row(std::string_view name, const demo::Measurement& m,
                             const demo::Figures& against) {
  return {std::string(name), fmt::format("{:.3f}", m.mean.time.value()), energy(m.mean.energy),
          fmt::format("{:.1f} %", 100 * (1 - m.mean.energy / against.energy)),
          fmt::format("{}", m.iterations)};
}

std::string result_text(const demo::DemoResult& r) {
  Table table({"simulated, per iteration of all pipelines", "time s", "energy J", "saved", "mean of"});
  table.row(row("all-max, without Perseus: measured", r.all_max, r.all_max.mean));
  table.row({"plan: predicted from the measured profile", fmt::format("{:.3f}", r.predicted.time.value()),
             energy(r.predicted.energy),
             fmt::format("{:.1f} %", 100 * (1 - r.predicted.energy / r.all_max.mean.energy)), "-"});
  table.row(row("plan: measured", r.measured, r.all_max.mean));
  table.row(row("straggler, others wait: measured", r.waiting, r.waiting.mean));
  table.row(row("straggler, new plan: measured", r.replanned, r.waiting.mean));
  table.row(row("straggler gone: measured", r.recovered, r.all_max.mean));
  std::string text = "\n" + table.text();
  text += fmt::format(
      "\nintrinsic saving {:.1f} % (measured on simulated GPUs: plan against all-max)\nextrinsic saving "
      "{:.1f} % more "
      "while a straggler makes iterations {:.2f} times as long (simulated; at equal iteration time)\n"
      "the straggler was {}; new plan {:.0f} ms later; GPUs left with a locked clock: {}\n",
      r.intrinsic_saved_pct(), r.extrinsic_saved_pct(), r.straggler_factor,
      r.announced ? "announced" : "detected", r.replan_ms, r.gpus_left_locked);
  text += fmt::format(
      "energy measured against predicted {:+.2f} % (bound {:.0f} %), time against all-max {:+.2f} % (bound "
      "{:.0f} %)\n",
      100 * (r.measured.mean.energy / r.predicted.energy - 1), 100 * demo::kEnergyAgreement,
      100 * (r.measured.mean.time / r.all_max.mean.time - 1), 100 * demo::kTimeAgreement);
  for (const std::string& line : demo::deviations(r)) text += "deviation: " + line + "\n";
  text += "report: " + r.report + "\n";
  return text + fmt::format("{:.0f} s\n", r.run_s);
}

class DemoCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("demo", "The whole system on this machine with simulated GPUs, in two minutes");
    command
        ->add_option("--keep", options_.site.keep,
                     "Keep logs, profile and report in this folder, which must be empty or new")
        ->type_name("DIR");
    command
        ->add_option("--report", options_.report,
                     "The report over the measured profile (default: perseus-demo.html, or DIR/report.html)")
        ->type_name("FILE");
    command->add_option("--seed", options_.seed, "Seed of the simulated GPUs (default 1)")->type_name("N");
    command->add_option("--time-scale", options_.time_scale, "Simulated seconds in a real one (default 16)")
        ->type_name("X")
        ->check(CLI::Range(1.0, 100.0));
    command->add_flag("--json", json_, "End with one line of JSON; progress goes to standard error");
    command->footer(
        "What is real in it and what is simulated: docs/demo.md.\n\nExample:\n  perseus demo --report "
        "demo.html");
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const model::GpuModel* gpu, model::find_gpu(options_.shape.gpu));
    PERSEUS_ASSIGN_OR_RETURN(options_.gpu, simulated_gpu(*gpu));
    options_.site.perseus = own_program();
    PERSEUS_ASSIGN_OR_RETURN(options_.site.agent, client::find_agent_program());
    PERSEUS_ASSIGN_OR_RETURN(options_.site.rank, find_rank_program());
    PERSEUS_ASSIGN_OR_RETURN(options_.site.library, find_sim_library());
    Lines lines(io, json_);
    const Interruption interruption;
    const auto result = demo::run_demo(options_, lines, interrupted);
    lines.wipe();
    if (!result) return std::unexpected(result.error());
    io.out << (json_ ? demo::result_json(*result) + "\n" : result_text(*result));
    // The figures are told; what must never happen is still an error.
    if (result->gpus_left_locked != 0)
      return core::fail(core::ErrorCode::kInternal,
                        fmt::format("{} GPUs were left with a locked clock", result->gpus_left_locked));
    return {};
  }

 private:
  demo::DemoOptions options_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_demo_command() {
  return std::make_unique<DemoCommand>();
}

}  // namespace perseus::cli
