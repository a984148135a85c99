// SPDX-License-Identifier: Apache-2.0
//
// `perseus-demo-rank`: one rank of the simulated training job. A program of its own, as a training script is:
// all that it has of Perseus is the client's shared library.
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "perseus/demo/rank.h"

namespace {

using perseus::core::Seconds;
using perseus::demo::RankOptions;

// Set by a signal handler.
std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

constexpr unsigned long kTimerSlackNs =
    1000;  ///< of all waits; the kernel's default of 50 us is for idle machines

/// A GPU goes on with its work whatever else the machine does. This thread stands for one: it sleeps nearly
/// always, and is to be woken in time. Threads that it starts (those of Perseus) are ordinary ones. Without
/// the right to do so (CAP_SYS_NICE) the demo works too, and is more exact on a machine at rest.
void behave_like_a_gpu() {
  ::prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  const sched_param lowest{.sched_priority = 1};
  static_cast<void>(::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest));
}

/// One line, one write: lines of several processes in one file stay whole.
void tell(const std::string& line) {
  const std::string whole = line + "\n";
  std::size_t done = 0;
  while (done < whole.size()) {
    const ssize_t written = ::write(STDOUT_FILENO, whole.data() + done, whole.size() - done);
    if (written <= 0) return;  // nobody listens any more: training goes on
    done += static_cast<std::size_t>(written);
  }
}

/// Not before the job has come together: until then there is no step to finish.
void finish_steps_when_asked_to_stop() {
  struct sigaction action{};
  action.sa_handler = [](int) { stop = true; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
}

struct Flags {
  RankOptions options;
  std::vector<std::string> actions;
  double forward_s = 0, backward_s = 0, patience_s = 30;
};

void declare(CLI::App& app, Flags& flags) {
  RankOptions& o = flags.options;
  app.add_option("--folder", o.place.folder, "Where the ranks' sockets are")->required();
  app.add_option("--pipelines", o.place.pipelines, "Data-parallel degree")->required();
  app.add_option("--stages", o.place.stages, "Pipeline-parallel degree")->required();
  app.add_option("--pipeline", o.place.pipeline, "This rank's pipeline")->required();
  app.add_option("--stage", o.place.stage, "This rank's stage")->required();
  app.add_option("--gpu", o.gpu, "Index of its simulated GPU in the node of $PERSEUS_SIM")->required();
  app.add_option("--microbatches", o.microbatches, "Of one iteration (default 6)")
      ->check(CLI::Range(1U, 100'000U));
  app.add_option("--forward", flags.forward_s, "Simulated seconds of a forward at the top clock")->required();
  app.add_option("--backward", flags.backward_s, "And of a backward")->required();
  app.add_option("--memory-bound", o.work.memory_bound,
                 "Share that does not scale with the clock (default 0)");
  app.add_option("--utilization", o.work.utilization, "Of the SMs (default 0.8)");
  app.add_option("--memory-utilization", o.work.memory_utilization, "Of the memory (default 0)");
  app.add_option("--job", o.job, "Name of the job (default demo)");
  app.add_option("--incarnation", o.incarnation, "Of the job (default 1)");
  app.add_option("--blocking-power", o.blocking_power_w,
                 "Of the waiting GPU, W in real time (default: the server measures it)");
  app.add_option("--fingerprint", o.fingerprint,
                 "Of model and machine: allows a stored profile to be used again");
  app.add_option("--steps", o.steps, "Default: until a rank gets SIGTERM");
  app.add_option("--patience", flags.patience_s, "For all ranks to come, s (default 30)");
  app.add_option("--at", flags.actions,
                 "STEP=pause:S | stall:S | extra | missing | reorder: what goes wrong, for tests of faults");
}

int fail(const perseus::core::Error& error) {
  std::fputs(fmt::format("perseus-demo-rank: error: {}\n", error.text()).c_str(), stderr);
  return perseus::core::info(error.code()).exit_code;
}

int run(int argc, char** argv) {
  CLI::App app{"One rank of the simulated training job of `perseus demo` (docs/demo.md).",
               "perseus-demo-rank"};
  Flags flags;
  declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : perseus::core::info(perseus::core::ErrorCode::kUsage).exit_code;
  }
  RankOptions& options = flags.options;
  for (const std::string& text : flags.actions) {
    auto action = perseus::demo::parse_action(text);
    if (!action) return fail(action.error());
    options.actions.push_back(*action);
  }
  options.work.forward = Seconds(flags.forward_s);
  options.work.backward = Seconds(flags.backward_s);
  options.patience = Seconds(flags.patience_s);
  const auto rank = perseus::demo::join_training(std::move(options));
  if (!rank) return fail(rank.error());
  finish_steps_when_asked_to_stop();
  const auto done = (*rank)->train(stop, tell);
  return done ? 0 : fail(done.error());
}

}  // namespace

int main(int argc, char** argv) {
  behave_like_a_gpu();
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return fail(perseus::core::Error(perseus::core::ErrorCode::kInternal, error.what()));
  }
}
