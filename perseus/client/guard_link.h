// SPDX-License-Identifier: Apache-2.0
//
// Direct mode: a program that may set clocks itself does so through a guardian, a process of its own
// (`perseus-agent guard`), so that somebody is left to bring the clock back when the program is killed.
//
//   ClockLink::open(std::make_unique<GuardEndpoint>(GuardOptions{.backend = "sim"}), ...)
//
// Each dial() starts a guardian; when one is killed, the link's next dial starts another, which first
// restores what the dead one has left (its own watcher has mostly done so already: agent/guard.h).
#pragma once

#include <string>

#include "perseus/client/clock_link.h"

namespace perseus::client {

struct GuardOptions {
  std::string program;    ///< of perseus-agent; empty: find_agent_program()
  std::string backend;    ///< `--backend`; empty: auto
  std::string state_dir;  ///< `--state-dir`; empty: the guardian's default
};

/// $PERSEUS_AGENT_BIN, else perseus-agent beside the running executable, in ../libexec/perseus beside it, in
/// /usr/local/libexec/perseus or /usr/libexec/perseus, or in a folder of $PATH. kNotFound with what was
/// tried.
[[nodiscard]] core::Result<std::string> find_agent_program();

/// Starts guardians by posix_spawn (never a bare fork: the caller may have many threads), with one end of a
/// socket pair as its descriptor 3 and nothing else but standard error. The started process leaves its
/// guardian to init and ends at once, so no child stays behind. Errors of dial(): kNotFound, kPermission,
/// kTimeout, kIo.
class GuardEndpoint final : public Endpoint {
 public:
  explicit GuardEndpoint(GuardOptions options) : options_(std::move(options)) {}
  [[nodiscard]] core::Result<format::UniqueFd> dial(wire::Deadline deadline) override;
  [[nodiscard]] std::string name() const override;

 private:
  GuardOptions options_;
};

}  // namespace perseus::client
