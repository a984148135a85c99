// SPDX-License-Identifier: Apache-2.0
//
// The node agent's configuration file (docs/agent.md). Every key may be absent; then the value below holds.
//
//   clocks:    {min_mhz: 600, max_mhz: 1980, baseline: default, max_changes_per_s: 200}
//   clients:   {max_connections: 256, max_connections_per_uid: 64, requests_per_s: 50, first_message_s: 5,
//   idle_s: 60} telemetry: {sample_period_s: 0.2, write_period_s: 1} driver:    {degraded_after_s: 2,
//   settle_s: 0.5} command:   {lock: [/opt/site/gpuclock, lock, "{uuid}", "{mhz}"], reset:
//   [/opt/site/gpuclock, reset, "{uuid}"], time_limit_s: 10}
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::format {

/// Largest configuration file; a full one has under 2 KiB (assumed: 16 times that leaves room for comments).
inline constexpr std::size_t kMaxAgentConfigBytes = std::size_t{1} << 15;
/// Most elements of a command's argv (assumed).
inline constexpr std::size_t kMaxCommandArguments = 32;

/// What the agent keeps to. Defaults whose source is not named are assumed.
struct AgentConfig {
  /// The site's limits: no client gets a clock outside. Absent: the device's own list is the limit.
  std::optional<core::Megahertz> min_clock;
  std::optional<core::Megahertz> max_clock;
  /// What "restore" sets. Absent: the driver's default.
  std::optional<core::Megahertz> baseline;
  /// Most driver calls per second and GPU, 1 to 10,000. A request that comes sooner waits for its turn, and
  /// only the latest one is executed. 200: a switch takes 5 ms and more on current products (arXiv
  /// 2502.20075).
  std::uint32_t max_changes_per_second = 200;

  std::uint32_t max_connections = 256;         ///< in total, 1 to 65,536
  std::uint32_t max_connections_per_uid = 64;  ///< 1 to 65,536
  /// Requests of one connection, 1 to 10,000 per second; what is over it is read later.
  std::uint32_t requests_per_second = 50;
  core::Seconds first_message{5};  ///< a connection that has not said hello by then is closed; 0.1 to 60
  core::Seconds idle{60};  ///< a connection without lease and message for so long is closed; 1 to 3,600

  core::Seconds sample_period{0.2};  ///< between two readings of a GPU; 0.02 to 10
  core::Seconds write_period{1};     ///< between two states of the metrics file; 0.1 to 60

  core::Seconds degraded_after{2};  ///< a driver call that takes longer makes its GPU "degraded"; 0.1 to 60
  core::Seconds settle{0.5};        ///< after a change the clock is not judged for so long; 0.01 to 60

  /// Argv of the site's own command (backend "command"); both or neither.
  std::vector<std::string> lock_command;
  std::vector<std::string> reset_command;
  core::Seconds command_time_limit{10};  ///< 0.1 to 60

  friend bool operator==(const AgentConfig&, const AgentConfig&) = default;
};

/// Reads a configuration file. Refused with line and column (kInvalidInput, kLimit): unknown and repeated
/// keys, values of another type or out of range, min_mhz over max_mhz, a baseline outside the limits, one
/// command without the other, a command that is no absolute path. An empty file is refused, one with only
/// `{}` is not. Pure; thread-safe.
[[nodiscard]] core::Result<AgentConfig> parse_agent_config(std::string_view bytes, const std::string& source);

/// The configuration with all its keys, as a file that parse_agent_config() reads back to the same.
[[nodiscard]] std::string write_agent_config(const AgentConfig& config);

}  // namespace perseus::format
