// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "perseus/agent/durations.h"
#include "perseus/agent/server_connection.h"
#include "perseus/agent/version.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

/// Everything is done at once or not at all.
constexpr wire::Deadline kNow{};
/// Until accepting is tried again after the system refused (assumed).
constexpr lease::Duration kAcceptPause = std::chrono::milliseconds(200);
/// Requests of one connection that are handled before others get their turn.
constexpr int kMaxRequestsAtOnce = 8;
/// Connections that only the agent's own user may use (assumed: a few administrators' commands at a time).
constexpr std::size_t kReserve = 16;

bool is_narrower(const Permit& now, const Permit& before) {
  const bool higher_floor = now.floor && (!before.floor || *now.floor > *before.floor);
  const bool earlier_end = now.until && (!before.until || *now.until < *before.until);
  return higher_floor || earlier_end;
}

}  // namespace

Server::Server(ServerContext context, format::UniqueFd listener, std::shared_ptr<const Authority> authority)
    : context_(context),
      listener_(std::move(listener)),
      authority_(std::move(authority)),
      started_(context.time.now()) {
  context_.fleet.on_ended([this](const Ending& ending) { on_ended(ending); });
}

Server::~Server() {
  context_.fleet.on_ended({});
  close_listener();
  for (auto& [id, connection] : connections_) {
    context_.loop.forget(connection->socket.get());
    if (connection->process) context_.loop.forget(connection->process->fd());
  }
}

core::Status Server::start() {
  return context_.loop.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_all(); });
}

void Server::close_listener() {
  if (!listener_) return;
  context_.loop.forget(listener_.get());
  listener_.reset();
  accept_again_.reset();
}

void Server::accept_all() {
  // As many as a burst may bring; the rest at the next turn.
  constexpr int kMaxAccepts = 64;
  for (int i = 0; i < kMaxAccepts; ++i) {
    format::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      admit(std::move(socket));
      continue;
    }
    if (errno == ECONNABORTED || errno == EINTR) continue;
    if (errno == EAGAIN) return;
    // Out of descriptors or memory. The connection stays in the queue; without a pause this would spin.
    accept_again_ = context_.time.now() + kAcceptPause;
    context_.loop.change(listener_.get(), 0);
    return;
  }
}

core::Status Server::check_room(uid_t uid) const {
  const format::AgentConfig& config = context_.fleet.config();
  // The administrator gets in when all others have used up their room.
  const std::size_t room = config.max_connections + (uid == ::geteuid() ? kReserve : 0);
  if (connections_.size() >= room) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("the agent has {} connections, the limit", config.max_connections));
  }
  const auto same =
      std::ranges::count_if(connections_, [&](const auto& c) { return c.second->peer.uid == uid; });
  if (static_cast<std::size_t>(same) < config.max_connections_per_uid) return {};
  return core::fail(ErrorCode::kLimit, fmt::format("uid {} has {} connections, the limit for one user", uid,
                                                   config.max_connections_per_uid));
}

void Server::turn_away(const format::UniqueFd& socket, const core::Error& error, const wire::Peer& peer) {
  ++counters_.turned_away;
  (void)wire::send_packet(
      socket.get(), wire::encode(wire::AgentReply(wire::Refusal{error.code(), error.message()})), -1, kNow);
  context_.audit.write({.event = AuditEvent::kConnect,
                        .uid = peer.uid,
                        .pid = peer.pid,
                        .result = std::string(core::info(error.code()).name),
                        .detail = error.message()});
  wire::hear_no_more(socket.get());  // it may have said hello already, and must be able to read this
}

void Server::admit(format::UniqueFd socket) {
  const auto peer = wire::peer_of(socket.get());
  if (!peer) return;
  if (const auto room = check_room(peer->uid); !room) return turn_away(socket, room.error(), *peer);
  ++counters_.accepted;
  const auto now = context_.time.now();
  auto connection = std::make_shared<Connection>(
      Connection{.id = ++last_connection_,
                 .socket = std::move(socket),
                 .peer = *peer,
                 .bucket = TokenBucket(context_.fleet.config().requests_per_second, now),
                 .last_message = now});
  const std::weak_ptr<Connection> weak = connection;
  const auto watched =
      context_.loop.watch(connection->socket.get(), EPOLLIN | EPOLLRDHUP, [this, weak](auto events) {
        if (const auto alive = weak.lock()) on_ready(alive, events);
      });
  if (!watched) return;
  connections_.emplace(connection->id, connection);
  if (const auto alive = watch_process(connection); !alive) drop(connection->id, alive.error().message());
}

