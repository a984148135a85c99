// SPDX-License-Identifier: Apache-2.0
//
// What a client is to do: the caller's options, and the environment where they say nothing (docs/client.md).
//
//   PERSEUS_ASSIGN_OR_RETURN(auto config, resolve_config(options, environment_of_process()));
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "perseus/client/perseus.h"
#include "perseus/client/promise_guard.h"
#include "perseus/client/server_link.h"
#include "perseus/core/result.h"
#include "perseus/gpu/backend.h"

namespace perseus::client {

/// Value of an environment variable; nothing if it is not set or empty.
using Environment = std::function<std::optional<std::string>(const char* name)>;
[[nodiscard]] Environment environment_of_process();

enum class ClockBackend : std::uint8_t {
  kAgent,   ///< the node's agent
  kDirect,  ///< a guardian process of this rank's own
  kLog,     ///< lines of a file: a dry run
};
enum class TriggerKind : std::uint8_t {
  kHost,         ///< at the hook
  kStreamWrite,  ///< when the stream gets there: it writes a word that a thread polls
  kEventPoll,    ///< when the stream gets there: a thread polls events
  kStreamBest,   ///< kStreamWrite where the driver has it, else kEventPoll
};

struct ClientConfig {
  bool off = false;  ///< PERSEUS=0: nothing of all this
  JobFacts job;      ///< orders and all only with a server
  RankPlace place;
  ServerAddress server;  ///< empty URL: none
  ClockBackend backend = ClockBackend::kAgent;
  std::string log_file;                               ///< of kLog
  std::string agent_socket;                           ///< of kAgent
  std::string state_dir;                              ///< of kDirect: the guardian's; empty: its default
  std::string gpu;                                    ///< UUID, or an index of the driver
  gpu::BackendKind reader = gpu::BackendKind::kAuto;  ///< how the GPU is read
  TriggerKind trigger = TriggerKind::kHost;
  GuardSettings guard;
};

/// kUsage and kInvalidInput with the option or variable and its value. Errors of schedules as
/// schedule::generate() and format::parse_schedule_csv() have them.
[[nodiscard]] core::Result<ClientConfig> resolve_config(const perseus_options& options,
                                                        const Environment& environment);

}  // namespace perseus::client
