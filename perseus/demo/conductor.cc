// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "perseus/demo/demo.h"
#include "perseus/demo/job_run.h"
#include "perseus/demo/measured_report.h"
#include "perseus/demo/server_log.h"
#include "perseus/demo/server_view.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;
using std::chrono::steady_clock;

constexpr std::string_view kJob = "demo";

// Real time, all assumed: what a busy machine may need.
constexpr core::Seconds kProfilingPatience{180};  ///< until the first plan runs
constexpr core::Seconds kSwitchPatience{60};      ///< until another plan runs
constexpr std::chrono::milliseconds kTurn{100};
constexpr int kMeasureTries = 4;  ///< of a phase whose plan changes while it is measured

/// The GPU that becomes slow, and how slow: its stage has most to do, so that the pipeline feels all of it.
constexpr std::uint32_t kSlowPipeline = 1;
constexpr std::uint32_t kSlowStage = 1;
constexpr double kThrottleMhz = 960;  ///< of 1410: about what a hot A100 is held to. Assumed

core::Seconds since(steady_clock::time_point begin) {
  return core::Seconds(std::chrono::duration<double>(steady_clock::now() - begin).count());
}

class Conductor {
 public:
  Conductor(const DemoOptions& options, Workload workload, Site& site, Progress& progress,
            const std::atomic<bool>& stop)
      : options_(options),
        setup_{.name = std::string(kJob), .shape = options.shape, .workload = std::move(workload)},
        site_(site),
        progress_(progress),
        stop_(stop),
        meter_(site.node()) {}

  core::Status reference();
  core::Status profile();
  core::Status planned();
  core::Status straggle();
  core::Status recover();
  core::Status finish();

  [[nodiscard]] DemoResult& result() { return result_; }

 private:
  /// Takes in news until `done` answers true after the end of a step, at most for `patience`.
  core::Status run_until(core::Seconds patience, const std::function<core::Result<bool>()>& done,
                         const std::function<std::string()>& trouble);
  /// Runs `count` more iterations, showing `what`; answers the last step.
  core::Result<std::uint64_t> run_steps(std::uint64_t count, std::string_view what);
  /// Runs until every rank runs a plan for which `wanted` holds, and answers the first whole step of it.
  core::Result<std::uint64_t> await_plan(core::Seconds patience, std::string_view what,
                                         const std::function<core::Result<bool>(const JobView&)>& wanted);
  /// `count` iterations from the step after `first` on, all under the plan that runs.
  core::Result<Measurement> measure(std::uint64_t count, std::string_view what);
  core::Status ask();
  [[nodiscard]] bool all_run(std::uint64_t generation) const;
  [[nodiscard]] std::uint32_t slow_gpu() const { return kSlowPipeline * options_.shape.stages + kSlowStage; }
  /// That is deployed; 0: none.
  [[nodiscard]] std::uint64_t generation() const { return job_.deployed ? job_.deployed->generation : 0; }
  void note(const std::string& line) { progress_.note(line); }

  const DemoOptions& options_;
  JobSetup setup_;
  Site& site_;
  Progress& progress_;
  const std::atomic<bool>& stop_;
  Meter meter_;
  std::unique_ptr<JobRun> run_;
  JobView job_;
  DemoResult result_;
};

core::Status Conductor::run_until(core::Seconds patience, const std::function<core::Result<bool>()>& done,
                                  const std::function<std::string()>& trouble) {
  const auto begin = steady_clock::now();
  for (;;) {
    PERSEUS_ASSIGN_OR_RETURN(const bool step_ended, run_->turn(kTurn));
    if (stop_) return core::fail(ErrorCode::kBusy, "interrupted");
    if (step_ended) {
      PERSEUS_ASSIGN_OR_RETURN(const bool over, done());
      if (over) return {};
    }
    if (since(begin) > patience)
      return core::fail(ErrorCode::kTimeout, fmt::format("{} for {:.0f} s", trouble(), patience.value()));
  }
}

