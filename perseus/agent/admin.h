// SPDX-License-Identifier: Apache-2.0
//
// The commands of perseus-agent that are not the agent itself: they ask a running one, or do its work where
// none runs.
#pragma once

#include <chrono>
#include <iosfwd>
#include <optional>
#include <string>

#include "perseus/agent/daemon.h"
#include "perseus/core/result.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::agent {

/// Longest wait for an agent that is healthy (assumed; its own answers are due after twice
/// `degraded_after_s`).
inline constexpr std::chrono::seconds kAskPatience{10};

/// Says hello to the agent at `socket` and asks one thing. The agent's refusal as it is; the errors of
/// wire::connect_seqpacket(), each with what to do; kTimeout; kInvalidInput: it answers with nonsense.
[[nodiscard]] core::Result<wire::AgentReply> ask_agent(const std::string& socket,
                                                       const wire::AgentRequest& request);

/// `status`: a table for people, or one line of JSON.
[[nodiscard]] core::Status run_status(const std::string& socket, bool json, std::ostream& out);
/// `quiesce`.
[[nodiscard]] core::Status run_quiesce(const std::string& socket,
                                       std::optional<std::chrono::milliseconds> resume_after,
                                       std::ostream& out);
/// `resume`.
[[nodiscard]] core::Status run_resume(const std::string& socket, std::ostream& out);
/// `--restore [--all]`: brings back what the journal owes, or every GPU; those that a living guardian holds
/// are left alone. kBusy: an agent lives; kDriver: not every GPU is back, as the lines on `out` say.
[[nodiscard]] core::Status run_restore(const DaemonSettings& settings, bool all, std::ostream& out);

}  // namespace perseus::agent
