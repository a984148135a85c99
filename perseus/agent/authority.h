// SPDX-License-Identifier: Apache-2.0
//
// Who may set which GPU's clock (RELIABILITY.md 4), decided from facts that the kernel gives:
//
// (a) the agent's own user in the agent's own pid namespace: root of the host, not root of a container;
// (b) whom the grants file names, by user or by cgroup;
// (c) a peer whose cgroup holds a process on that GPU. The root cgroup is everybody's, so it is no authority.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/agent/lease_table.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/grants.h"
#include "perseus/gpu/device.h"

namespace perseus::agent {

/// What is known of the process at the other end of a connection.
struct PeerFacts {
  pid_t pid = 0;
  uid_t uid = 0;
  bool in_our_pid_namespace = false;
  std::string cgroup;  ///< cgroup v2 path; empty: not known
};

/// A right to lease one GPU.
struct Permit {
  std::string why;  ///< for the audit log: "own user", "grant (line 3)", "process 71 on the GPU"
  std::optional<core::Megahertz> floor;  ///< no clock under it
  std::optional<WallTime> until;         ///< valid before
};

/// Pure; thread-safe for readers.
class Authority {
 public:
  /// `own` is the agent's user id.
  Authority(uid_t own, std::vector<format::Grant> grants) : own_(own), grants_(std::move(grants)) {}

  /// Rule (a): may quiesce, resume, and lease any GPU.
  [[nodiscard]] bool is_administrator(const PeerFacts& peer) const;
  /// Rules (a) and (b). Of several grants, the one that allows most: no floor before a floor, the lower one
  /// first, the later end first. Absent: rule (c) is to be asked.
  [[nodiscard]] std::optional<Permit> by_rule(const PeerFacts& peer, const gpu::Identity& gpu,
                                              WallTime now) const;

  struct GpuProcess {
    pid_t pid = 0;
    std::string cgroup;
  };
  /// Rule (c), given the processes on the GPU.
  [[nodiscard]] static std::optional<Permit> by_process(const PeerFacts& peer,
                                                        std::span<const GpuProcess> processes);

 private:
  uid_t own_;
  std::vector<format::Grant> grants_;
};

/// Whether `path` is `prefix` or lies below it.
[[nodiscard]] bool is_below(std::string_view path, std::string_view prefix);
/// The sentence of a refusal: who asks, and what would help.
[[nodiscard]] std::string denial(const PeerFacts& peer, const gpu::Identity& gpu);

}  // namespace perseus::agent
