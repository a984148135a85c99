// SPDX-License-Identifier: Apache-2.0
//
// What the demo asks the server, over HTTP like anybody else.
//
//   PERSEUS_ASSIGN_OR_RETURN(JobView job, ask_job(server, "demo"));
//   if (job.deployed && job.deployed->reason == "fastest") ...
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/demo/meter.h"
#include "perseus/server/api_client.h"

namespace perseus::demo {

/// What is deployed to the job's ranks.
struct DeployedView {
  std::uint64_t generation = 0;
  std::string reason;
  bool baseline = false;
  std::optional<std::uint64_t> from_step;  ///< once all ranks have it
};

/// A straggler that the server reckons with.
struct NoticeView {
  std::string id, cause;
  std::optional<std::uint64_t> pipeline;
  std::optional<double> slowdown;
};

/// One job, as far as the demo looks; times are the ranks' own, real seconds.
struct JobView {
  std::string state;
  std::optional<std::string> planner_error;
  std::optional<Figures> predicted;  ///< of the deployed plans, all pipelines
  std::optional<DeployedView> deployed;
  std::vector<NoticeView> notices;
  std::optional<std::string> guard;                            ///< the rank whose guard went off
  std::optional<core::Watts> blocking_power;                   ///< as measured; mean over pipeline ranks
  std::optional<std::uint64_t> windows_done, windows_planned;  ///< of a sweep

  /// What the job is at, for a line of progress.
  [[nodiscard]] std::string progress_text() const;
};

/// Reads the answer to GET /api/v1/jobs/JOB; members that the demo does not use are skipped.
[[nodiscard]] core::Result<JobView> parse_job(std::string_view body);

/// Errors as server::get(); kNotFound while nobody has registered the job.
[[nodiscard]] core::Result<JobView> ask_job(const server::ServerUrl& server, const std::string& job);

/// Tells the server, as an operator would, that a pipeline is slow; and takes that back.
core::Status announce_straggler(const server::ServerUrl& server, const std::string& job,
                                std::uint32_t pipeline, double slowdown);
core::Status withdraw_straggler(const server::ServerUrl& server, const std::string& job);

}  // namespace perseus::demo
