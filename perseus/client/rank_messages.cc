// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/rank_messages.h"

#include <fmt/format.h>

#include <variant>

#include "perseus/format/json_text.h"

namespace perseus::client {
namespace {

using format::JsonText;

JsonText begin(const Stamp& stamp) {
  JsonText out;
  out.begin_object().key("incarnation").number(stamp.incarnation).key("sequence").number(stamp.sequence);
  return out;
}

void append_schedule(JsonText& out, const JobFacts& job) {
  if (job.named) {
    out.key("pipeline").begin_object().key("schedule").text(job.named->name);
    out.key("microbatches").number(job.named->microbatches);
    if (job.named->virtual_stages != 0) out.key("virtual_stages").number(job.named->virtual_stages);
    if (job.named->group_size != 0) out.key("group_size").number(job.named->group_size);
    out.end_object();
    return;
  }
  out.key("orders").begin_array();
  for (const auto& rank : job.schedule.ranks) {
    out.begin_array();
    for (const core::Computation& c : rank) out.text(core::to_string(job.schedule, c));
    out.end_array();
  }
  out.end_array();
}

void append_profiling(JsonText& out, const ProfilingSettings& p) {
  out.key("profiling").begin_object().key("mode").text(p.online ? "online" : "off");
  if (p.online) {
    out.key("clocks").number(p.clocks).key("steps").number(p.steps);
    out.key("window_s").number(p.window.value()).key("skip").number(p.skip);
    out.key("budget_s").number(p.budget.value()).key("max_slowdown_pct").number(p.max_slowdown_pct);
  }
  out.end_object();
}

void append_kinds(JsonText& out, const std::vector<KindTimes>& kinds, bool expected) {
  out.key("kinds").begin_array();
  for (const KindTimes& k : kinds) {
    out.begin_object().key("kind").text(core::letter(k.kind)).key("stage").number(k.stage);
    out.key("clock_mhz").number(k.clock.value()).key("count").number(k.count);
    out.key("rejected").number(k.rejected).key("time_s").number(k.time.value());
    out.key("time_std_s").number(k.deviation.value());
    if (expected) out.key("expected_s").number(k.expected.value());
    out.end_object();
  }
  out.end_array();
}

void append_numbers(JsonText& out, std::string_view name, const std::vector<double>& values) {
  out.key(name).begin_array();
  for (const double value : values) out.number(value);
  out.end_array();
}

void append_energy(JsonText& out, const std::optional<EnergySums>& sums) {
  out.key("energy");
  if (!sums) {
    out.null();
    return;
  }
  out.begin_object().key("intervals").number(sums->intervals).key("seconds").number(sums->seconds.value());
  out.key("joules").number(sums->joules.value()).key("columns").begin_array();
  for (const std::string& column : sums->columns) out.text(column);
  out.end_array();
  append_numbers(out, "xtx", sums->xtx);
  append_numbers(out, "xty", sums->xty);
  out.key("yty").number(sums->yty).end_object();
}

std::string body_of(const Stamp& stamp, const WindowReport& r) {
  JsonText out = begin(stamp);
  out.key("generation").number(r.generation).key("window").number(r.window).key("step").number(r.step);
  out.key("iterations").number(r.iterations).key("iteration_time_s").number(r.iteration_time.value());
  out.key("throttled").number(r.throttled);
  append_kinds(out, r.kinds, false);
  append_energy(out, r.energy);
  return out.key("counter_period_s").number(r.counter_period.value()).end_object().take();
}

std::string body_of(const Stamp& stamp, const StepReport& r) {
  JsonText out = begin(stamp);
  out.key("generation").number(r.generation).key("step").number(r.step);
  out.key("iteration_time_s").number(r.iteration_time.value()).key("iterations").number(r.iterations);
  if (r.energy) out.key("energy_j").number(r.energy->value());
  if (!r.kinds.empty()) append_kinds(out, r.kinds, true);
  if (r.throttled != 0) out.key("throttled").number(r.throttled);
  if (r.unknown != 0) out.key("unknown").number(r.unknown);
  if (r.missing != 0) out.key("missing").number(r.missing);
  return out.end_object().take();
}

std::string body_of(const Stamp& stamp, const GuardTripReport& r) {
  JsonText out = begin(stamp);
  out.key("generation").number(r.generation).key("promised_time_s").number(r.promised.value());
  out.key("measured_time_s").number(r.measured.value()).key("iterations").number(r.iterations);
  return out.end_object().take();
}

}  // namespace

std::string place_text(const RankPlace& place) {
  return fmt::format("{}.{}.{}", place.dp, place.pp, place.tp);
}

std::string registration_body(const JobFacts& job) {
  JsonText out;
  out.begin_object().key("incarnation").number(job.incarnation).key("parallel").begin_object();
  out.key("pipeline").number(job.schedule.pipeline()).key("tensor").number(job.tensor);
  out.key("data").number(job.data).end_object();
  if (job.blocking_power.size() == 1) {
    out.key("blocking_power_w").number(job.blocking_power.front().value());
  } else if (!job.blocking_power.empty()) {
    out.key("blocking_power_w").begin_array();
    for (const core::Watts power : job.blocking_power) out.number(power.value());
    out.end_array();
  }
  append_schedule(out, job);
  if (job.p2p_lag != core::Seconds(0)) out.key("p2p_lag_s").number(job.p2p_lag.value());
  if (job.profiling) append_profiling(out, *job.profiling);
  if (!job.fingerprint.empty()) out.key("fingerprint").text(job.fingerprint);
  return out.end_object().take();
}

std::string hello_body(const Stamp& stamp, const RankPlace& place, const std::string& schedule_sha256,
                       const GpuFacts& gpu, std::uint64_t step) {
  JsonText out = begin(stamp);
  out.key("rank").text(place_text(place)).key("schedule_sha256").text(schedule_sha256);
  if (!gpu.uuid.empty()) out.key("gpu_uuid").text(gpu.uuid);
  if (!gpu.clocks.empty()) {
    out.key("clocks_mhz").begin_array();
    for (const core::Megahertz clock : gpu.clocks) out.number(clock.value());
    out.end_array();
  }
  if (gpu.clock_control) out.key("clock_control").boolean(*gpu.clock_control);
  if (gpu.counter_period > core::Seconds(0)) out.key("counter_period_s").number(gpu.counter_period.value());
  return out.key("step").number(step).end_object().take();
}

std::string renewal_body(const Stamp& stamp, std::uint64_t step) {
  JsonText out = begin(stamp);
  return out.key("step").number(step).end_object().take();
}

std::string report_route(const RankReport& report) {
  if (std::holds_alternative<WindowReport>(report)) return "windows";
  return std::holds_alternative<StepReport>(report) ? "measurements" : "guard";
}

std::string report_body(const Stamp& stamp, const RankReport& report) {
  return std::visit([&](const auto& r) { return body_of(stamp, r); }, report);
}

}  // namespace perseus::client
