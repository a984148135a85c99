// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/child_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace perseus::cli {
namespace {

using core::ErrorCode;

sigset_t set_of(const std::vector<int>& signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  return set;
}

}  // namespace

const std::vector<int>& SignalRelay::relayed() {
  static const std::vector<int> kSignals = {SIGINT,  SIGTERM, SIGHUP,   SIGQUIT,
                                            SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM};
  return kSignals;
}

SignalRelay::SignalRelay() {
  sigset_t set = set_of(relayed());
  ::sigaddset(&set, SIGCHLD);
  ::pthread_sigmask(SIG_BLOCK, &set, &former_);
  fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

SignalRelay::~SignalRelay() {
  ::pthread_sigmask(SIG_SETMASK, &former_, nullptr);
}

core::Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& arguments,
                                               const SignalRelay& relay) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  ::posix_spawnattr_setsigmask(&attributes, &relay.former_mask());
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], nullptr, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error == 0) return ChildProcess(pid, relay);
  const ErrorCode code = error == ENOENT   ? ErrorCode::kNotFound
                         : error == EACCES ? ErrorCode::kPermission
                                           : ErrorCode::kIo;
  return core::fail(code,
                    fmt::format("cannot run {}: {}", arguments[0], std::generic_category().message(error)));
}

void ChildProcess::turn(std::chrono::milliseconds limit) {
  pollfd entry{.fd = relay_->fd(), .events = POLLIN, .revents = 0};
  static_cast<void>(::poll(&entry, 1, static_cast<int>(limit.count())));
  hand_on_signals();
  int status = 0;
  if (exit_code_ || ::waitpid(pid_, &status, WNOHANG) != pid_) return;
  constexpr int kKilled = 128;  // as shells tell it (POSIX, XCU 2.8.2)
  exit_code_ = WIFSIGNALED(status) ? kKilled + WTERMSIG(status) : WEXITSTATUS(status);
}

void ChildProcess::hand_on_signals() {
  signalfd_siginfo info{};
  while (::read(relay_->fd(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    // What the terminal sends (SI_KERNEL) reaches the whole process group, the command included.
    if (signal == SIGCHLD || info.ssi_code == SI_KERNEL || exit_code_) continue;
    ::kill(pid_, signal);
  }
}

}  // namespace perseus::cli
