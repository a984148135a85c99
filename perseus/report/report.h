// SPDX-License-Identifier: Apache-2.0
//
// What people see of a frontier: a self-contained HTML page, two plots as SVG and PNG, and a trace of the
// timeline. Everything is drawn from one plain value, ReportInputs; nothing here solves anything.
//
//   ReportInputs inputs{.problem = problem, .title = "GPT-3 175B on A100", ...};
//   PERSEUS_ASSIGN_OR_RETURN(std::string html, write_html(inputs));
//   PERSEUS_ASSIGN_OR_RETURN(std::string png, write_timeline_png(inputs, equal_time_point(inputs)));
//
// Every function is pure and deterministic (equal inputs give equal bytes; PNG text additionally depends on
// the installed fonts) and may be called from any thread. All refuse inconsistent inputs with
// ErrorCode::kInvalidInput.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::report {

/// How the figures of a report came about; printed beside them.
enum class Evidence : std::uint8_t { kPredicted, kSimulated, kMeasured };

/// One point of the frontier as realised in clocks.
struct ReportPoint {
  core::Plan plan;       ///< with its bound filled in; the certificate is not used here
  core::Watts marginal;  ///< -dE/dT of the whole pipeline at the target (tensor width included)
};

/// The proven least energy at one target time; corners or samples of the exact curve.
struct CurveSample {
  core::Seconds target;
  core::Joules lower_bound;  ///< one pipeline with all its GPUs, blocking counted to `target`
};

/// What someone runs without Perseus.
struct ReportBaseline {
  std::string name;     ///< "best single clock", ...
  core::Seconds time;   ///< iteration time
  core::Joules energy;  ///< one pipeline with all its GPUs, blocking counted to `time`
};

/// A further line of the page's list of inputs.
struct Fact {
  std::string name;
  std::string value;
};

/// All that a report shows. Texts are UTF-8 (broken sequences are shown as U+FFFD) and never trusted as HTML.
struct ReportInputs {
  core::Problem problem;
  std::string title;         ///< headline of the page, e.g. "GPT-3 175B, 8 x A100 SXM 80 GB"
  std::string profile_name;  ///< of the profile's file, or the model that made it
  std::string provenance;    ///< one sentence, e.g. "predicted from a modelled profile"
  Evidence evidence = Evidence::kPredicted;
  std::string fit = "none";  ///< fit that the profile went through before planning

  std::vector<CurveSample> curve;   ///< by rising target; may be empty
  std::vector<ReportPoint> points;  ///< self-timed, by rising target, at least one
  /// Synchronised plans for targets beyond T*, by rising target; may be empty. Used for stragglers.
  std::vector<ReportPoint> straggler_points;
  core::Choice all_max;                   ///< every computation at its highest clock
  std::vector<ReportBaseline> baselines;  ///< without all-max, which is added from `all_max`

  core::Seconds t_min;
  core::Seconds t_star;
  core::Seconds t_max;
  std::optional<core::Seconds> solver_time;  ///< of the exact frontier alone
  std::optional<std::uint64_t> breakpoints;  ///< corners of the exact frontier
  std::vector<Fact> facts;
  std::vector<core::Warning> warnings;
};

/// Larger pipelines get a page with all numbers but no timeline (said on the page). 64 x 1,024 still has one.
inline constexpr std::size_t kMaxTimelineComputations = std::size_t{1} << 17;
/// Most option indices (computations x points) that a page carries: 2.8 MB of text at one byte each. With
/// more, evenly chosen points carry their plan and the slider stops at those (said on the page). 16 x 512 at
/// 40 points fits.
inline constexpr std::size_t kMaxPlanEntries = std::size_t{1} << 21;

/// What colours the blocks of a timeline.
enum class ColorBy : std::uint8_t { kClock, kPower };

/// Index of the point that saves most without being slower than all-max: the one a report opens with. Point 0
/// if every point is slower. `inputs` needs at least one point.
[[nodiscard]] std::size_t equal_time_point(const ReportInputs& inputs);

/// The page: one HTML file that needs no network and no other file.
core::Result<std::string> write_html(const ReportInputs& inputs);

/// Iteration time against energy: lower bound, realised points, baselines, and the saving at equal time.
core::Result<std::string> write_frontier_svg(const ReportInputs& inputs);
/// The same picture as PNG bytes, two pixels per unit of the SVG.
core::Result<std::string> write_frontier_png(const ReportInputs& inputs);

/// All-max above the plan of points[point], at one time scale, critical path marked. `point` out of range is
/// refused.
core::Result<std::string> write_timeline_svg(const ReportInputs& inputs, std::size_t point,
                                             ColorBy color_by = ColorBy::kClock);
/// The same picture as PNG bytes, two pixels per unit of the SVG.
core::Result<std::string> write_timeline_png(const ReportInputs& inputs, std::size_t point,
                                             ColorBy color_by = ColorBy::kClock);

/// Trace-event JSON for Perfetto and chrome://tracing: the plan of points[point] and all-max as one process
/// each, a thread per rank, times in microseconds; clock, power, energy and slack of each computation in its
/// args.
core::Result<std::string> write_chrome_trace(const ReportInputs& inputs, std::size_t point);

}  // namespace perseus::report
