// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/lease_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace perseus::agent {
namespace {

using core::ErrorCode;
using lease::Outcome;

/// Whether a lease of the GPU exists that has not been ended yet.
bool is_live(const LeaseTable::Gpu& gpu) {
  return gpu.phase == LeasePhase::kStarting || gpu.phase == LeasePhase::kHeld;
}

ErrorCode code_of(Obstacle obstacle) {
  switch (obstacle) {
    case Obstacle::kLost:
      return ErrorCode::kDeviceLost;
    case Obstacle::kYielded:
      return ErrorCode::kBusy;
    case Obstacle::kNone:
    case Obstacle::kUnsupported:
    case Obstacle::kUncontrollable:
      break;
  }
  return ErrorCode::kUnsupported;
}

Outcome outcome_of(Obstacle obstacle) {
  if (obstacle == Obstacle::kYielded) return Outcome::kYielded;
  if (obstacle == Obstacle::kUncontrollable) return Outcome::kUncontrollable;
  return Outcome::kEnded;
}

}  // namespace

LeaseTable::LeaseTable(std::vector<std::string> gpu_names) {
  for (std::string& name : gpu_names) gpus_.push_back({.name = std::move(name)});
}

core::Status LeaseTable::check_free(const Gpu& gpu) const {
  if (stopped_) return core::fail(ErrorCode::kBusy, "the agent is stopping");
  if (quiesced_) {
    return core::fail(ErrorCode::kBusy,
                      "the agent is quiesced: it has let go of all GPUs until it is resumed");
  }
  if (is_live(gpu)) {
    return core::fail(ErrorCode::kBusy,
                      fmt::format("{} is leased by {}", gpu.name, format::owner_text(gpu.ask.owner)));
  }
  if (gpu.obstacle != Obstacle::kNone) {
    return core::fail(code_of(gpu.obstacle), fmt::format("{}: {}", gpu.name, gpu.obstacle_reason));
  }
  if (gpu.phase == LeasePhase::kEnding) {
    return core::fail(ErrorCode::kBusy,
                      fmt::format("{} is on its way back to its baseline from the lease of {}", gpu.name,
                                  format::owner_text(gpu.ask.owner)));
  }
  if (gpu.owing) {
    return core::fail(ErrorCode::kDriver,
                      fmt::format("{} has not come back to its baseline yet; its driver refuses", gpu.name));
  }
  return {};
}

core::Result<LeaseId> LeaseTable::begin(GpuIndex index, LeaseAsk ask, lease::Instant now) {
  Gpu& gpu = gpus_.at(index);
  PERSEUS_RETURN_IF_ERROR(check_free(gpu));
  gpu.phase = LeasePhase::kStarting;
  gpu.lease = ++last_lease_;
  gpu.deadline = now + ask.time_to_live;
  gpu.ask = std::move(ask);
  return gpu.lease;
}

bool LeaseTable::started(LeaseId lease, bool ok) {
  const auto index = find(lease);
  if (!index) return false;
  Gpu& gpu = gpus_[*index];
  gpu.phase = ok ? LeasePhase::kHeld : LeasePhase::kFree;
  return ok;
}

core::Result<GpuIndex> LeaseTable::find_held(LeaseId lease, ConnectionId connection) const {
  const auto index = find(lease);
  if (index && gpus_[*index].phase == LeasePhase::kHeld && gpus_[*index].ask.connection == connection) {
    return *index;
  }
  return core::fail(ErrorCode::kNotFound, fmt::format("this connection holds no lease {}", lease));
}

core::Status LeaseTable::renew(LeaseId lease, ConnectionId connection, lease::Instant now) {
  PERSEUS_ASSIGN_OR_RETURN(const GpuIndex index, find_held(lease, connection));
  gpus_[index].deadline = now + gpus_[index].ask.time_to_live;
  return {};
}

void LeaseTable::keep_alive(ConnectionId connection, lease::Instant now) {
  for (Gpu& gpu : gpus_) {
    if (gpu.phase == LeasePhase::kHeld && gpu.ask.connection == connection)
      gpu.deadline = now + gpu.ask.time_to_live;
  }
}

core::Result<Ending> LeaseTable::release(LeaseId lease, ConnectionId connection) {
  PERSEUS_ASSIGN_OR_RETURN(const GpuIndex index, find_held(lease, connection));
  return end(index, Outcome::kEnded, "released", false);
}

