// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/authority.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace perseus::agent {
namespace {

/// The kernel appends this to the path of a cgroup that was removed while processes of it live on.
constexpr std::string_view kDeleted = " (deleted)";

bool is_authority(std::string_view cgroup) {
  return cgroup.size() > 1 && cgroup.front() == '/' && !cgroup.ends_with(kDeleted);
}

bool names(const format::Grant& grant, const gpu::Identity& gpu) {
  return grant.all_gpus || std::ranges::any_of(grant.gpus, [&](const std::string& name) {
           return name == gpu.uuid || name == fmt::format("{}", gpu.index);
         });
}

bool holds(const format::Grant& grant, const PeerFacts& peer) {
  // A uid inside a container is the container's business: only the host's own users are meant.
  if (grant.uid) return *grant.uid == peer.uid && peer.in_our_pid_namespace;
  return grant.cgroup && is_authority(peer.cgroup) && is_below(peer.cgroup, *grant.cgroup);
}

/// Smaller allows more.
auto rank(const format::Grant& grant) {
  const auto floor = grant.min_clock ? grant.min_clock->value() : 0;
  const auto end = grant.expires ? grant.expires->time_since_epoch().count()
                                 : std::numeric_limits<std::chrono::seconds::rep>::max();
  return std::tuple(floor, -end, grant.line);
}

}  // namespace

bool is_below(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

bool Authority::is_administrator(const PeerFacts& peer) const {
  return peer.uid == own_ && peer.in_our_pid_namespace;
}

std::optional<Permit> Authority::by_rule(const PeerFacts& peer, const gpu::Identity& gpu,
                                         WallTime now) const {
  if (is_administrator(peer)) return Permit{.why = "own user"};
  const format::Grant* best = nullptr;
  for (const format::Grant& grant : grants_) {
    const bool valid = !grant.expires || now < *grant.expires;
    if (!valid || !holds(grant, peer) || !names(grant, gpu)) continue;
    if (best == nullptr || rank(grant) < rank(*best)) best = &grant;
  }
  if (best == nullptr) return std::nullopt;
  return Permit{fmt::format("grant (line {})", best->line), best->min_clock, best->expires};
}

std::optional<Permit> Authority::by_process(const PeerFacts& peer, std::span<const GpuProcess> processes) {
  if (!is_authority(peer.cgroup)) return std::nullopt;
  for (const GpuProcess& process : processes) {
    if (process.cgroup == peer.cgroup)
      return Permit{.why = fmt::format("process {} on the GPU", process.pid)};
  }
  return std::nullopt;
}

std::string denial(const PeerFacts& peer, const gpu::Identity& gpu) {
  return fmt::format(
      "uid {} (pid {}) may not set the clock of GPU {}: it is not the agent's own user on the host, no grant "
      "names "
      "it, and no process of its cgroup uses that GPU",
      peer.uid, peer.pid, gpu.index);
}

}  // namespace perseus::agent
