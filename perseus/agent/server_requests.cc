// SPDX-License-Identifier: Apache-2.0
//
// The part of the server that answers requests.
#include <fmt/format.h>
#include <sys/epoll.h>

#include <utility>

#include "perseus/agent/durations.h"
#include "perseus/agent/server.h"
#include "perseus/agent/server_connection.h"
#include "perseus/agent/version.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

WallTime wall_now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

wire::AgentReply refusal(const core::Error& error) {
  return wire::Refusal{error.code(), error.message()};
}

std::string code_name(const core::Error& error) {
  return std::string(core::info(error.code()).name);
}

}  // namespace

void Server::dispatch(const Shared& connection, const wire::AgentRequest& request) {
  if (const auto* first = std::get_if<wire::Hello>(&request)) return hello(connection, *first);
  if (!connection->greeted) {
    return refuse(*connection, core::Error(ErrorCode::kInvalidInput, "the first request must be hello"));
  }
  std::visit(Overloaded{
                 [](const wire::Hello&) {},  // above
                 [&](const wire::Acquire& ask) { acquire(connection, ask); },
                 [&](const wire::Renew& renew) {
                   const auto renewed = context_.fleet.renew(renew.lease, connection->id);
                   reply(*connection, renewed ? wire::AgentReply(wire::Ok{}) : refusal(renewed.error()));
                 },
                 [&](const wire::Release& ask) { release(connection, ask); },
                 [&](const wire::GetStatus&) { reply(*connection, status()); },
                 [&](const wire::Quiesce& ask) { quiesce(connection, ask); },
                 [&](const wire::Resume&) { resume(connection); },
             },
             request);
}

void Server::hello(const Shared& connection, const wire::Hello& hello) {
  if (connection->greeted) {
    return refuse(*connection, core::Error(ErrorCode::kInvalidInput, "hello was said before"));
  }
  if (hello.protocol != wire::kAgentProtocol) {
    return refuse(*connection,
                  core::Error(ErrorCode::kUnsupported, fmt::format("this agent speaks protocol {}, not {}",
                                                                   wire::kAgentProtocol, hello.protocol)));
  }
  // What was sent before the pidfd was open may come from a process that had the number earlier: it has no
  // say.
  if (wire::has_input(connection->socket.get())) {
    refuse(*connection,
           core::Error(ErrorCode::kInvalidInput, "something was sent before the welcome to hello was read"));
    return drop(connection->id, "it did not wait for its welcome");
  }
  connection->greeted = true;
  connection->client = hello.client;
  reply(*connection, wire::Welcome{.version = kVersion,
                                   .backend = std::string(context_.fleet.backend().name()),
                                   .gpus = context_.fleet.welcome()});
}

PeerFacts Server::facts_of(const Connection& connection) const {
  PeerFacts facts{.pid = connection.peer.pid, .uid = connection.peer.uid};
  if (const auto in_ours = context_.processes.in_our_pid_namespace(facts.pid))
    facts.in_our_pid_namespace = *in_ours;
  if (auto cgroup = context_.processes.cgroup(facts.pid)) facts.cgroup = *std::move(cgroup);
  // The number may have gone to another process while its files were read; the pidfd tells.
  if (connection.process && connection.process->is_alive()) return facts;
  return {.pid = facts.pid, .uid = facts.uid};
}

AuditEntry Server::entry(AuditEvent event, const Connection& connection) const {
  return {
      .event = event, .uid = connection.peer.uid, .pid = connection.peer.pid, .client = connection.client};
}

void Server::acquire(const Shared& connection, const wire::Acquire& request) {
  const auto gpu = context_.fleet.find(request.gpu);
  if (!gpu) return refuse(*connection, gpu.error());
  if (!connection->process) {
    return refuse(
        *connection,
        core::Error(ErrorCode::kPermission,
                    "a lease needs a process that the agent can see; yours is in another pid namespace"));
  }
  const PeerFacts facts = facts_of(*connection);
  LeaseAsk ask{
      .connection = connection->id,
      .owner = {.pid = facts.pid, .uid = facts.uid, .job = request.job, .client = connection->client},
      .time_to_live = request.time_to_live};
  const gpu::Identity& identity = context_.fleet.identity(*gpu);
  const auto permit = authority_->by_rule(facts, identity, wall_now());
  if (permit) return grant(connection, *gpu, std::move(ask), facts, *permit);
  acquire_by_process(connection, *gpu, std::move(ask), facts);
}

void Server::acquire_by_process(const Shared& connection, GpuIndex gpu, LeaseAsk ask,
                                const PeerFacts& facts) {
  const std::uint64_t number =
      wait(*connection, to_duration(context_.fleet.config().degraded_after),
           "the driver has not told which processes use the GPU, and nothing else gives a right to it");
  const std::weak_ptr<Connection> weak = connection;
  context_.fleet.ask_processes(gpu, [this, weak, number, gpu, ask = std::move(ask),
                                     facts](const core::Result<std::vector<pid_t>>& pids) {
    const Shared alive = weak.lock();
    if (!alive || !alive->waiting || alive->waiting->number != number || !connections_.contains(alive->id))
      return;
    std::vector<Authority::GpuProcess> processes;
    for (const pid_t pid : pids ? *pids : std::vector<pid_t>{}) {
      if (auto cgroup = context_.processes.cgroup(pid)) processes.push_back({pid, *std::move(cgroup)});
    }
    alive->waiting.reset();
    if (const auto permit = Authority::by_process(facts, processes)) {
      return grant(alive, gpu, ask, facts, *permit);
    }
    update_interest(*alive);
    context_.fleet.count_refusal(gpu);
    const core::Error error(ErrorCode::kPermission, denial(facts, context_.fleet.identity(gpu)));
    AuditEntry audit = entry(AuditEvent::kAcquire, *alive);
    audit.index = context_.fleet.identity(gpu).index;
    audit.gpu = context_.fleet.identity(gpu).uuid;
    audit.cgroup = facts.cgroup;
    audit.job = ask.owner.job;
    audit.result = code_name(error);
    audit.detail = error.message();
    context_.audit.write(audit);
    refuse(*alive, error);
  });
}

