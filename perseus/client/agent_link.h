// SPDX-License-Identifier: Apache-2.0
//
// The way to the node's agent: its Unix socket.
//
//   ClockLink::open(std::make_unique<AgentEndpoint>(std::string(kDefaultAgentSocket)), ...)
#pragma once

#include <string>

#include "perseus/client/clock_link.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::client {

using wire::kDefaultAgentSocket;

/// Errors of dial() are those of wire::connect_seqpacket, each with what to do about it.
class AgentEndpoint final : public Endpoint {
 public:
  explicit AgentEndpoint(std::string socket) : socket_(std::move(socket)) {}
  [[nodiscard]] core::Result<format::UniqueFd> dial(wire::Deadline deadline) override;
  [[nodiscard]] std::string name() const override;

 private:
  std::string socket_;
};

}  // namespace perseus::client