core::Status Server::watch_process(const Shared& connection) {
  // A process in a pid namespace that we do not see: it may look, but not lease.
  if (connection->peer.pid == 0) return {};
  auto process = lease::ProcessHandle::open(connection->peer.pid);
  if (!process && process.error().code() == ErrorCode::kUnsupported) return {};
  if (!process) return std::unexpected(process.error());
  const ConnectionId id = connection->id;
  PERSEUS_RETURN_IF_ERROR(context_.loop.watch(
      process->fd(), EPOLLIN, [this, id](std::uint32_t) { drop(id, "its process has ended"); }));
  connection->process = *std::move(process);
  return {};
}

core::Status Server::check_sender(const Connection& connection, const wire::Request& packet) const {
  if (packet.sender == connection.peer.pid) return {};
  return core::fail(ErrorCode::kPermission,
                    fmt::format("this connection was made by process {}; process {} cannot use it",
                                connection.peer.pid, packet.sender));
}

void Server::on_ready(const Shared& connection, std::uint32_t events) {
  const bool may_read = !connection->waiting && !connection->throttled;
  if ((events & EPOLLIN) != 0 && may_read) read_requests(connection);
  // What it sent before it went has been read above, unless it has to wait: then nobody waits for the reply.
  if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) drop(connection->id, "the connection was closed");
}

void Server::read_requests(const Shared& connection) {
  for (int i = 0; i < kMaxRequestsAtOnce; ++i) {
    if (connection->waiting || !connections_.contains(connection->id)) return;
    if (!connection->bucket.take(context_.time.now())) {
      connection->throttled = true;
      update_interest(*connection);
      return;
    }
    auto packet = wire::receive_request(connection->socket.get(), wire::kMaxAgentRequest, kNow);
    if (!packet && packet.error().code() == ErrorCode::kTimeout) return;
    if (!packet) {
      ++counters_.malformed;
      refuse(*connection, packet.error());
      return drop(connection->id, "it sent what is no request");
    }
    if (packet->end) return drop(connection->id, "the connection was closed");
    handle(connection, *packet);
  }
}

void Server::handle(const Shared& connection, const wire::Request& packet) {
  ++counters_.requests;
  connection->last_message = context_.time.now();
  if (const auto own = check_sender(*connection, packet); !own) {
    AuditEntry audit = entry(AuditEvent::kConnect, *connection);
    audit.result = core::info(own.error().code()).name;
    audit.detail = own.error().message();
    context_.audit.write(audit);
    refuse(*connection, own.error());
    return drop(connection->id, "another process used its connection");
  }
  const auto request = wire::parse_agent_request(packet.bytes);
  if (!request) {
    ++counters_.malformed;
    refuse(*connection, request.error());
    return drop(connection->id, "it sent what is no request");
  }
  dispatch(connection, *request);
}

void Server::update_interest(Connection& connection) {
  const bool reads = !connection.waiting && !connection.throttled;
  context_.loop.change(connection.socket.get(), EPOLLRDHUP | (reads ? EPOLLIN : 0U));
}

std::uint64_t Server::wait(Connection& connection, lease::Duration limit, std::string what) {
  connection.waiting = Connection::Wait{++last_wait_, context_.time.now() + limit, std::move(what)};
  update_interest(connection);
  return last_wait_;
}

bool Server::answer(const std::weak_ptr<Connection>& weak, std::uint64_t wait,
                    const wire::AgentReply& message, int fd) {
  const Shared connection = weak.lock();
  if (!connection || !connection->waiting || connection->waiting->number != wait) return false;
  if (!connections_.contains(connection->id)) return false;
  connection->waiting.reset();
  connection->last_message = context_.time.now();
  context_.fleet.keep_alive(connection->id);  // what it sent meanwhile is read only now
  update_interest(*connection);
  reply(*connection, message, fd);
  return true;
}

