// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>

#include "perseus/agent/event_loop.h"
#include "perseus/agent/guard_worker.h"
#include "perseus/lease/recover.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using format::UniqueFd;

/// How long a freshly started program may take to say hello to a guardian that has nothing to offer.
constexpr std::chrono::seconds kRefusalPatience{5};
/// How long the watcher waits for a state folder that somebody holds alone: an agent that starts meanwhile
/// restores what is owed itself.
constexpr int kFolderTries = 20;
constexpr timespec kFolderPause{.tv_sec = 0, .tv_nsec = 100'000'000};

void complain(const core::Error& error) {
  const std::string line = fmt::format("perseus-agent guard: error: {}\n", error.text());
  static_cast<void>(::write(STDERR_FILENO, line.data(), line.size()) == 0);
}

int exit_code(const core::Error& error) {
  return core::info(error.code()).exit_code;
}

std::string state_folder(const GuardSettings& settings) {
  return settings.state_dir.empty() ? std::string(lease::kDefaultStateDirectory) : settings.state_dir;
}

void ignore_terminal_signals() {
  for (const int signal : {SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTOU, SIGTTIN}) {
    static_cast<void>(::signal(signal, SIG_IGN));
  }
  static_cast<void>(::signal(SIGCHLD, SIG_DFL));  // whatever was inherited: the watcher waits for its child
}

/// A process of a few megabytes that holds the GPUs' way back is the last that should be sacrificed for
/// memory. Needs CAP_SYS_RESOURCE; without it things stay as they are.
void ask_to_be_spared() {
  const UniqueFd file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (file) static_cast<void>(::write(file.get(), "-1000", 5) == 5);
}

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  return set;
}

/// Answers whatever is asked first with what stands against working.
int refuse_service(const UniqueFd& socket, const core::Error& error) {
  const auto deadline = wire::deadline_in(kRefusalPatience);
  if (wire::receive_packet(socket.get(), wire::kMaxAgentRequest, deadline)) {
    const wire::AgentReply refusal = wire::Refusal{.code = error.code(), .message = error.text()};
    static_cast<void>(wire::send_packet(socket.get(), wire::encode(refusal), -1, deadline));
  }
  return exit_code(error);
}

/// Serves until the program is gone; 0 if every GPU is back.
core::Result<bool> serve(UniqueFd& socket, EventLoop& loop, gpu::Backend& backend,
                         const lease::StateDirectory& directory) {
  const sigset_t term = set_of({SIGTERM});
  const UniqueFd signals(::signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return core::fail(ErrorCode::kIo, "cannot wait for signals");
  GuardWorker worker(std::move(socket), loop, backend, directory, lease::SystemTime::instance());
  PERSEUS_RETURN_IF_ERROR(loop.watch(signals.get(), EPOLLIN, [&](std::uint32_t) {
    loop.forget(signals.get());
    worker.stop();
  }));
  PERSEUS_RETURN_IF_ERROR(worker.start());
  while (!worker.done()) {
    loop.turn(worker.next_deadline());
    worker.tick();
  }
  // A driver that hangs would hold up the destructors; the watcher has its own way to it.
  if (!worker.all_back()) std::_Exit(core::info(ErrorCode::kDriver).exit_code);
  return true;
}

int run_worker(const GuardSettings& settings) {
  UniqueFd socket(settings.socket);
  const auto directory = lease::StateDirectory::open(
      {.path = state_folder(settings), .hold = lease::Hold::kGpus, .boot_id = {}});
  if (!directory) return refuse_service(socket, directory.error());
  const auto backend = gpu::open_backend(settings.backend);
  if (!backend) return refuse_service(socket, backend.error());
  const auto loop = EventLoop::create();
  if (!loop) return refuse_service(socket, loop.error());
  const auto served = serve(socket, **loop, **backend, *directory);
  if (served) return 0;
  complain(served.error());
  return exit_code(served.error());
}

/// Restores what a worker has left that was killed.
int clean_up(const GuardSettings& settings) {
  auto directory = lease::StateDirectory::open(
      {.path = state_folder(settings), .hold = lease::Hold::kGpus, .boot_id = {}});
  for (int i = 0; !directory && directory.error().code() == ErrorCode::kBusy && i < kFolderTries; ++i) {
    ::nanosleep(&kFolderPause, nullptr);
    directory = lease::StateDirectory::open(
        {.path = state_folder(settings), .hold = lease::Hold::kGpus, .boot_id = {}});
  }
  if (!directory) return complain(directory.error()), exit_code(directory.error());
  const auto backend = gpu::open_backend(settings.backend);
  if (!backend) return complain(backend.error()), exit_code(backend.error());
  const auto report = lease::recover(*directory, **backend, {});
  if (!report) return complain(report.error()), exit_code(report.error());
  for (const lease::Restored& gpu : report->gpus) {
    if (!gpu.result && gpu.result.error().code() != ErrorCode::kBusy) complain(gpu.result.error());
  }
  return report->complete() ? 0 : core::info(ErrorCode::kDriver).exit_code;
}

/// Waits for the worker and hands SIGTERM on to it; its wait status.
int wait_for(pid_t worker) {
  const sigset_t set = set_of({SIGTERM, SIGCHLD});
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(worker, &status, WNOHANG);
    if (ended == worker) return status;
    if (ended < 0 && errno != EINTR) return -1;
    int signal = 0;
    if (::sigwait(&set, &signal) == 0 && signal == SIGTERM) ::kill(worker, SIGTERM);
  }
}

int run_watcher(const GuardSettings& settings) {
  const pid_t worker = ::fork();
  if (worker < 0) {
    const UniqueFd socket(settings.socket);
    return refuse_service(socket,
                          core::Error(ErrorCode::kLimit, "the guardian cannot start its second process"));
  }
  if (worker == 0) return run_worker(settings);
  // The program must see the end of the connection as soon as the worker is gone.
  {
    const UniqueFd closes(settings.socket);
  }
  const int status = wait_for(worker);
  if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  return clean_up(settings);
}

}  // namespace

int run_guard(const GuardSettings& settings) {
  ignore_terminal_signals();
  // The threads of the worker inherit this: only its signalfd sees SIGTERM.
  const sigset_t blocked = set_of({SIGTERM, SIGCHLD});
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  ask_to_be_spared();
  // It had to be inherited to get here, and goes no further.
  static_cast<void>(::fcntl(settings.socket, F_SETFD, FD_CLOEXEC));
  // The program that has started us waits for this very process only: no child is left to it, and no SIGCHLD
  // later on.
  const pid_t watcher = ::fork();
  if (watcher < 0) {
    const core::Error error(ErrorCode::kLimit, "the guardian cannot start its second process");
    complain(error);
    return exit_code(error);
  }
  return watcher > 0 ? 0 : run_watcher(settings);
}

}  // namespace perseus::agent
