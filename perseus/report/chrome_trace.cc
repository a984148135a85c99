// SPDX-License-Identifier: Apache-2.0
//
// Trace Event Format (the "JSON Array/Object Format" that chrome://tracing and Perfetto read): "M" events
// name processes and threads, "X" events are computations with ts and dur in microseconds.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "perseus/report/inputs.h"
#include "perseus/report/json_out.h"
#include "perseus/report/report.h"
#include "perseus/report/timing.h"

namespace perseus::report {
namespace {

constexpr double kMicrosecondsPerSecond = 1e6;

void write_metadata(JsonOut& out, std::string_view event, unsigned pid, std::uint32_t tid,
                    std::string_view value) {
  out.begin_object().key("ph").text("M").key("name").text(event).key("pid").number(pid).key("tid").number(
      tid);
  out.key("args").begin_object().key("name").text(value).end_object().end_object();
}

void write_computation(JsonOut& out, const core::Problem& problem, const PlanTiming& timing,
                       core::ComputationId i, const core::Option& option, unsigned pid) {
  const core::Schedule& schedule = problem.pipeline().schedule();
  const core::Computation& c = problem.pipeline().computation(i);
  out.begin_object().key("ph").text("X").key("name").text(core::to_string(schedule, c));
  out.key("cat")
      .text(instruction(schedule, c))
      .key("pid")
      .number(pid)
      .key("tid")
      .number(problem.pipeline().rank_of(i));
  out.key("ts").number(kMicrosecondsPerSecond * timing.start[i].value());
  out.key("dur").number(kMicrosecondsPerSecond * option.time.value()).key("args").begin_object();
  out.key("stage").number(c.stage).key("microbatch").number(c.microbatch);
  if (option.clock) out.key("clock_mhz").number(option.clock->value());
  out.key("power_w").number(power(option).value()).key("energy_j").number(option.energy.value());
  out.key("slack_s").number(timing.slack[i].value()).key("critical").boolean(timing.critical[i]);
  out.end_object().end_object();
}

void write_process(JsonOut& out, const core::Problem& problem, const core::Choice& choice, unsigned pid,
                   std::string_view process) {
  const core::Pipeline& pipeline = problem.pipeline();
  const PlanTiming timing = plan_timing(problem, choice);
  write_metadata(out, "process_name", pid, 0, process);
  for (std::uint32_t r = 0; r < pipeline.schedule().pipeline(); ++r) {
    write_metadata(out, "thread_name", pid, r, fmt::format("rank {}", r));
    for (core::ComputationId i = pipeline.first_of_rank(r); i < pipeline.first_of_rank(r + 1); ++i) {
      write_computation(out, problem, timing, i, problem.options(i)[choice[i]], pid);
    }
  }
}

}  // namespace

core::Result<std::string> write_chrome_trace(const ReportInputs& inputs, std::size_t point) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs, point));
  const core::Plan& plan = inputs.points[point].plan;
  JsonOut out;
  out.begin_object().key("displayTimeUnit").text("ms").key("otherData").begin_object();
  out.key("title").text(inputs.title).key("provenance").text(inputs.provenance);
  out.key("evidence").text(name(inputs.evidence)).end_object().key("traceEvents").begin_array();
  write_process(out, inputs.problem, plan.choice, 1,
                fmt::format("Perseus plan, target {:.6g} s", plan.target_time.value()));
  write_process(out, inputs.problem, inputs.all_max, 2, "all-max");
  out.end_array().end_object();
  return out.take();
}

}  // namespace perseus::report