core::Result<std::uint64_t> Conductor::run_steps(std::uint64_t count, std::string_view what) {
  const std::uint64_t target = run_->steps() + count;
  PERSEUS_RETURN_IF_ERROR(run_until(
      kSwitchPatience + core::Seconds(static_cast<double>(count)),
      [&]() -> core::Result<bool> {
        progress_.live(
            fmt::format("{}: {} iterations to go", what, target - std::min(target, run_->steps())));
        return run_->steps() >= target;
      },
      [&] { return fmt::format("{}: the job ended only {} of {} steps", what, run_->steps(), target); }));
  return run_->steps() - 1;
}

core::Status Conductor::ask() {
  auto job = ask_job(site_.server(), setup_.name);
  if (!job) {
    // While nobody has registered the job there is nothing to see.
    return job.error().code() == ErrorCode::kNotFound ? core::Status() : std::unexpected(job.error());
  }
  job_ = *std::move(job);
  return {};
}

bool Conductor::all_run(std::uint64_t generation) const {
  for (const RankEvent& rank : run_->ranks()) {
    if (rank.generation != generation) return false;
  }
  return true;
}

core::Result<std::uint64_t> Conductor::await_plan(
    core::Seconds patience, std::string_view what,
    const std::function<core::Result<bool>(const JobView&)>& wanted) {
  const auto done = [&]() -> core::Result<bool> {
    PERSEUS_RETURN_IF_ERROR(ask());
    progress_.live(fmt::format("{}: iteration {}, {}", what, run_->steps(), job_.progress_text()));
    if (job_.guard) {
      return core::fail(ErrorCode::kInternal,
                        fmt::format("the guard of rank {} went off while {}", *job_.guard, what));
    }
    if (!job_.deployed) return false;
    PERSEUS_ASSIGN_OR_RETURN(const bool is_wanted, wanted(job_));
    return is_wanted && all_run(job_.deployed->generation);
  };
  const auto trouble = [&] {
    return fmt::format("no plan runs while {}: the server says \"{}\"{}; its log ends with\n{}\nWaited", what,
                       job_.state, job_.planner_error ? " (" + *job_.planner_error + ")" : "",
                       end_of_file(site_.log_of("server"), 1200));
  };
  PERSEUS_RETURN_IF_ERROR(run_until(patience, done, trouble));
  return run_->steps() - 1;
}

core::Result<Measurement> Conductor::measure(std::uint64_t count, std::string_view what) {
  for (int tries = 0; tries < kMeasureTries; ++tries) {
    PERSEUS_ASSIGN_OR_RETURN(const std::uint64_t warm, run_steps(options_.phases.warm_up, what));
    PERSEUS_ASSIGN_OR_RETURN(const std::uint64_t last, run_steps(count, what));
    // A plan that changed meanwhile (T' is known better now) would mix two.
    if (const auto measured = meter_.measured(warm + 1, last)) return *measured;
  }
  return core::fail(ErrorCode::kInternal,
                    fmt::format("{}: the plan changed {} times in a row", what, kMeasureTries));
}

core::Status Conductor::reference() {
  PERSEUS_ASSIGN_OR_RETURN(run_, JobRun::start(site_, setup_, meter_, false));
  PERSEUS_ASSIGN_OR_RETURN(result_.all_max, measure(options_.phases.reference, "reference at full clocks"));
  PERSEUS_RETURN_IF_ERROR(run_->finish());
  run_.reset();
  note(fmt::format("all-max, without Perseus: {:.3f} s and {:.0f} J an iteration (mean of {})",
                   result_.all_max.mean.time.value(), result_.all_max.mean.energy.value(),
                   result_.all_max.iterations));
  return {};
}

core::Status Conductor::profile() {
  const auto begin = steady_clock::now();
  PERSEUS_ASSIGN_OR_RETURN(run_, JobRun::start(site_, setup_, meter_, true));
  PERSEUS_ASSIGN_OR_RETURN(
      result_.profiling_iterations,
      await_plan(kProfilingPatience, "profiling online", [](const JobView& job) -> core::Result<bool> {
        return job.deployed && job.deployed->reason != "profile" && !job.deployed->baseline && job.predicted;
      }));
  result_.profiling_time = since(begin);
  // What the server knows is in the ranks' own, real time.
  result_.predicted = job_.predicted.value_or(Figures());
  result_.predicted.time = result_.predicted.time * options_.time_scale;
  note(fmt::format(
      "profiled online in {} iterations ({:.1f} s); plan {} runs, predicted {:.3f} s and {:.0f} J",
      result_.profiling_iterations, result_.profiling_time.value(), generation(),
      result_.predicted.time.value(), result_.predicted.energy.value()));
  return {};
}

