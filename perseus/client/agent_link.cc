// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/agent_link.h"

#include <fmt/format.h>

namespace perseus::client {
namespace {

using core::ErrorCode;

/// What a person can do about it.
std::string_view advice(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:
    case ErrorCode::kBusy:
      return "; is perseus-agent running? `perseus doctor` tells more";
    case ErrorCode::kPermission:
      return "; users of the agent are in its group (docs/agent.md)";
    default:
      return "";
  }
}

}  // namespace

core::Result<format::UniqueFd> AgentEndpoint::dial(wire::Deadline deadline) {
  auto socket = wire::connect_seqpacket(socket_, deadline);
  if (socket) return socket;
  const core::Error& error = socket.error();
  return core::fail(error.code(), fmt::format("{}{}", error.message(), advice(error.code())), error.origin());
}

std::string AgentEndpoint::name() const {
  return "the agent at " + socket_;
}

}  // namespace perseus::client
