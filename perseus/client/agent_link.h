// SPDX-License-Identifier: Apache-2.0
//
// The way to the node's agent: its Unix socket.
//
//   ClockLink::open(std::make_unique<AgentEndpoint>(std::string(kDefaultAgentSocket)), ...)
#pragma once

#include <string>
#include <string_view>

#include "perseus/client/clock_link.h"

namespace perseus::client {

/// Where the agent listens unless told otherwise.
inline constexpr std::string_view kDefaultAgentSocket = "/run/perseus/agent.sock";

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
