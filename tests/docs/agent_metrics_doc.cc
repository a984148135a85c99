// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/agent_metrics.md from the agent's table of metrics.
#include <cstdio>
#include <string>

#include "perseus/agent/metrics.h"

int main() {
  namespace agent = perseus::agent;
  std::string page =
      "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
      "# Metrics of the node agent\n\n"
      "Generated from `agent::metric_table()` (`perseus/agent/metrics.cc`) by `agent_metrics_doc`; a test "
      "compares the "
      "two.\n"
      "They stand in `metrics.prom` beside the agent's socket, in Prometheus' text format, renewed once a "
      "second.\n"
      "What the driver does not tell is absent. All `perseus_gpu_` metrics have the labels `gpu` (index) and "
      "`uuid`.\n\n"
      "| metric | type | further labels | meaning |\n|---|---|---|---|\n";
  for (const agent::MetricInfo& row : agent::metric_table()) {
    page.append("| `").append(row.name).append("` | ").append(row.type).append(" | ");
    page.append(row.labels).append(" | ").append(row.help).append(" |\n");
  }
  page += "\nStates of `perseus_gpu_state`:";
  for (const std::string_view state : agent::state_names()) page.append(" `").append(state).append("`");
  page += ".\n\nReasons of `perseus_gpu_clock_reason_seconds_total`:";
  for (const std::string_view reason : agent::kReasonNames) page.append(" `").append(reason).append("`");
  page += ".\n";
  return std::fputs(page.c_str(), stdout) < 0 ? 1 : 0;
}
