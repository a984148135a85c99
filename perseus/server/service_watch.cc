// SPDX-License-Identifier: Apache-2.0
//
// What reports of planned iterations show: stragglers that nobody announced, stages that are not what their
// profile says, and guards that go off.
#include <fmt/format.h>

#include <cmath>

#include "perseus/server/json_text.h"
#include "perseus/server/service.h"

namespace perseus::server {
namespace {

/// No name that others may give begins like this: ':' is not allowed there.
std::string notice_id(const RankId& rank) {
  return fmt::format("detected:{}", to_text(rank));
}

StragglerNotice notice_of(const RankId& rank, const Verdict& verdict) {
  StragglerNotice out{.cause = verdict.cause};
  if (verdict.iteration_time) {
    out.pipeline = rank.dp;
    out.iteration_time = verdict.iteration_time;
  } else {
    out.rank = rank;
    out.slowdown = verdict.slowdown;
  }
  return out;
}

/// As a notice is posted, so that it is read back like one.
std::string body_of(const StragglerNotice& notice) {
  JsonText out;
  out.begin_object().key("cause").text(notice.cause);
  if (notice.rank) {
    out.key("rank").text(to_text(*notice.rank)).key("slowdown").number(notice.slowdown.value_or(1));
  } else {
    out.key("pipeline").number(notice.pipeline.value_or(0));
    out.key("iteration_time_s").number(notice.iteration_time.value_or(core::Seconds(0)).value());
  }
  return out.end_object().take();
}

double size_of(const StragglerNotice& notice) {
  return notice.slowdown.value_or(1) * (notice.iteration_time ? notice.iteration_time->value() : 1);
}

}  // namespace

void Service::watch(const JobPtr& job, const RankId& rank) {
  // While a sweep runs, plans are not what is measured.
  if (job->sweep_stage != SweepStage::kNone) return;
  watch_straggler(job, rank);
  watch_drift(job);
}

void Service::watch_straggler(const JobPtr& job, const RankId& rank) {
  JobState& state = job->state;
  const std::string id = notice_id(rank);
  const auto known = state.notices().find(id);
  const auto verdict = state.judge(rank);
  if (!verdict) {
    if (known == state.notices().end()) return;
    state.drop_notice(id);
    log().write(Level::kInfo, "straggler.recovered", {{"job", state.name()}, {"id", id}});
    return outside_.store({NoticeRemoval{state.name(), id}}, [](const core::Status&) {});
  }
  put_detected(*job, rank, *verdict);
}

void Service::put_detected(Job& job, const RankId& rank, const Verdict& verdict) {
  JobState& state = job.state;
  const std::string id = notice_id(rank);
  const auto known = state.notices().find(id);
  const StragglerNotice notice = notice_of(rank, verdict);
  const bool fresh = known == state.notices().end();
  // A change below the hysteresis changes no plan; the notice only lives on.
  const bool other = fresh || known->second.notice.rank.has_value() != notice.rank.has_value() ||
                     std::abs(size_of(notice) / size_of(known->second.notice) - 1) > settings_.hysteresis;
  if (fresh && state.notices().size() >= limits_.notices_of_job) return;
  const StragglerNotice kept = other ? notice : known->second.notice;
  state.put_notice(id, kept, outside_.now() + settings_.detected_ttl);
  if (!other) return;
  log().write(Level::kWarning, "straggler.detected",
              {{"job", state.name()},
               {"id", id},
               {"slowdown", format::number_text(verdict.slowdown)},
               {"cause", verdict.cause}});
  const auto until_ms = outside_.wall_ms() + static_cast<std::int64_t>(settings_.detected_ttl.value() * 1000);
  // If it cannot be stored it is seen again after a restart.
  outside_.store({NoticeRecord{state.name(), id, body_of(kept), until_ms}}, [](const core::Status&) {});
}

void Service::watch_drift(const JobPtr& job) {
  if (!job->drift.empty()) return;
  const auto drift = job->state.drift();
  if (!drift) return;
  job->drift =
      fmt::format("drift: computations of pipeline rank {} take {:.1f} % {} than their profile says",
                  drift->rank, 100 * std::abs(drift->ratio - 1), drift->ratio > 1 ? "longer" : "shorter");
  log().write(Level::kWarning, "profile.drifted", {{"job", job->state.name()}, {"reason", job->drift}});
  want_profile(*job, job->drift);
}

void Service::guard_tripped(const JobPtr& job, const RankId& rank) {
  if (const auto suspect = job->state.take_suspect()) {
    const std::string cause = fmt::format(
        "detected: guard of rank {}, while its stage runs as planned in other pipelines", to_text(rank));
    return put_detected(*job, rank, {1, suspect->report.measured, cause});
  }
  log().write(Level::kWarning, "guard.tripped", {{"job", job->state.name()}, {"rank", to_text(rank)}});
  want_profile(*job, fmt::format("guard of rank {}", to_text(rank)));
}

/// A new sweep, where the job allows one; profile() keeps its rate.
void Service::want_profile(Job& job, std::string why) {
  if (!job.state.registration().profiling.online) return;
  job.reprofile_why = std::move(why);
}

}  // namespace perseus::server