void Server::grant(const Shared& connection, GpuIndex gpu, LeaseAsk ask, const PeerFacts& facts,
                   const Permit& permit) {
  const auto limit = to_duration(context_.fleet.config().degraded_after);
  const std::uint64_t number =
      wait(*connection, limit, "the GPU's thread waits for its driver; try again later");
  const auto time_to_live = ask.time_to_live;
  const std::string job = ask.owner.job;
  const std::weak_ptr<Connection> weak = connection;
  AuditEntry audit = entry(AuditEvent::kAcquire, *connection);
  audit.index = context_.fleet.identity(gpu).index;
  audit.gpu = context_.fleet.identity(gpu).uuid;
  audit.cgroup = facts.cgroup;
  audit.job = job;
  audit.detail = permit.why;
  const bool by_grant = permit.why.starts_with("grant");
  context_.fleet.acquire(gpu, std::move(ask), permit,
                         [this, weak, number, time_to_live, audit, by_grant, facts, gpu,
                          permit](core::Result<Granted> granted) mutable {
                           if (!granted) {
                             context_.fleet.count_refusal(gpu);
                             audit.result = code_name(granted.error());
                             audit.detail = granted.error().message();
                             context_.audit.write(audit);
                             answer(weak, number, refusal(granted.error()));
                             return;
                           }
                           audit.lease = granted->lease;
                           context_.audit.write(audit);
                           if (by_grant) {
                             std::erase_if(by_grant_, [this](const auto& one) {
                               return !context_.fleet.table().find(one.first);
                             });
                             by_grant_[granted->lease] = {facts, gpu, permit};
                           }
                           const wire::Acquired acquired{granted->lease, granted->gpu, granted->baseline,
                                                         granted->clocks, time_to_live};
                           if (answer(weak, number, acquired, granted->mailbox)) return;
                           // Nobody waits for it any more.
                           context_.fleet.revoke(granted->lease, "it came too late for the client");
                         });
}

void Server::release(const Shared& connection, const wire::Release& request) {
  const std::uint64_t number =
      wait(*connection, to_duration(context_.fleet.config().degraded_after),
           "the driver has not answered yet; the GPU is brought to its baseline as soon as it does");
  const std::weak_ptr<Connection> weak = connection;
  context_.fleet.release(request.lease, connection->id, [this, weak, number](core::Status status) {
    answer(weak, number, status ? wire::AgentReply(wire::Ok{}) : refusal(status.error()));
  });
}

core::Status Server::check_administrator(const Shared& connection) const {
  const PeerFacts facts = facts_of(*connection);
  if (connection->process && authority_->is_administrator(facts)) return {};
  return core::fail(
      ErrorCode::kPermission,
      fmt::format("uid {} (pid {}) is no administrator of this agent: that is its own user, outside of "
                  "containers",
                  facts.uid, facts.pid));
}

void Server::quiesce(const Shared& connection, const wire::Quiesce& request) {
  AuditEntry audit = entry(AuditEvent::kQuiesce, *connection);
  if (const auto allowed = check_administrator(connection); !allowed) {
    audit.result = code_name(allowed.error());
    context_.audit.write(audit);
    return refuse(*connection, allowed.error());
  }
  context_.audit.write(audit);
  // Restores and closing take a driver call each.
  const std::uint64_t number =
      wait(*connection, 2 * to_duration(context_.fleet.config().degraded_after),
           "a driver call has not returned yet; the agent lets go as soon as it does");
  const std::weak_ptr<Connection> weak = connection;
  context_.fleet.quiesce(request.resume_after, [this, weak, number](core::Status status) {
    answer(weak, number, status ? wire::AgentReply(wire::Ok{}) : refusal(status.error()));
  });
}

void Server::resume(const Shared& connection) {
  AuditEntry audit = entry(AuditEvent::kResume, *connection);
  if (const auto allowed = check_administrator(connection); !allowed) {
    audit.result = code_name(allowed.error());
    context_.audit.write(audit);
    return refuse(*connection, allowed.error());
  }
  context_.audit.write(audit);
  const std::uint64_t number = wait(*connection, 2 * to_duration(context_.fleet.config().degraded_after),
                                    "the driver has not been opened yet; the agent goes on trying");
  const std::weak_ptr<Connection> weak = connection;
  context_.fleet.resume([this, weak, number](core::Status status) {
    answer(weak, number, status ? wire::AgentReply(wire::Ok{}) : refusal(status.error()));
  });
}

}  // namespace perseus::agent
