// SPDX-License-Identifier: Apache-2.0
//
// /metrics: the state of the moment in Prometheus's text form, written by prometheus-cpp. Nothing is counted
// twice: gauges are read off the jobs when somebody asks.
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>

#include "perseus/server/service.h"
#include "perseus/server/zeus_routes.h"

namespace perseus::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

/// Collects families; a family is made when it gets its first sample.
class Families {
 public:
  void gauge(const char* name, const char* help, std::vector<ClientMetric::Label> labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.gauge.value = value;
    family(name, help, MetricType::Gauge).metric.push_back(std::move(metric));
  }
  void counter(const char* name, const char* help, std::vector<ClientMetric::Label> labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.counter.value = value;
    family(name, help, MetricType::Counter).metric.push_back(std::move(metric));
  }
  [[nodiscard]] std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  MetricFamily& family(const char* name, const char* help, MetricType type) {
    const auto found = std::ranges::find(families_, name, &MetricFamily::name);
    if (found != families_.end()) return *found;
    families_.push_back({name, help, type, {}});
    return families_.back();
  }
  std::vector<MetricFamily> families_;
};

ClientMetric::Label label(const char* name, std::string value) {
  return {name, std::move(value)};
}

/// Per pipeline rank, over all pipelines and GPUs.
void add_stages(Families& out, const JobState& job, const ClientMetric::Label& named) {
  constexpr const char* kEnergy = "Energy of an iteration of all GPUs of a pipeline rank.";
  constexpr const char* kTime =
      "Time of one computation, mean over those measured and what the plan says for the same.";
  std::map<Work, RunningTimes> kinds;
  std::vector<double> joules(job.registration().schedule.pipeline(), 0);
  for (const auto& [id, rank] : job.ranks()) {
    joules[id.pp] += rank.measured.energy_j;
    for (const auto& [work, times] : rank.kinds) {
      RunningTimes& all = kinds[work];
      all.count += times.count;
      all.measured_s += times.measured_s;
      all.expected_s += times.expected_s;
    }
  }
  for (std::uint32_t pp = 0; pp < joules.size(); ++pp) {
    core::Joules predicted;
    for (const auto& plan : job.deployment()->plans) predicted += plan->figures[pp].energy;
    const auto stage = label("pipeline_rank", std::to_string(pp));
    out.gauge("perseus_job_stage_joules", kEnergy, {named, stage, label("origin", "predicted")},
              predicted.value());
    if (joules[pp] == 0) continue;
    out.gauge("perseus_job_stage_joules", kEnergy, {named, stage, label("origin", "measured")}, joules[pp]);
  }
  for (const auto& [work, times] : kinds) {
    if (times.count == 0) continue;
    const double count = static_cast<double>(times.count);
    const std::vector<ClientMetric::Label> labels = {named,
                                                     label("kind", std::string(core::letter(work.kind))),
                                                     label("stage", std::to_string(work.stage))};
    for (const auto& [origin, seconds] :
         {std::pair("measured", times.measured_s), std::pair("predicted", times.expected_s)}) {
      auto with = labels;
      with.push_back(label("origin", origin));
      out.gauge("perseus_job_computation_seconds", kTime, std::move(with), seconds / count);
    }
  }
}

void add_sweep(Families& out, const JobState& job, core::Seconds earlier, std::uint64_t sweeps) {
  const auto named = label("job", job.name());
  const SweepProgress progress = job.sweep() ? job.sweep()->progress() : SweepProgress{};
  out.gauge("perseus_job_profiling", "1 while a sweep runs.", {named}, job.sweep() ? 1 : 0);
  out.gauge("perseus_job_sweep_windows", "Windows of the sweep that runs.", {named, label("state", "done")},
            static_cast<double>(progress.windows_done));
  out.gauge("perseus_job_sweep_windows", "Windows of the sweep that runs.",
            {named, label("state", "planned")}, static_cast<double>(progress.windows_planned));
  out.counter("perseus_job_sweeps_total", "Sweeps that have ended.", {named}, static_cast<double>(sweeps));
  out.counter("perseus_job_sweep_cost_seconds_total", "Training time that sweeps have cost.", {named},
              (earlier + progress.cost).value());
}

