// SPDX-License-Identifier: Apache-2.0
//
// Puts a session together from what a client is to do: sink, telemetry, link to the server.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto session, open_session(config, log));
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "perseus/client/client_config.h"
#include "perseus/client/rank_session.h"
#include "perseus/core/result.h"

namespace perseus::client {

/// How long opening waits for an agent that answers slowly; for one that is not there it does not wait.
inline constexpr core::Seconds kAgentPatience{1.0};

/// Errors are those of make_server_link() and LogSink::open(): what makes no sense. Whoever cannot be reached
/// is tried again in the background. `log` is called by several threads.
[[nodiscard]] core::Result<std::unique_ptr<RankSession>> open_session(ClientConfig config, SessionLog log);

}  // namespace perseus::client