Ending LeaseTable::end(GpuIndex index, Outcome outcome, std::string_view reason, bool tell) {
  Gpu& gpu = gpus_[index];
  gpu.phase = LeasePhase::kEnding;
  return {.lease = gpu.lease,
          .gpu = index,
          .connection = gpu.ask.connection,
          .owner = gpu.ask.owner,
          .outcome = outcome,
          .reason = std::string(reason),
          .tell = tell};
}

template <class Wanted>
std::vector<Ending> LeaseTable::end_where(std::string_view reason, bool tell, Wanted&& wanted) {
  std::vector<Ending> endings;
  for (GpuIndex i = 0; i < gpus_.size(); ++i) {
    if (is_live(gpus_[i]) && wanted(gpus_[i])) endings.push_back(end(i, Outcome::kEnded, reason, tell));
  }
  return endings;
}

std::vector<Ending> LeaseTable::expire(lease::Instant now, WallTime wall) {
  auto endings = end_where("expired: not renewed within its time to live", true,
                           [&](const Gpu& gpu) { return now >= gpu.deadline; });
  auto grants = end_where("the grant that allowed it has expired", true,
                          [&](const Gpu& gpu) { return gpu.ask.until && wall >= *gpu.ask.until; });
  std::ranges::move(grants, std::back_inserter(endings));
  return endings;
}

std::vector<Ending> LeaseTable::drop(ConnectionId connection, std::string_view reason) {
  return end_where(reason, false, [&](const Gpu& gpu) { return gpu.ask.connection == connection; });
}

std::optional<Ending> LeaseTable::revoke(LeaseId lease, std::string_view reason) {
  const auto index = find(lease);
  if (!index) return std::nullopt;
  return end(*index, Outcome::kEnded, reason, true);
}

void LeaseTable::restored(GpuIndex index, bool ok) {
  Gpu& gpu = gpus_.at(index);
  if (gpu.phase == LeasePhase::kEnding) gpu.phase = LeasePhase::kFree;
  gpu.owing = !ok;
}

void LeaseTable::owe(GpuIndex index) {
  gpus_.at(index).owing = true;
}

std::optional<Ending> LeaseTable::set_obstacle(GpuIndex index, Obstacle obstacle, std::string reason) {
  Gpu& gpu = gpus_.at(index);
  if (obstacle == Obstacle::kYielded || obstacle == Obstacle::kUncontrollable) {
    gpu.verdict = obstacle;
    gpu.verdict_reason = reason;
  } else if (obstacle == Obstacle::kNone) {
    obstacle = gpu.verdict;
    reason = gpu.verdict_reason;
  }
  gpu.obstacle = obstacle;
  gpu.obstacle_reason = std::move(reason);
  if (obstacle == Obstacle::kNone || !is_live(gpu)) return std::nullopt;
  return end(index, outcome_of(obstacle), gpu.obstacle_reason, true);
}

std::vector<Ending> LeaseTable::quiesce(std::optional<lease::Instant> resume_at) {
  quiesced_ = true;
  resume_at_ = resume_at;
  return end_where("the agent was quiesced by an administrator", true, [](const Gpu&) { return true; });
}

void LeaseTable::resume() {
  quiesced_ = false;
  resume_at_.reset();
  for (Gpu& gpu : gpus_) {
    gpu.verdict = Obstacle::kNone;
    gpu.verdict_reason.clear();
    if (gpu.obstacle != Obstacle::kYielded && gpu.obstacle != Obstacle::kUncontrollable) continue;
    gpu.obstacle = Obstacle::kNone;
    gpu.obstacle_reason.clear();
  }
}

std::vector<Ending> LeaseTable::stop() {
  stopped_ = true;
  return end_where("the agent is stopping", true, [](const Gpu&) { return true; });
}

std::optional<lease::Instant> LeaseTable::next_deadline() const {
  std::optional<lease::Instant> next = resume_at_;
  for (const Gpu& gpu : gpus_) {
    if (is_live(gpu) && (!next || gpu.deadline < *next)) next = gpu.deadline;
  }
  return next;
}

bool LeaseTable::at_rest() const {
  return std::ranges::all_of(gpus_,
                             [](const Gpu& gpu) { return gpu.phase == LeasePhase::kFree && !gpu.owing; });
}

std::optional<GpuIndex> LeaseTable::find(LeaseId lease) const {
  for (GpuIndex i = 0; i < gpus_.size(); ++i) {
    if (is_live(gpus_[i]) && gpus_[i].lease == lease) return i;
  }
  return std::nullopt;
}

std::size_t LeaseTable::leases_of(ConnectionId connection) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      gpus_, [&](const Gpu& gpu) { return is_live(gpu) && gpu.ask.connection == connection; }));
}

}  // namespace perseus::agent