void add_job(Families& out, const JobState& job, const std::optional<Savings>& savings, Moment now) {
  const auto named = label("job", job.name());
  out.gauge("perseus_job_ranks_live", "Ranks heard of within their time to live.", {named},
            static_cast<double>(job.live_count(now)));
  out.gauge("perseus_job_generation", "Number of the deployed generation.", {named},
            job.deployment() ? static_cast<double>(job.deployment()->generation) : 0);
  const auto detected = static_cast<double>(std::ranges::count_if(
      job.notices(), [](const auto& notice) { return notice.first.starts_with("detected:"); }));
  constexpr const char* kStragglers = "Straggler notices that count.";
  out.gauge("perseus_job_stragglers", kStragglers, {named, label("origin", "announced")},
            static_cast<double>(job.notices().size()) - detected);
  out.gauge("perseus_job_stragglers", kStragglers, {named, label("origin", "detected")}, detected);
  out.gauge("perseus_job_guarded", "1 while a guard keeps the job at full clocks.", {named},
            job.guard_trip() ? 1 : 0);
  double silent = 0;
  double behind = 0;
  double time = 0;
  double energy = 0;
  double measured = 0;
  for (const auto& [id, rank] : job.ranks()) {
    if (!job.live(rank, now)) continue;
    silent = std::max(silent, (now - rank.last_seen).value());
    if (job.deployment() && rank.confirmed < job.deployment()->generation) ++behind;
    if (rank.measured.iterations == 0) continue;
    time += rank.measured.time_s;
    energy += rank.measured.energy_j;
    ++measured;
  }
  out.gauge("perseus_job_client_lag_seconds", "Longest silence of a live rank.", {named}, silent);
  out.gauge("perseus_job_ranks_behind", "Live ranks that have not confirmed the deployed generation.",
            {named}, behind);
  if (measured > 0) {
    out.gauge("perseus_job_iteration_seconds", "Iteration time.", {named, label("origin", "measured")},
              time / measured);
    out.gauge("perseus_job_iteration_joules", "Energy of an iteration over the ranks that measure.",
              {named, label("origin", "measured")}, energy);
  }
  if (const auto& solved = job.solved()) {
    out.gauge("perseus_job_solver_seconds", "Time that the exact frontier took.", {named},
              solved->solver_seconds.value());
    out.gauge("perseus_job_t_min_seconds", "Iteration time with every computation at its fastest.", {named},
              solved->t_min.value());
  }
  if (!job.deployment() || job.deployment()->plans.empty()) return;
  add_stages(out, job, named);
  core::Seconds predicted;
  core::Joules joules;
  for (const auto& plan : job.deployment()->plans) {
    predicted = std::max({predicted, plan->time, job.deployment()->targets->sync});
    joules += plan->energy;
  }
  out.gauge("perseus_job_iteration_seconds", "Iteration time.", {named, label("origin", "predicted")},
            predicted.value());
  out.gauge("perseus_job_iteration_joules", "Energy of an iteration over the ranks that measure.",
            {named, label("origin", "predicted")}, joules.value());
  if (!savings) return;
  constexpr const char* kSaved = "perseus_job_pipeline_saved_joules";
  constexpr const char* kHelp =
      "Predicted saving of one iteration of one pipeline that waits for the slowest.";
  out.gauge(kSaved, kHelp, {named, label("kind", "intrinsic")},
            (savings->all_max - savings->fastest).value());
  out.gauge(kSaved, kHelp, {named, label("kind", "extrinsic")},
            (savings->fastest - savings->planned).value());
}

}  // namespace

std::string Service::metrics_text() const {
  Families out;
  const Moment now = outside_.now();
  out.gauge("perseus_up_seconds", "Time since the server started.", {}, now.value());
  out.gauge("perseus_jobs", "Jobs that the server knows.", {}, static_cast<double>(jobs_.size()));
  out.gauge("perseus_zeus_jobs", "Jobs that came by Zeus's routes.", {}, static_cast<double>(zeus_->size()));
  if (connections) {
    out.gauge("perseus_connections", "Open connections.", {}, static_cast<double>(connections()));
  }
  out.gauge("perseus_store_findings", "Things that were set aside when the store was opened.", {},
            static_cast<double>(findings.size()));
  for (const auto& [status, count] : counters_.responses) {
    out.counter("perseus_responses_total", "Answers by HTTP status.",
                {label("status", std::to_string(status))}, static_cast<double>(count));
  }
  out.counter("perseus_repeated_messages_total", "Late or repeated messages of ranks, without effect.", {},
              static_cast<double>(counters_.repeated_messages));
  out.counter("perseus_store_failures_total", "Writes that the store refused.", {},
              static_cast<double>(counters_.store_failures));
  out.counter("perseus_planner_failures_total", "Frontiers and plans that could not be made.", {},
              static_cast<double>(counters_.planner_failures));
  out.counter("perseus_polls_superseded_total", "Waiting polls that a newer one of the same rank ended.", {},
              static_cast<double>(counters_.polls_superseded));
  std::size_t waiting = 0;
  for (const auto& [name, job] : jobs_) {
    waiting += job->waiters.size();
    add_job(out, job->state, job->savings, now);
    add_sweep(out, job->state, job->sweep_cost, job->sweeps);
    out.gauge("perseus_job_planning", "1 while a frontier is computed or waits for it.", {label("job", name)},
              job->solve ? 1 : 0);
    if (job->solve) {
      out.gauge("perseus_job_planner_done_ratio", "Share of the frontier that is done.", {label("job", name)},
                job->solve->share_done);
    }
  }
  out.gauge("perseus_polls_waiting", "Ranks whose poll waits for a new plan.", {},
            static_cast<double>(waiting));
  return out.text();
}

}  // namespace perseus::server
