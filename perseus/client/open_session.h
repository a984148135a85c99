// SPDX-License-Identifier: Apache-2.0
//
// Puts a session together from what a client is to do: sink, telemetry, link to the server.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto session, open_session(config, stream, log));
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

/// Errors are those of make_server_link(), LogSink::open() and StreamTrigger::open() where a trigger was
/// asked for by name: what makes no sense. Whoever cannot be reached is tried again in the background.
/// `stream`: CUstream of a stream trigger. `log` is called by several threads.
[[nodiscard]] core::Result<std::unique_ptr<RankSession>> open_session(const ClientConfig& config,
                                                                      void* stream, SessionLog log);

}  // namespace perseus::client
