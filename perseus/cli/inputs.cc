// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "perseus/format/files.h"
#include "perseus/format/job_yaml.h"
#include "perseus/format/profile_csv.h"
#include "perseus/format/schedule_csv.h"
#include "perseus/schedule/generate.h"
#include "perseus/schedule/insert.h"
#include "perseus/solver/fit.h"

namespace perseus::cli {
namespace {

using core::ErrorCode;
using core::fail;

/// Paths in a job file are relative to the file, so that a job can be run from anywhere.
std::string beside(const std::string& job_file, const std::string& path) {
  return (std::filesystem::path(job_file).parent_path() / path).string();
}

core::Result<core::JobSpec> read_job(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string bytes, format::read_file(path, format::kMaxJobBytes));
  PERSEUS_ASSIGN_OR_RETURN(auto spec, format::parse_job_yaml(bytes, path));
  if (spec.profile) spec.profile = beside(path, *spec.profile);
  if (spec.schedule_file) spec.schedule_file = beside(path, *spec.schedule_file);
  return spec;
}

core::Result<core::JobSpec> merged_spec(const InputFlags& flags) {
  core::JobSpec from_flags = flags.spec;
  if (flags.blocking_power) PERSEUS_RETURN_IF_ERROR(parse_blocking_power(*flags.blocking_power, from_flags));
  if (flags.p2p_lag) PERSEUS_RETURN_IF_ERROR(parse_p2p_lag(*flags.p2p_lag, from_flags));
  for (const std::string& text : flags.inserts) {
    PERSEUS_ASSIGN_OR_RETURN(auto insert, parse_insert(text));
    from_flags.inserts.push_back(std::move(insert));
  }
  if (!flags.job_file) return from_flags;
  PERSEUS_ASSIGN_OR_RETURN(auto from_file, read_job(*flags.job_file));
  return merge(std::move(from_file), from_flags);
}

core::Status check_given(bool given, const char* flag, const char* key) {
  if (given) return {};
  return fail(ErrorCode::kUsage, fmt::format("is required (or '{}' in a job file given with --job)", key),
              {flag});
}

core::Result<core::Schedule> read_schedule(const std::string& path, std::vector<core::Warning>& warnings) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string bytes, format::read_file(path, format::kMaxScheduleBytes));
  PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_schedule_csv(bytes, path));
  warnings = std::move(parsed.warnings);
  return std::move(parsed.schedule);
}

/// A schedule from a file or a generator; values given beside a file must agree with it.
core::Result<core::Schedule> make_schedule(const core::JobSpec& spec, std::vector<core::Warning>& warnings) {
  if (spec.schedule && spec.schedule_file) {
    return fail(ErrorCode::kUsage, "a named schedule and a schedule file exclude each other",
                {"--schedule-file"});
  }
  if (!spec.schedule_file) {
    PERSEUS_RETURN_IF_ERROR(check_given(spec.schedule.has_value(), "--schedule", "pipeline.schedule"));
    PERSEUS_RETURN_IF_ERROR(check_given(spec.pipeline.has_value(), "--pp", "parallel.pipeline"));
    PERSEUS_RETURN_IF_ERROR(
        check_given(spec.microbatches.has_value(), "--microbatches", "pipeline.microbatches"));
    return schedule::generate({.name = *spec.schedule,
                               .pipeline = *spec.pipeline,
                               .microbatches = *spec.microbatches,
                               .virtual_stages = spec.virtual_stages.value_or(0),
                               .group_size = spec.group_size.value_or(0)});
  }
  if (spec.group_size) {
    return fail(ErrorCode::kUsage, "says how a schedule is made, and a schedule file is one already",
                {"--group-size"});
  }
  PERSEUS_ASSIGN_OR_RETURN(auto read, read_schedule(*spec.schedule_file, warnings));
  const auto agree = [&](std::optional<std::uint32_t> given, std::uint32_t found,
                         const char* flag) -> core::Status {
    if (!given || *given == found) return {};
    return fail(ErrorCode::kInvalidInput,
                fmt::format("is {}, but {} has {}", *given, *spec.schedule_file, found), {flag});
  };
  PERSEUS_RETURN_IF_ERROR(agree(spec.pipeline, read.pipeline(), "--pp"));
  PERSEUS_RETURN_IF_ERROR(agree(spec.microbatches, read.microbatches, "--microbatches"));
  PERSEUS_RETURN_IF_ERROR(agree(spec.virtual_stages, read.virtual_stages, "--virtual-stages"));
  return read;
}

core::Result<std::vector<core::Watts>> blocking_power(const core::JobSpec& spec, std::uint32_t ranks) {
  if (spec.blocking_power_of_rank.empty()) {
    PERSEUS_RETURN_IF_ERROR(
        check_given(spec.blocking_power.has_value(), "--blocking-power", "blocking_power_w"));
    return std::vector<core::Watts>(ranks, *spec.blocking_power);
  }
  std::vector<core::Watts> watts(ranks);
  for (std::uint32_t r = 0; r < ranks; ++r) {
    const auto it = spec.blocking_power_of_rank.find(r);
    if (it == spec.blocking_power_of_rank.end()) {
      return fail(ErrorCode::kInvalidInput, fmt::format("blocking power of rank {} is missing", r));
    }
    watts[r] = it->second;
  }
  if (spec.blocking_power_of_rank.size() > ranks) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("blocking power is given for rank {}; the pipeline has ranks 0 to {}",
                            spec.blocking_power_of_rank.rbegin()->first, ranks - 1));
  }
  return watts;
}