void Server::reply(Connection& connection, const wire::AgentReply& message, int fd) {
  if (std::holds_alternative<wire::Refusal>(message)) ++counters_.refused;
  if (wire::send_packet(connection.socket.get(), wire::encode(message), fd, kNow)) return;
  // It does not read, or is gone. Not dropped here, where callers still use it.
  const ConnectionId id = connection.id;
  context_.loop.post([this, id] { drop(id, "it does not read its replies"); });
}

void Server::refuse(Connection& connection, const core::Error& error) {
  reply(connection, wire::Refusal{error.code(), error.text()});
}

void Server::drop(ConnectionId id, std::string_view reason) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const Shared connection = found->second;
  connections_.erase(found);
  context_.loop.forget(connection->socket.get());
  if (connection->process) context_.loop.forget(connection->process->fd());
  wire::hear_no_more(connection->socket.get());  // so that it can read what it was told last
  connection->socket.reset();
  context_.fleet.drop(id, reason);
}

void Server::on_ended(const Ending& ending) {
  by_grant_.erase(ending.lease);
  const auto found = connections_.find(ending.connection);
  if (found != connections_.end()) reply(*found->second, wire::Ended{ending.lease, ending.reason});
}

void Server::tick() {
  const auto now = context_.time.now();
  const format::AgentConfig& config = context_.fleet.config();
  if (accept_again_ && now >= *accept_again_) {
    accept_again_.reset();
    context_.loop.change(listener_.get(), EPOLLIN);
  }
  std::vector<ConnectionId> silent;
  for (const auto& [id, connection] : connections_) {
    if (connection->throttled && connection->bucket.next() <= now) {
      connection->throttled = false;
      update_interest(*connection);
    }
    if (connection->waiting) {
      // It is not read meanwhile, so it cannot renew; the wait is bounded.
      context_.fleet.keep_alive(id);
      if (now < connection->waiting->deadline) continue;
      const std::string what = connection->waiting->what;
      answer(connection, connection->waiting->number, wire::Refusal{ErrorCode::kTimeout, what});
      continue;
    }
    const auto limit = to_duration(connection->greeted ? config.idle : config.first_message);
    if (now - connection->last_message >= limit && context_.fleet.table().leases_of(id) == 0)
      silent.push_back(id);
  }
  counters_.timed_out += silent.size();
  for (const ConnectionId id : silent) drop(id, "it was silent too long");
}

std::optional<lease::Instant> Server::next_deadline() const {
  std::optional<lease::Instant> next = accept_again_;
  const format::AgentConfig& config = context_.fleet.config();
  for (const auto& [id, connection] : connections_) {
    auto deadline =
        connection->last_message + to_duration(connection->greeted ? config.idle : config.first_message);
    if (connection->waiting) {
      deadline = connection->waiting->deadline;
    } else if (connection->throttled) {
      deadline = connection->bucket.next();
    } else if (context_.fleet.table().leases_of(id) != 0) {
      continue;  // the lease table knows when it ends
    }
    if (!next || deadline < *next) next = deadline;
  }
  return next;
}

void Server::set_authority(std::shared_ptr<const Authority> authority) {
  authority_ = std::move(authority);
  const auto wall = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  std::vector<LeaseId> withdrawn;
  for (const auto& [lease, by] : by_grant_) {
    const auto permit = authority_->by_rule(by.facts, context_.fleet.identity(by.gpu), wall);
    // A lease keeps the terms that it was given; where they are wider than what is granted now, it ends.
    if (!context_.fleet.table().find(lease) || !permit || is_narrower(*permit, by.permit))
      withdrawn.push_back(lease);
  }
  for (const LeaseId lease : withdrawn) {
    by_grant_.erase(lease);
    context_.fleet.revoke(lease, "the grant that allowed it was withdrawn or made narrower");
  }
}

wire::AgentStatus Server::status() const {
  const std::chrono::duration<double> uptime = context_.time.now() - started_;
  return {.version = kVersion,
          .backend = std::string(context_.fleet.backend().name()),
          .driver = context_.fleet.driver_version(),
          .quiesced = context_.fleet.table().quiesced(),
          .uptime_s = uptime.count(),
          .gpus = context_.fleet.status()};
}

}  // namespace perseus::agent
