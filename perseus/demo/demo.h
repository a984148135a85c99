// SPDX-License-Identifier: Apache-2.0
//
// `perseus demo`: the whole system on one machine without a GPU. A simulated node, and on it, as processes of
// their own over real sockets, agent, server and a training job with the real client in each rank. The job
// is profiled online, planned, deployed, hit by a straggler, and recovers.
//
//   DemoOptions options{.site = {...programs...}, .gpu = gpu_spec};
//   PERSEUS_ASSIGN_OR_RETURN(DemoResult result, run_demo(options, progress, stop));
//   std::puts(result_json(result).c_str());
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/demo/demo_result.h"
#include "perseus/demo/site.h"
#include "perseus/demo/workload.h"

namespace perseus::demo {

/// How long the phases last, in iterations. Assumed: what fits into two minutes and leaves the mean's error
/// well below the 1 % that it is held to.
struct Phases {
  std::uint32_t warm_up = 2;  ///< of each phase; not measured
  std::uint32_t reference = 11;
  std::uint32_t planned = 12;
  std::uint32_t patience = 24;   ///< in which the server may find the straggler; then it is announced
  std::uint32_t straggling = 5;  ///< under the new plan
  std::uint32_t recovered = 3;
};

/// How the job is profiled (docs/client.md). Assumed, as above: the server's own defaults are for jobs that
/// last.
struct SweepSetup {
  std::uint32_t clocks = 16;     ///< at most so many a stage, coarse to fine
  std::uint32_t steps = 2;       ///< measured ones in a window
  core::Seconds window{1};       ///< measured real time of a window, at least
  double max_slowdown_pct = 80;  ///< clocks below top / 1.8 are not visited: energy rises there again
};

struct DemoOptions {
  SiteOptions site;  ///< without its node, which follows from the rest
  simgpu::GpuSpec gpu;
  Shape shape;
  Phases phases;
  double time_scale = 16;  ///< simulated seconds in a real one
  SweepSetup sweep;
  std::uint64_t seed = 1;
  std::string
      report;  ///< HTML file to write; empty: report.html in the kept folder, else perseus-demo.html here
};

/// Tells a person how it goes. Called on the demo's thread.
class Progress {
 public:
  Progress() = default;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  virtual ~Progress() = default;
  /// Something has happened: one line that stays.
  virtual void note(std::string_view line) = 0;
  /// What goes on at this moment: replaces the last such line.
  virtual void live(std::string_view line) = 0;
};

/// Runs it all and cleans up, whatever happens. kBusy: `stop` was set. Every failure of a process names it
/// and shows the end of its log.
[[nodiscard]] core::Result<DemoResult> run_demo(const DemoOptions& options, Progress& progress,
                                                const std::atomic<bool>& stop);

}  // namespace perseus::demo