core::Status Conductor::planned() {
  PERSEUS_ASSIGN_OR_RETURN(result_.measured, measure(options_.phases.planned, "measuring the plan"));
  note(fmt::format("measured under the plan: {:.3f} s and {:.0f} J an iteration (mean of {})",
                   result_.measured.mean.time.value(), result_.measured.mean.energy.value(),
                   result_.measured.iterations));
  return {};
}

core::Status Conductor::straggle() {
  PERSEUS_RETURN_IF_ERROR(
      site_.node().inject(slow_gpu(), {.kind = simgpu::FaultKind::kThrottle, .value = kThrottleMhz}));
  note(fmt::format("straggler: GPU {} (pipeline {}, stage {}) is now throttled to {:.0f} MHz by its hardware",
                   slow_gpu(), kSlowPipeline, kSlowStage, kThrottleMhz));
  const std::uint64_t before = generation();
  const std::uint64_t first = run_->steps() + 1;  // the step that runs now is slow only in part
  bool announced = false;
  const auto noticed = [&](const JobView& job) -> core::Result<bool> {
    const std::uint64_t slow = run_->steps() - first;
    if (!announced && job.notices.empty() && slow >= options_.phases.patience) {
      const Measurement seen = meter_.measured(first, run_->steps() - 1).value_or(Measurement());
      PERSEUS_RETURN_IF_ERROR(announce_straggler(site_.server(), setup_.name, kSlowPipeline,
                                                 std::max(1.0, seen.mean.time / result_.measured.mean.time)));
      announced = true;
    }
    return job.deployed && job.deployed->generation > before;
  };
  PERSEUS_ASSIGN_OR_RETURN(const std::uint64_t switched,
                           await_plan(kSwitchPatience, "the server looks for the straggler", noticed));
  // The last step under the old plan.
  std::uint64_t last = 0;
  for (const Boundary& boundary : meter_.boundaries()) {
    if (boundary.generation == before) last = std::max(last, boundary.step);
  }
  const auto waiting = meter_.measured(first, std::min(last, switched));
  if (!waiting) return core::fail(ErrorCode::kInternal, "no iteration between straggler and new plan");
  result_.waiting = *waiting;
  result_.straggler_factor = result_.waiting.mean.time / result_.measured.mean.time;
  PERSEUS_ASSIGN_OR_RETURN(const Replan replan, last_replan(site_.log_of("server")));
  result_.replan_ms = replan.milliseconds;
  result_.announced = announced;
  note(fmt::format("the server {} the straggler ({}) after {} iterations and re-planned in {:.0f} ms",
                   announced ? "was told of" : "found", replan.cause, last - first + 1, result_.replan_ms));
  PERSEUS_ASSIGN_OR_RETURN(result_.replanned,
                           measure(options_.phases.straggling, "measuring with the straggler"));
  note(fmt::format("at equal T' = {:.3f} s: {:.0f} J before, {:.0f} J after the new plan",
                   result_.replanned.mean.time.value(), result_.waiting.mean.energy.value(),
                   result_.replanned.mean.energy.value()));
  return {};
}

core::Status Conductor::recover() {
  PERSEUS_RETURN_IF_ERROR(site_.node().clear_fault(slow_gpu(), simgpu::FaultKind::kThrottle));
  const std::uint64_t before = generation();
  const std::uint64_t first = run_->steps();
  note("the straggler recovers");
  if (result_.announced) PERSEUS_RETURN_IF_ERROR(withdraw_straggler(site_.server(), setup_.name));
  PERSEUS_ASSIGN_OR_RETURN(const std::uint64_t switched,
                           await_plan(kSwitchPatience, "the server looks for the recovery",
                                      [&](const JobView& job) -> core::Result<bool> {
                                        return job.deployed && job.deployed->generation > before;
                                      }));
  note(fmt::format("back at the first plan after {} iterations", switched - first));
  PERSEUS_ASSIGN_OR_RETURN(result_.recovered,
                           measure(options_.phases.recovered, "measuring after the recovery"));
  return {};
}

