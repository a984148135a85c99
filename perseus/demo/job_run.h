// SPDX-License-Identifier: Apache-2.0
//
// One run of the simulated training job: its rank processes and what they tell.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto run, JobRun::start(site, job, meter, /*with_perseus=*/true));
//   while (...) PERSEUS_ASSIGN_OR_RETURN(bool news, run->turn(std::chrono::milliseconds(100)));
//   PERSEUS_RETURN_IF_ERROR(run->finish());
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/demo/child.h"
#include "perseus/demo/meter.h"
#include "perseus/demo/site.h"
#include "perseus/demo/workload.h"

namespace perseus::demo {

/// A line that a rank has told.
struct RankEvent {
  std::string event;  ///< "joined", "step" or "end"
  std::uint32_t pipeline = 0, stage = 0;
  std::uint64_t step = 0;
  std::uint64_t generation = 0;  ///< that the step ran under; 0: baseline clocks
  std::uint64_t guard_trips = 0;
};

/// Members that the demo does not use are skipped.
[[nodiscard]] core::Result<RankEvent> parse_rank_event(std::string_view line);

/// What the job is called and how it looks.
struct JobSetup {
  std::string name;
  Shape shape;
  Workload workload;
};

/// Belongs to one thread. GPU of rank (pipeline, stage): pipeline x stages + stage.
class JobRun {
 public:
  /// Starts all ranks. `site`, `setup` and `meter` must outlive the run; the meter begins anew.
  [[nodiscard]] static core::Result<std::unique_ptr<JobRun>> start(Site& site, const JobSetup& setup,
                                                                   Meter& meter, bool with_perseus);
  JobRun(const JobRun&) = delete;
  JobRun& operator=(const JobRun&) = delete;
  ~JobRun() = default;

  /// Waits for at most `limit` for news of ranks and takes it in; the end of a step of rank 0.0 goes to the
  /// meter at once. Answers whether there was such an end. kIo with the end of a log: a rank, the agent or
  /// the server has ended.
  [[nodiscard]] core::Result<bool> turn(std::chrono::milliseconds limit);
  /// Asks the ranks to stop, and waits until all have ended well.
  core::Status finish();

  /// Steps of rank 0.0 that have ended.
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  /// The latest step of all ranks: what generation each runs.
  [[nodiscard]] const std::vector<RankEvent>& ranks() const { return latest_; }
  [[nodiscard]] std::uint64_t guard_trips() const;

 private:
  JobRun(Site& site, Meter& meter, std::uint32_t stages) : site_(site), meter_(meter), stages_(stages) {}
  core::Status take(std::size_t rank, const std::string& line, bool& step_ended);
  core::Status check_ends();

  Site& site_;
  Meter& meter_;
  std::uint32_t stages_;
  std::vector<Child> ranks_;
  std::vector<RankEvent> latest_;
  std::uint64_t steps_ = 0;
  bool finishing_ = false;
};

}  // namespace perseus::demo
