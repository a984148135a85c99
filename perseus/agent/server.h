// SPDX-License-Identifier: Apache-2.0
//
// The agent's socket: who is connected, what they ask, and what they may. A connection is the liveness of its
// leases; so is the process that said hello, by its pidfd, since a forked child may keep the socket open.
//
// Belongs to the main thread. Nothing here waits: a peer that does not read its replies is cut off.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perseus/agent/authority.h"
#include "perseus/agent/event_loop.h"
#include "perseus/agent/fleet.h"
#include "perseus/agent/proc_tree.h"
#include "perseus/agent/rate_limit.h"
#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/process_handle.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {

/// Counts since the agent started.
struct ServerCounters {
  std::uint64_t accepted = 0;
  std::uint64_t turned_away = 0;  ///< over a limit of connections
  std::uint64_t requests = 0;
  std::uint64_t refused = 0;    ///< requests answered with a refusal
  std::uint64_t malformed = 0;  ///< packets that were no request
  std::uint64_t timed_out = 0;  ///< connections closed for idling, or for never saying hello
};

/// What must outlive a server.
struct ServerContext {
  EventLoop& loop;
  Fleet& fleet;
  AuditLog& audit;
  const ProcTree& processes;
  const lease::TimeSource& time;
};

class Server {
 public:
  Server(ServerContext context, format::UniqueFd listener, std::shared_ptr<const Authority> authority);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  /// Begins to accept. kIo.
  [[nodiscard]] core::Status start();
  /// Stops accepting; connections stay.
  void close_listener();
  /// New grants: leases that only a former grant allowed are taken back.
  void set_authority(std::shared_ptr<const Authority> authority);
  /// Closes what has been silent too long, and answers what has waited too long.
  void tick();
  [[nodiscard]] std::optional<lease::Instant> next_deadline() const;

  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  [[nodiscard]] const ServerCounters& counters() const { return counters_; }
  /// For GetStatus.
  [[nodiscard]] wire::AgentStatus status() const;

 private:
  struct Connection;
  using Shared = std::shared_ptr<Connection>;

  void accept_all();
  void admit(format::UniqueFd socket);
  [[nodiscard]] core::Status check_room(uid_t uid) const;
  void turn_away(const format::UniqueFd& socket, const core::Error& error, const wire::Peer& peer);
  void on_ready(const Shared& connection, std::uint32_t events);
  void read_requests(const Shared& connection);
  void handle(const Shared& connection, wire::Packet packet);
  void dispatch(const Shared& connection, const wire::AgentRequest& request, format::UniqueFd fd);
  void hello(const Shared& connection, const wire::Hello& hello, format::UniqueFd fd);
  [[nodiscard]] core::Status adopt_process(const Shared& connection, format::UniqueFd fd);
  void acquire(const Shared& connection, const wire::Acquire& request);
  void acquire_by_process(const Shared& connection, GpuIndex gpu, LeaseAsk ask, const PeerFacts& facts);
  void grant(const Shared& connection, GpuIndex gpu, LeaseAsk ask, const PeerFacts& facts,
             const Permit& permit);
  void release(const Shared& connection, const wire::Release& request);
  void quiesce(const Shared& connection, const wire::Quiesce& request);
  void resume(const Shared& connection);
  [[nodiscard]] core::Status check_administrator(const Shared& connection) const;

  /// From here on the connection is not read until answer() or the deadline. Returns a number that tells this
  /// wait from later ones.
  std::uint64_t wait(Connection& connection, lease::Duration limit, std::string what);
  /// Answers the request that waits; false if it has been answered already.
  bool answer(const std::weak_ptr<Connection>& connection, std::uint64_t wait, const wire::AgentReply& reply,
              int fd = -1);
  void reply(Connection& connection, const wire::AgentReply& reply, int fd = -1);
  void refuse(Connection& connection, const core::Error& error);
  void update_interest(Connection& connection);
  void drop(ConnectionId id, std::string_view reason);
  void on_ended(const Ending& ending);
  [[nodiscard]] PeerFacts facts_of(const Connection& connection) const;
  [[nodiscard]] AuditEntry entry(AuditEvent event, const Connection& connection) const;

  ServerContext context_;
  format::UniqueFd listener_;
  std::shared_ptr<const Authority> authority_;
  std::map<ConnectionId, Shared> connections_;
  ConnectionId last_connection_ = 0;
  std::uint64_t last_wait_ = 0;
  lease::Instant started_;
  ServerCounters counters_;

  struct ByGrant {
    PeerFacts facts;
    GpuIndex gpu = 0;
  };
  std::map<LeaseId, ByGrant> by_grant_;  ///< leases that rule (b) allowed
};

}  // namespace perseus::agent
