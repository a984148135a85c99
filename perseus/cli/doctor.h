// SPDX-License-Identifier: Apache-2.0
//
// What a node lacks for the agent to work well, and how to repair it: `perseus doctor`.
//
//   for (const Finding& finding : examine(DoctorOptions{})) ...
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perseus/client/agent_link.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/state_directory.h"

namespace perseus::cli {

enum class Health : std::uint8_t {
  kOk,
  kNotice,   ///< works, but somebody should know
  kProblem,  ///< the agent, or a promise of it, does not work here
};
/// "ok", "notice", "problem".
[[nodiscard]] const char* health_name(Health health);

/// One thing that was looked at.
struct Finding {
  std::string what;  ///< stable, snake_case
  Health health = Health::kOk;
  std::string found;   ///< one sentence
  std::string repair;  ///< what to do; empty if ok
};

struct DoctorOptions {
  gpu::BackendOptions backend;
  std::string socket = std::string(client::kDefaultAgentSocket);
  std::string state_dir = std::string(lease::kDefaultStateDirectory);
  std::string root;  ///< put before /proc, /sys, /etc, /run and /usr; for tests
};

/// Looks at everything; changes nothing. Takes as long as the driver takes to load.
[[nodiscard]] std::vector<Finding> examine(const DoctorOptions& options);

// The parts, each one finding or several.
[[nodiscard]] std::vector<Finding> examine_gpus(const DoctorOptions& options);
[[nodiscard]] std::vector<Finding> examine_agent(const DoctorOptions& options);
[[nodiscard]] std::vector<Finding> examine_kernel(const DoctorOptions& options);
[[nodiscard]] std::vector<Finding> examine_service(const DoctorOptions& options);
/// Programs that set clocks, or may.
[[nodiscard]] std::vector<Finding> examine_neighbours(const DoctorOptions& options);

}  // namespace perseus::cli
