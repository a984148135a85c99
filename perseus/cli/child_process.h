// SPDX-License-Identifier: Apache-2.0
//
// A command that is run on behalf of the user, as if he had run it himself: signals reach it, its exit status
// comes back.
//
//   SignalRelay relay;                          // before any thread is started: they inherit the blocked
//   signals PERSEUS_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start(argv, relay)); while
//   (!child.exit_code()) child.turn(std::chrono::seconds(1));
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::cli {

/// Takes the signals that are meant for a command out of their usual way. Puts back what was before when it
/// goes.
class SignalRelay {
 public:
  SignalRelay();
  SignalRelay(const SignalRelay&) = delete;
  SignalRelay& operator=(const SignalRelay&) = delete;
  ~SignalRelay();

  /// Readable when a signal has come.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What the command starts with.
  [[nodiscard]] const sigset_t& former_mask() const { return former_; }
  [[nodiscard]] static const std::vector<int>& relayed();

 private:
  sigset_t former_{};
  format::UniqueFd fd_;
};

/// One running command. Belongs to one thread.
class ChildProcess {
 public:
  /// Starts `arguments[0]`, looked up in $PATH. kNotFound, kPermission, kIo.
  [[nodiscard]] static core::Result<ChildProcess> start(const std::vector<std::string>& arguments,
                                                        const SignalRelay& relay);

  /// Waits for at most `limit`, hands signals on, and notices the end.
  void turn(std::chrono::milliseconds limit);
  /// Once it has ended: its exit status, or 128 and the number of the signal that killed it.
  [[nodiscard]] std::optional<int> exit_code() const { return exit_code_; }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  ChildProcess(pid_t pid, const SignalRelay& relay) : pid_(pid), relay_(&relay) {}
  void hand_on_signals();
  pid_t pid_ = 0;
  const SignalRelay* relay_ = nullptr;
  std::optional<int> exit_code_;
};

}  // namespace perseus::cli
