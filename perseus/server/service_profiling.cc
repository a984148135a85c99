// SPDX-License-Identifier: Apache-2.0
//
// From registered ranks to a measured profile: begins sweeps, takes their reports, and ends them in a profile
// that is stored and planned from like an uploaded one.
#include <fmt/format.h>

#include <algorithm>

#include "perseus/format/sha256.h"
#include "perseus/server/json_text.h"
#include "perseus/server/service.h"
#include "perseus/server/sweep_log.h"

namespace perseus::server {

using core::ErrorCode;
using core::fail;

Service::SweepGoal Service::goal_of(const Job& job) {
  const Registration& registration = job.state.registration();
  if (!registration.profiling.online || job.state.ended()) return SweepGoal::kNone;
  if (job.profile_csv.empty() || !job.reprofile_why.empty()) return SweepGoal::kProfile;
  return registration.blocking_power.empty() && !job.facts ? SweepGoal::kPower : SweepGoal::kNone;
}

void Service::profile(const JobPtr& job) {
  JobState& state = job->state;
  const Moment now = outside_.now();
  const auto& sweep = state.sweep();
  if (job->sweep_stage == SweepStage::kRunning && sweep) {
    if (state.close_batch(now)) {
      const SweepProgress progress = sweep->progress();
      log().write(Level::kInfo, "sweep.measured",
                  {{"job", state.name()},
                   {"windows", fmt::format("{}/{}", progress.windows_done, progress.windows_planned)},
                   {"cost_s", format::number_text(progress.cost.value())}});
    }
    if (sweep->finished()) return end_sweep(job, *sweep);
    if (sweep->running()) return;
    const bool outdated = state.sweep_obstacle(now).empty() && state.sweep_ranks() != sweep->ranks();
    if (!outdated) return;
    log().write(Level::kWarning, "sweep.restarted",
                {{"job", state.name()}, {"reason", "the GPUs offer other clocks now"}});
    drop_sweep(*job);
  }
  if (job->sweep_stage != SweepStage::kNone || goal_of(*job) == SweepGoal::kNone) return;
  if (reuse_profile(job)) return;
  // The first sweep that a job needs is not held back; a repetition is.
  if (job->next_sweep_at && now < *job->next_sweep_at) return;
  if (state.sweep_obstacle(now).empty()) begin_sweep(job, goal_of(*job));
}

void Service::begin_sweep(const JobPtr& job, SweepGoal goal) {
  job->sweep_stage = SweepStage::kBeginning;
  const bool power_only = goal == SweepGoal::kPower;
  job->sweep_why = power_only                   ? "no blocking power"
                   : job->reprofile_why.empty() ? "no profile"
                                                : std::exchange(job->reprofile_why, {});
  const auto ranks = job->state.sweep_ranks();
  SweepHeader header{
      .schedule_sha256 = job->state.fence(), .why = job->sweep_why, .power_only = power_only, .clocks = {}};
  for (const SweepRank& rank : ranks) header.clocks.push_back(rank.clocks);
  const std::uint64_t incarnation = job->state.incarnation();
  outside_.store({SweepRemoval{job->state.name()}, header_record(job->state.name(), header)},
                 [this, job, ranks, power_only, incarnation](const core::Status& stored) {
                   // An upload or a new incarnation may have come in between.
                   if (job->sweep_stage != SweepStage::kBeginning) return;
                   job->sweep_stage = SweepStage::kNone;
                   if (!stored) {
                     retry_later(*job, "store.failed", stored.error());
                   } else if (job->state.incarnation() == incarnation) {
                     job->sweep_stage = SweepStage::kRunning;
                     job->sweep_error.clear();
                     job->state.begin_sweep(Sweep(ranks, job->state.registration().profiling, power_only));
                     log().write(Level::kInfo, "sweep.begun",
                                 {{"job", job->state.name()}, {"reason", job->sweep_why}});
                   }
                   advance(job);
                 });
}

void Service::drop_sweep(Job& job) const {
  if (const auto& sweep = job.state.sweep()) {
    ++job.sweeps;
    job.sweep_cost += sweep->progress().cost;
    job.next_sweep_at = outside_.now() + settings_.reprofile_interval;
  }
  job.sweep_stage = SweepStage::kNone;
  job.state.drop_sweep();
  outside_.store({SweepRemoval{job.state.name()}}, [](const core::Status&) {});
}

void Service::sweep_failed(const JobPtr& job, const core::Error& error) {
  job->sweep_error = error.text();
  log().write(Level::kError, "sweep.failed", {{"job", job->state.name()}, {"reason", error.text()}});
  drop_sweep(*job);
  advance(job);
}

void Service::end_sweep(const JobPtr& job, const Sweep& sweep) {
  if (!sweep.failure().empty())
    return sweep_failed(job, core::Error(ErrorCode::kInfeasible, sweep.failure()));
  job->sweep_stage = SweepStage::kMeasuring;
  struct Answer {
    core::Result<MeasuredProfile> measured = fail(ErrorCode::kInternal, "the measurements were not judged");
  };
  const auto answer = std::make_shared<Answer>();
  const auto work = [answer, data = sweep.data(), schedule = job->state.registration().schedule] {
    answer->measured = measure_profile(schedule, data);
  };
  outside_.run_long(work, [this, job, answer, notes = sweep.notes()] {
    if (job->sweep_stage != SweepStage::kMeasuring) return;  // dropped meanwhile
    if (!answer->measured) return sweep_failed(job, answer->measured.error());
    auto& facts = answer->measured->facts;
    facts.notes.insert(facts.notes.begin(), notes.begin(), notes.end());
    take_measured(job, *answer->measured);
  });
}

void Service::take_measured(const JobPtr& job, const MeasuredProfile& measured) {
  const bool power_only = job->state.sweep() && job->state.sweep()->power_only();
  std::string csv = power_only ? job->profile_csv : measured.csv;
  std::vector<Change> changes;
  const std::string key = shared_key(*job);
  if (!power_only && !key.empty()) {
    SharedRecord record{key, outside_.wall_ms(), csv, write_facts(measured.facts)};
    if (!shared_.contains(key) && shared_.size() >= limits_.shared_profiles) {
      const auto oldest = std::ranges::min_element(
          shared_, {}, [](const auto& entry) { return entry.second.stored_unix_ms; });
      changes.emplace_back(SharedRemoval{oldest->first});
      shared_.erase(oldest);
    }
    changes.emplace_back(record);
    shared_.insert_or_assign(key, std::move(record));
  }
  adopt_profile(job, std::move(csv), measured.facts, power_only ? "uploaded" : "measured",
                std::move(changes));
}

void Service::adopt_profile(const JobPtr& job, std::string csv, MeasuredFacts facts,
                            const std::string& origin, std::vector<Change> changes) {
  const auto digest = format::sha256_hex(csv);
  if (!digest) return sweep_failed(job, digest.error());
  job->sweep_stage = SweepStage::kPlanning;
  const std::string& name = job->state.name();
  changes.emplace_back(ProfileRecord{name, *digest, csv});
  changes.emplace_back(FactsRecord{name, *digest, origin, write_facts(facts)});
  const std::uint64_t incarnation = job->state.incarnation();
  outside_.store(std::move(changes), [this, job, incarnation, csv = std::move(csv), facts = std::move(facts),
                                      origin, sha256 = *digest](const core::Status& stored) mutable {
    if (job->sweep_stage != SweepStage::kPlanning || job->state.incarnation() != incarnation) return;
    if (!stored) {
      job->sweep_stage = job->state.sweep() ? SweepStage::kRunning : SweepStage::kNone;
      retry_later(*job, "store.failed", stored.error());
      return advance(job);
    }
    job->profile_csv = std::move(csv);
    job->profile_sha256 = sha256;
    job->profile_origin = origin;
    job->facts = std::move(facts);
    job->reprofile_why.clear();
    job->drift.clear();
    log().write(Level::kInfo, "profile.stored",
                {{"job", job->state.name()}, {"sha256", sha256}, {"origin", origin}});
    start_solving(job);
  });
}

std::string Service::shared_key(const Job& job) const {
  const std::string& fingerprint = job.state.registration().fingerprint;
  if (fingerprint.empty()) return "";
  std::string text = fmt::format("perseus shared profile 1\n{}\n{}\n", fingerprint, job.state.fence());
  for (const SweepRank& rank : job.state.sweep_ranks()) {
    for (const core::Megahertz clock : rank.clocks) text += fmt::format(" {}", clock.value());
    text += '\n';
  }
  return format::sha256_hex(text).value_or("");
}

bool Service::reuse_profile(const JobPtr& job) {
  const core::Parallel& degrees = job->state.registration().parallel;
  const std::size_t all =
      std::size_t{degrees.data} * degrees.tensor * job->state.registration().schedule.pipeline();
  // The clocks of all GPUs are part of the key.
  if (job->reuse_tried || !job->profile_csv.empty() || job->state.ranks().size() < all) return false;
  job->reuse_tried = true;
  const auto found = shared_.find(shared_key(*job));
  if (found == shared_.end()) return false;
  auto facts = parse_facts(found->second.facts);
  if (!facts) return false;
  adopt_profile(job, found->second.csv, *std::move(facts), "reused", {});
  return true;
}

void Service::restore_sweeps(const Snapshot& snapshot, std::vector<std::string>& findings_out) {
  for (const SharedRecord& record : snapshot.shared) shared_.insert_or_assign(record.key, record);
  for (const FactsRecord& record : snapshot.facts) {
    const auto job = jobs_.find(record.job);
    if (job == jobs_.end() || job->second->profile_sha256 != record.profile_sha256) continue;
    auto facts = parse_facts(record.facts);
    if (!facts) {
      findings_out.push_back(
          fmt::format("facts of the profile of job {} were left out: {}", record.job, facts.error().text()));
      continue;
    }
    job->second->facts = *std::move(facts);
    job->second->profile_origin = record.origin;
  }
  const auto& all = snapshot.sweeps;
  for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    while (end < all.size() && all[end].job == all[begin].job) ++end;
    const auto found = jobs_.find(all[begin].job);
    if (found == jobs_.end()) continue;
    Job& job = *found->second;
    auto stored = restore_sweep(std::span(all).subspan(begin, end - begin), job.state.registration(),
                                job.state.fence());
    if (!stored) {
      findings_out.push_back(
          fmt::format("the sweep of job {} begins anew: {}", all[begin].job, stored.error().text()));
      continue;
    }
    job.state.restore_sweep(std::move(stored->sweep), stored->generation);
    job.sweep_stage = SweepStage::kRunning;
    job.sweep_why = stored->why;
  }
}

void Service::post_window(const JobPtr& job, const RankId& rank, HttpRequest& request, const Reply& reply) {
  auto report = parse_window_report(request.body);
  if (!report) return reply(error_response(report.error()));
  const auto answer = [this, job, rank, reply](WindowReport taken) {
    answer_message(*job, job->state.window(rank, std::move(taken), outside_.now()), reply);
    advance(job);
  };
  const auto fits = job->state.check_window(rank, *report);
  if (!fits || *fits == Applied::kRepeated) return answer(*std::move(report));
  auto record = report_record(job->state.name(), rank, *report, std::move(request.body));
  outside_.store({std::move(record)},
                 [this, answer, reply, report = *std::move(report)](const core::Status& stored) {
                   if (stored) return answer(report);
                   ++counters_.store_failures;
                   reply(error_response(stored.error()));
                 });
}

}  // namespace perseus::server
