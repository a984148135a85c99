// SPDX-License-Identifier: Apache-2.0
//
// What the demo found, and how it is told.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/units.h"
#include "perseus/demo/meter.h"

namespace perseus::demo {

/// Bounds within which figures agree (issue of the demo); beyond them the result says why.
inline constexpr double kEnergyAgreement = 0.02;  ///< measured against predicted
inline constexpr double kTimeAgreement = 0.01;    ///< measured against all-max

/// All times and energies are simulated seconds and joules of one iteration of all pipelines.
struct DemoResult {
  Measurement all_max;    ///< full clocks, without Perseus
  Figures predicted;      ///< by the server, from the profile that it measured
  Measurement measured;   ///< with the plan, without a straggler
  Measurement waiting;    ///< with the straggler, before the new plan: the others wait for it
  Measurement replanned;  ///< with the straggler, under the new plan
  Measurement recovered;  ///< the straggler is gone, and the first plan is back

  double straggler_factor = 1;  ///< iteration time with it over without
  double replan_ms = 0;         ///< real: from the server's notice to the new plan deployed
  bool announced = false;       ///< the straggler was announced; false: the server found it by itself
  std::uint32_t gpus_left_locked = 0;
  std::uint64_t guard_trips = 0;

  core::Seconds ideal;           ///< longest path of an iteration at the top clock, without any process
  core::Seconds profiling_time;  ///< real seconds from the first step to the plan
  std::uint64_t profiling_iterations = 0;
  double run_s = 0;    ///< real seconds of the whole demo
  std::string report;  ///< path; empty: none was written

  /// 1 - measured / all_max, in per cent.
  [[nodiscard]] double intrinsic_saved_pct() const;
  /// 1 - replanned / waiting, in per cent: at the same T'.
  [[nodiscard]] double extrinsic_saved_pct() const;
};

/// One sentence for each figure that is outside of its bounds, with what is known of the reason.
[[nodiscard]] std::vector<std::string> deviations(const DemoResult& result);

/// One line of JSON, without a newline.
[[nodiscard]] std::string result_json(const DemoResult& result);

}  // namespace perseus::demo
