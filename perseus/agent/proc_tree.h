// SPDX-License-Identifier: Apache-2.0
//
// The few facts about other processes that the agent reads from /proc. World-readable files only, so the
// agent needs no capability for them.
#pragma once

#include <sys/types.h>

#include <string>

#include "perseus/core/result.h"

namespace perseus::agent {

/// Reads below a root that tests replace. Pids are those of our own pid namespace. Thread-safe.
///
/// Errors of all functions: kNotFound (no such process), kPermission, kIo, kInvalidInput (a line that the
/// kernel does not write), kUnsupported (no cgroup v2).
class ProcTree {
 public:
  explicit ProcTree(std::string root = "/proc") : root_(std::move(root)) {}

  /// Whether the process lives in our own pid namespace and not in one below it, as processes of containers
  /// do: it has one process id only ("NSpid" in /proc/PID/status; proc(5), Linux 4.1).
  [[nodiscard]] core::Result<bool> in_our_pid_namespace(pid_t pid) const;
  /// Its cgroup v2 path: what stands behind "0::" in /proc/PID/cgroup (cgroups(7)).
  [[nodiscard]] core::Result<std::string> cgroup(pid_t pid) const;

 private:
  [[nodiscard]] core::Result<std::string> read(pid_t pid, std::string_view name) const;
  std::string root_;
};

}  // namespace perseus::agent
