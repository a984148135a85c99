// SPDX-License-Identifier: Apache-2.0
//
// report_sample RANKS MICROBATCHES POINTS DIRECTORY: writes every output of report/ for a made-up pipeline,
// and expected.json with the exact timings that the page's own must equal (tests/python/test_report_page.py).
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

#include "perseus/report/json_out.h"
#include "perseus/report/testing.h"
#include "perseus/report/timing.h"

namespace {

using namespace perseus;

void save(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

std::string expected(const report::ReportInputs& inputs) {
  report::JsonOut out;
  out.begin_array();
  for (const report::ReportPoint& point : inputs.points) {
    const report::PlanTiming timing = report::plan_timing(inputs.problem, point.plan.choice);
    out.begin_object().key("makespan_s").number(timing.makespan.value()).key("start_s").begin_array();
    for (const core::Seconds start : timing.start) out.number(start.value());
    out.end_array().key("slack_s").begin_array();
    for (const core::Seconds slack : timing.slack) out.number(slack.value());
    out.end_array().key("ranks").begin_array();
    for (const auto& rank : report::rank_energies(inputs.problem, point.plan.choice, point.plan.time)) {
      out.begin_array().number(rank.computing.value()).number(rank.blocking.value()).end_array();
    }
    out.end_array().end_object();
  }
  out.end_array();
  return out.take();
}

void write_all(const report::ReportInputs& inputs, const std::string& directory) {
  using report::testing::must;
  const std::size_t point = report::equal_time_point(inputs);
  save(directory + "/report.html", must(report::write_html(inputs)));
  save(directory + "/frontier.svg", must(report::write_frontier_svg(inputs)));
  save(directory + "/frontier.png", must(report::write_frontier_png(inputs)));
  save(directory + "/timeline.svg", must(report::write_timeline_svg(inputs, point)));
  save(directory + "/timeline.png", must(report::write_timeline_png(inputs, point)));
  save(directory + "/trace.json", must(report::write_chrome_trace(inputs, point)));
  save(directory + "/expected.json", expected(inputs));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::fputs("usage: report_sample RANKS MICROBATCHES POINTS DIRECTORY\n", stderr);
    return 2;
  }
  const auto number = [&](int i) { return static_cast<std::uint32_t>(std::strtoul(argv[i], nullptr, 10)); };
  write_all(
      report::testing::sample_inputs({.ranks = number(1), .microbatches = number(2), .points = number(3)}),
      argv[4]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "report_sample: %s\n", error.what());
  return 1;
}
