// SPDX-License-Identifier: Apache-2.0
//
// What the agent tells everybody: the metrics in Prometheus' text format, and the intended clock of each GPU
// for health checks that would take a lowered clock for a fault.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/agent/gpu_unit.h"
#include "perseus/agent/server.h"
#include "perseus/agent/telemetry.h"
#include "perseus/lease/apply_loop.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::agent {

/// One metric. The table is the only place where names, types and meanings stand; docs/agent_metrics.md is
/// made from it.
struct MetricInfo {
  std::string_view name;
  std::string_view type;    ///< "gauge" or "counter"
  std::string_view labels;  ///< besides gpu and uuid for metrics of a GPU; comma-separated
  std::string_view help;
};
/// All metrics, in the order in which they are written.
[[nodiscard]] std::span<const MetricInfo> metric_table();
/// The states of wire::GpuStatus::state.
[[nodiscard]] std::span<const std::string_view> state_names();

/// One GPU at one moment.
struct GpuMetrics {
  wire::GpuStatus status;
  Telemetry telemetry;
  LeaseCounters leases;
  lease::ChangeLog::Counters changes;
  core::Seconds clock_call_time;  ///< in driver calls for requested clocks
  std::optional<core::Megahertz> baseline;
};
struct AgentMetrics {
  wire::AgentStatus status;  ///< its `gpus` are not looked at
  ServerCounters server;
  std::size_t connections = 0;
  std::uint64_t audit_lines_lost = 0;
  std::vector<GpuMetrics> gpus;
};

/// The text exposition format 0.0.4. Pure.
[[nodiscard]] std::string metrics_text(const AgentMetrics& metrics);
/// {"format":"perseus-intended/1","time":"...","gpus":[{"index","uuid","state","intended_mhz":null|N,"baseline_mhz":
/// null|N,"reason"}]}, one line. Pure.
[[nodiscard]] std::string intended_json(const AgentMetrics& metrics,
                                        std::chrono::system_clock::time_point at);

/// Replaces a file so that readers see the old one or the new: 0644 whatever the umask, and without flushing
/// to disk, since the folder lies in memory. kIo, kNotFound.
[[nodiscard]] core::Status publish_file(const std::string& path, std::string_view bytes);

}  // namespace perseus::agent