core::Status check_lag_ranks(const core::JobSpec& spec, std::uint32_t ranks) {
  for (const auto& [pair, lag] : spec.edge_lag) {
    const std::uint32_t largest = std::max(pair.first, pair.second);
    if (largest >= ranks) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("a P2P lag names rank {}; the pipeline has ranks 0 to {}", largest, ranks - 1));
    }
  }
  return {};
}

/// Puts the fitted problem in the place of the measured one, if a fit is asked for.
core::Status apply_fit(Inputs& inputs) {
  if (inputs.fit == "none") return {};
  if (inputs.fit != "convex") {
    return fail(ErrorCode::kUsage, fmt::format("'{}' is neither none nor convex", inputs.fit), {"--fit"});
  }
  PERSEUS_ASSIGN_OR_RETURN(auto fitted, solver::fit_convex(inputs.problem));
  inputs.problem = std::move(fitted.problem);
  inputs.residuals = FitResiduals{fitted.report.time.rms, fitted.report.time.most, fitted.report.energy.rms,
                                  fitted.report.energy.most};
  return {};
}

}  // namespace

void add_input_flags(CLI::App& command, InputFlags& flags) {
  core::JobSpec& spec = flags.spec;
  const std::string group = "Inputs (each is also a key of the job file)";
  command.add_option("--job", flags.job_file, "Job file (YAML); flags override its keys")->type_name("FILE");
  command
      .add_option("--profile", spec.profile, "Profile CSV: time and energy of each computation at each clock")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--schedule", spec.schedule, "Schedule by name: see `perseus schedule --help`")
      ->type_name("NAME")
      ->group(group);
  command.add_option("--schedule-file", spec.schedule_file, "Schedule from a PyTorch pipelining CSV instead")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--pp", spec.pipeline, "Pipeline ranks")->type_name("N")->group(group);
  command.add_option("--microbatches", spec.microbatches, "Microbatches of one iteration")
      ->type_name("N")
      ->group(group);
  command.add_option("--virtual-stages", spec.virtual_stages, "Model stages per rank")
      ->type_name("N")
      ->group(group);
  command.add_option("--group-size", spec.group_size, "Microbatch group of interleaved-1f1b")
      ->type_name("N")
      ->group(group);
  command.add_option("--tp", spec.tensor, "Tensor-parallel GPUs per pipeline rank (default 1)")
      ->type_name("N")
      ->group(group);
  command.add_option("--dp", spec.data, "Data-parallel pipelines (default 1); changes the job_* totals only")
      ->type_name("N")
      ->group(group);
  command
      .add_option("--blocking-power", flags.blocking_power,
                  "Power of a GPU that waits for communication, W: one number, or RANK:W,RANK:W,...")
      ->type_name("W")
      ->group(group);
  command
      .add_option("--p2p-lag", flags.p2p_lag,
                  "Transfer time between ranks, s (default 0): one number and/or RANK>RANK:S,...")
      ->type_name("S")
      ->group(group);
  command
      .add_option("--insert", flags.inserts,
                  "Extra computation INSTRUCTION@STAGE:POSITION, e.g. load@0:before-forward; repeatable")
      ->allow_extra_args(false)
      ->type_name("TEXT")
      ->group(group);
  command
      .add_option("--fit", spec.fit,
                  "Plan from the profile as written (none) or from a shape-constrained fit (convex); "
                  "default: convex if the profile states samples or deviations")
      ->type_name("none|convex")
      ->group(group);
}

core::Result<Inputs> resolve_inputs(const InputFlags& flags, const Io& io) {
  PERSEUS_ASSIGN_OR_RETURN(auto spec, merged_spec(flags));
  PERSEUS_RETURN_IF_ERROR(check_given(spec.profile.has_value(), "--profile", "profile"));
  std::vector<core::Warning> warnings;
  PERSEUS_ASSIGN_OR_RETURN(auto order, make_schedule(spec, warnings));
  PERSEUS_ASSIGN_OR_RETURN(order, schedule::apply_inserts(std::move(order), spec.inserts));
  const std::uint32_t ranks = order.pipeline();

  PERSEUS_ASSIGN_OR_RETURN(const std::string bytes,
                           format::read_file(*spec.profile, format::kMaxProfileBytes));
  PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_profile_csv(bytes, *spec.profile));
  PERSEUS_RETURN_IF_ERROR(format::check_stages(parsed.profile, order.stages(), {*spec.profile}));
  warnings.insert(warnings.end(), parsed.warnings.begin(), parsed.warnings.end());
  io.warn(warnings);

  PERSEUS_ASSIGN_OR_RETURN(auto watts, blocking_power(spec, ranks));
  PERSEUS_RETURN_IF_ERROR(check_lag_ranks(spec, ranks));
  PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(std::move(order)));
  PERSEUS_ASSIGN_OR_RETURN(
      auto problem,
      core::Problem::build(std::move(pipeline), {.profile = std::move(parsed.profile),
                                                 .blocking_power = std::move(watts),
                                                 .parallel = {spec.tensor.value_or(1), spec.data.value_or(1)},
                                                 .p2p_lag = spec.p2p_lag.value_or(core::Seconds(0)),
                                                 .edge_lag = spec.edge_lag}));
  std::string fit = spec.fit.value_or(solver::default_fit(problem.profile()));
  Inputs inputs{std::move(spec), std::move(problem), std::move(fit), std::nullopt, std::move(warnings)};
  PERSEUS_RETURN_IF_ERROR(apply_fit(inputs));
  return inputs;
}

}  // namespace perseus::cli