core::Status Conductor::finish() {
  result_.guard_trips = run_->guard_trips();
  PERSEUS_RETURN_IF_ERROR(write_measured_report(site_, options_, setup_.name, result_));
  progress_.live("the job ends");
  PERSEUS_RETURN_IF_ERROR(run_->finish());
  run_.reset();
  PERSEUS_RETURN_IF_ERROR(site_.close());
  PERSEUS_ASSIGN_OR_RETURN(result_.gpus_left_locked, site_.locked_gpus());
  note(fmt::format("job, server and agent have ended; GPUs left with a locked clock: {}",
                   result_.gpus_left_locked));
  return {};
}

std::string introduction(const DemoOptions& options, const Workload& workload) {
  const simgpu::LatencySpec& latency = options.gpu.latency;
  return fmt::format(
      "{} on {} x {} simulated {}: {} pipelines of {} stages, {} microbatches, 1F1B\n"
      "GPUs, their times and energies are simulated; processes, sockets, agent, server and client are real\n"
      "a computation takes {:.2f} to {:.2f} simulated seconds at the top clock; a clock switch takes {:.0f} "
      "ms in the "
      "median\n(log-normal: sigma {} between target clocks, {} between switches; from {:.0f} to {:.0f} ms)\n"
      "time scale {:g}: a simulated second passes in {:.1f} ms",
      options.shape.model, options.shape.pipelines, options.shape.stages, options.gpu.name,
      options.shape.pipelines, options.shape.stages, options.shape.microbatches, workload.shortest.value(),
      workload.longest.value(), latency.median.value() * 1e3, latency.sigma_of_targets,
      latency.sigma_of_switches, latency.least.value() * 1e3, latency.most.value() * 1e3, options.time_scale,
      1e3 / options.time_scale);
}

}  // namespace

core::Result<DemoResult> run_demo(const DemoOptions& options, Progress& progress,
                                  const std::atomic<bool>& stop) {
  const auto begin = steady_clock::now();
  PERSEUS_ASSIGN_OR_RETURN(Workload workload, make_workload(options.shape, options.gpu));
  PERSEUS_ASSIGN_OR_RETURN(const core::Seconds ideal, ideal_iteration(workload, options.shape.microbatches));
  progress.note(introduction(options, workload));
  SiteOptions where = options.site;
  where.node.gpus.assign(std::size_t{options.shape.pipelines} * options.shape.stages, options.gpu);
  where.node.time_scale = options.time_scale;
  where.node.seed = options.seed;
  where.environment = {
      {"PERSEUS_PROFILE_CLOCKS", fmt::format("{}", options.sweep.clocks)},
      {"PERSEUS_PROFILE_STEPS", fmt::format("{}", options.sweep.steps)},
      {"PERSEUS_PROFILE_WINDOW_S", fmt::format("{}", options.sweep.window.value())},
      {"PERSEUS_PROFILE_MAX_SLOWDOWN_PCT", fmt::format("{}", options.sweep.max_slowdown_pct)}};
  PERSEUS_ASSIGN_OR_RETURN(const std::unique_ptr<Site> site, Site::open(where, stop));
  progress.note(fmt::format("agent and server run; logs in {}", site->folder()));

  Conductor conductor(options, std::move(workload), *site, progress, stop);
  conductor.result().ideal = ideal;
  PERSEUS_RETURN_IF_ERROR(conductor.reference());
  PERSEUS_RETURN_IF_ERROR(conductor.profile());
  PERSEUS_RETURN_IF_ERROR(conductor.planned());
  PERSEUS_RETURN_IF_ERROR(conductor.straggle());
  PERSEUS_RETURN_IF_ERROR(conductor.recover());
  PERSEUS_RETURN_IF_ERROR(conductor.finish());
  conductor.result().run_s = since(begin).value();
  return conductor.result();
}

}  // namespace perseus::demo
