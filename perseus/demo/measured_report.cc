// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/measured_report.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "perseus/demo/server_view.h"
#include "perseus/format/files.h"
#include "perseus/format/profile_csv.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr std::chrono::seconds kPatience{
    60};  ///< for `perseus report`: a second on a machine at rest. Assumed
constexpr std::chrono::milliseconds kLookAgain{10};

core::Status run_report(const Site& site, const DemoOptions& options, const std::string& profile,
                        const std::string& output, core::Watts blocking) {
  ChildOptions child{.name = "report",
                     .arguments = {site.options().perseus, "report", "--profile", profile, "--schedule",
                                   "1f1b", "--pp", std::to_string(options.shape.stages), "--microbatches",
                                   std::to_string(options.shape.microbatches), "--dp",
                                   std::to_string(options.shape.pipelines), "--blocking-power",
                                   fmt::format("{}", blocking.value()), "--title",
                                   fmt::format("perseus demo: {} on simulated {}, profiled online",
                                               options.shape.model, options.gpu.name),
                                   "-o", output},
                     .environment = {},
                     .log = site.log_of("report")};
  PERSEUS_ASSIGN_OR_RETURN(Child process, Child::start(std::move(child)));
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!process.ended() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(kLookAgain);
  if (!process.stop(std::chrono::milliseconds(0))) return core::fail(ErrorCode::kIo, process.obituary());
  return {};
}

}  // namespace

core::Profile to_simulated_time(core::Profile profile, double time_scale) {
  for (core::ProfileEntry& entry : profile.entries) {
    for (core::Option& option : entry.options) {
      option.time = option.time * time_scale;
      if (option.time_std) *option.time_std = *option.time_std * time_scale;
    }
  }
  return profile;
}

core::Status write_measured_report(Site& site, const DemoOptions& options, const std::string& job,
                                   DemoResult& result) {
  PERSEUS_ASSIGN_OR_RETURN(const JobView view, ask_job(site.server(), job));
  if (!view.blocking_power)
    return core::fail(ErrorCode::kInternal, "the server does not tell which blocking power it measured");
  PERSEUS_ASSIGN_OR_RETURN(const std::string csv,
                           server::get(site.server(), fmt::format("/api/v1/jobs/{}/profile", job)));
  PERSEUS_ASSIGN_OR_RETURN(format::ParsedProfile measured,
                           format::parse_profile_csv(csv, "the measured profile"));
  const std::string profile = site.folder() + "/profile.csv";
  PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(
      profile,
      format::write_profile_csv(to_simulated_time(std::move(measured.profile), options.time_scale))));
  const std::string beside = options.site.keep.empty() ? "perseus-demo.html" : site.folder() + "/report.html";
  const std::string output = options.report.empty() ? beside : options.report;
  PERSEUS_RETURN_IF_ERROR(
      run_report(site, options, profile, output, *view.blocking_power / options.time_scale));
  std::error_code error;
  result.report = std::filesystem::absolute(output, error).lexically_normal().string();
  return {};
}

}  // namespace perseus::demo
