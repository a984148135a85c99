// SPDX-License-Identifier: Apache-2.0
//
// The guardian of direct mode: `perseus-agent guard --backend B --state-dir D`, started by a program that
// wants to set clocks without an agent (client/guard_link.h), with one end of a socket pair as descriptor 3.
// It owns the leases and makes the driver calls, so the program may die at any point.
//
// Two processes, both children of nobody: the one that was started ends at once, so that the program has no
// child to wait for. The *worker* speaks the agent's protocol with the one program that started it, and ends,
// all clocks restored, when that program's connection ends or its pidfd says that it is gone. The *watcher*,
// its parent, sleeps until the worker has ended; if that was not by itself (SIGKILL), it restores what the
// journal owes for the GPUs that nobody holds, and ends too. So a GPU stays low only if program, worker and
// watcher are all killed before one of them could act; then the next start of an agent or guardian, or
// `perseus agent
// --restore`, brings it back.
//
// Both are in a session of their own and ignore SIGINT, SIGHUP and SIGQUIT, so that a Ctrl-C at the terminal
// reaches the program alone; SIGTERM restores and ends.
#pragma once

#include <string>

#include "perseus/core/result.h"
#include "perseus/gpu/backend.h"

namespace perseus::agent {

struct GuardSettings {
  gpu::BackendOptions backend;
  std::string state_dir;  ///< empty: lease::kDefaultStateDirectory
  int socket = 3;         ///< connected SOCK_SEQPACKET; taken over
};

/// Starts watcher and worker, and returns in each of the three processes with its exit code: 0, or that of
/// core::error_table with a line on standard error. To be called from main() before any thread is started or
/// library is loaded: it forks.
[[nodiscard]] int run_guard(const GuardSettings& settings);

}  // namespace perseus::agent
