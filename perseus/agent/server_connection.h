// SPDX-License-Identifier: Apache-2.0
//
// Inside of the server: one connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "perseus/agent/server.h"

namespace perseus::agent {

struct Server::Connection {
  ConnectionId id = 0;
  format::UniqueFd socket;
  wire::Peer peer;
  TokenBucket bucket;
  lease::Instant last_message;
  bool greeted = false;
  std::string client;                             ///< as it calls itself
  std::optional<lease::ProcessHandle> process{};  ///< who said hello; watched
  bool throttled = false;                         ///< not read until the bucket has a token

  struct Wait {
    std::uint64_t number = 0;
    lease::Instant deadline;
    std::string what;  ///< for the refusal after the deadline
  };
  std::optional<Wait> waiting{};  ///< a request whose reply is still to come
};

}  // namespace perseus::agent
