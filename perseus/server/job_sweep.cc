// SPDX-License-Identifier: Apache-2.0
//
// A job's part in its sweep: who must be there, when a batch is over, what is wished for meanwhile.
#include <fmt/format.h>

#include <algorithm>

#include "perseus/server/job_state.h"

namespace perseus::server {

using core::ErrorCode;
using core::fail;

bool JobState::dry_run() const {
  return !ranks_.empty() &&
         std::ranges::none_of(ranks_, [](const auto& entry) { return entry.second.clock_control; });
}

std::vector<SweepRank> JobState::sweep_ranks() const {
  std::vector<SweepRank> out = server::sweep_ranks(registration_.schedule);
  std::vector<bool> seen(out.size(), false);
  for (const auto& [id, rank] : ranks_) {
    std::vector<core::Megahertz> clocks = rank.clocks;
    std::ranges::sort(clocks, std::greater());
    clocks.erase(std::ranges::unique(clocks).begin(), clocks.end());
    auto& common = out[id.pp].clocks;
    if (!seen[id.pp]) {
      common = std::move(clocks);
    } else {
      std::erase_if(common, [&](core::Megahertz c) { return std::ranges::find(clocks, c) == clocks.end(); });
    }
    seen[id.pp] = true;
  }
  return out;
}

std::string JobState::sweep_obstacle(Moment now) const {
  const std::size_t all = std::size_t{registration_.parallel.data} * registration_.parallel.tensor *
                          registration_.schedule.pipeline();
  const std::size_t there = ranks_.size() < all ? ranks_.size() : live_count(now);
  if (there < all) return fmt::format("{} of {} ranks are there", there, all);
  for (const auto& [id, rank] : ranks_) {
    if (!rank.clock_control) return fmt::format("rank {} does not control its clock", to_text(id));
  }
  const auto ranks = sweep_ranks();
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].clocks.empty())
      return fmt::format("the GPUs of pipeline rank {} offer no clock in common", r);
    if (ranks[r].works.empty())
      return fmt::format("pipeline rank {} has no computation that ranks can measure", r);
  }
  return "";
}

void JobState::restore_sweep(Sweep sweep, std::uint64_t generation) {
  sweep_generation_ = generation;
  const bool goes_on = deployment_ && !deployment_->windows.empty() &&
                       deployment_->generation == generation && deployment_->incarnation == incarnation() &&
                       deployment_->windows == sweep.batch();
  if (sweep.running() && !goes_on) sweep.abandon();
  sweep_.emplace(std::move(sweep));
}

const Sweep* JobState::running_sweep() const {
  const bool runs = sweep_ && sweep_->running() && deployment_ && deployment_->from_step &&
                    deployment_->generation == sweep_generation_;
  return runs ? &*sweep_ : nullptr;
}

core::Result<Applied> JobState::check_window(const RankId& rank, const WindowReport& report) const {
  PERSEUS_RETURN_IF_ERROR(check_incarnation(report.stamp.incarnation));
  const auto known = ranks_.find(rank);
  if (known == ranks_.end()) {
    return fail(ErrorCode::kNotFound,
                fmt::format("rank {} of job {} is not registered; register it again", to_text(rank), name_));
  }
  const Sweep* running = running_sweep();
  const bool current =
      running != nullptr && report.generation == sweep_generation_ && report.window < running->batch().size();
  return current && report.stamp.sequence > known->second.sequence ? Applied::kApplied : Applied::kRepeated;
}

core::Result<Applied> JobState::window(const RankId& rank, WindowReport report, Moment now) {
  PERSEUS_ASSIGN_OR_RETURN(const Applied current, check_window(rank, report));
  RankState* state = nullptr;
  PERSEUS_ASSIGN_OR_RETURN(const Applied fresh, note(rank, report.stamp, now, state));
  if (fresh == Applied::kRepeated) return fresh;
  advance(*state, report.step, now);
  if (current == Applied::kApplied && sweep_) sweep_->add(rank, std::move(report));
  return current;
}

bool JobState::close_batch(Moment now) {
  const Sweep* sweep = running_sweep();
  if (sweep == nullptr || !sweep_ || !deployment_) return false;
  const auto last = static_cast<std::uint32_t>(sweep->batch().size() - 1);
  const bool reported = live_count(now) != 0 && std::ranges::all_of(ranks_, [&](const auto& entry) {
                          return !live(entry.second, now) || sweep->has_report(entry.first, last);
                        });
  std::uint64_t end = deployment_->from_step.value_or(0);
  for (const SweepWindow& window : sweep->batch()) end += window.steps;
  if (!past_batch_ && newest_step_ > end) past_batch_ = now;
  const bool late = past_batch_ && now >= *past_batch_ + settings_.report_grace;
  if (!reported && !late) return false;
  past_batch_.reset();
  sweep_->close();
  return true;
}

std::optional<Wish> JobState::sweep_wish(const Sweep& sweep, Moment now) const {
  // Its windows end by themselves in baseline clocks: between two batches nothing has to be said.
  if (sweep.running() || sweep.upcoming().empty() || !sweep_obstacle(now).empty()) {
    const bool outdated = deployment_ && !deployment_->baseline() && deployment_->schedule_sha256 != fence_;
    return outdated ? std::optional(Wish{"order changed", std::nullopt, {}, true}) : std::nullopt;
  }
  return Wish{"profile", std::nullopt, sweep.upcoming(), false};
}

}  // namespace perseus::server
