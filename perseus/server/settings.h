// SPDX-License-Identifier: Apache-2.0
//
// What an operator may set about jobs, and moments in time as the server's logic sees them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "perseus/core/units.h"

namespace perseus::server {

/// A moment on this process's monotonic clock: seconds since the server started. Moments of other nodes are
/// never compared with it.
using Moment = core::Seconds;

/// Rules of jobs. The defaults are assumed unless a source stands beside them.
struct JobSettings {
  /// A rank that is not heard of for so long is gone. Three renewals of the default client period of 10 s.
  core::Seconds rank_ttl{30};
  /// How long ranks may go on with a plan without hearing from the server; then the baseline clock.
  core::Seconds plan_ttl{300};
  /// Least time between two slow-downs, and between a speed-up and the next slow-down. Stragglers last from
  /// tens of seconds to hours, and plans should hold for minutes (RELIABILITY section 5: OSDI '25, ATC '25).
  core::Seconds min_hold{60};
  /// Least time between two changes that are smaller than `hysteresis`.
  core::Seconds change_interval{1};
  /// A change of T' by a smaller share than this is noise. Iteration times within a straggling job vary by
  /// some per cent (p90 of step / job ratio 1.06, median 1.0: OSDI '25).
  double hysteresis = 0.02;
  /// A new generation is switched to although live ranks have not confirmed it, after this time.
  core::Seconds confirm_deadline{5};
  /// Steps between the newest step that any rank reported and the agreed switch.
  std::uint64_t switch_margin_steps = 2;
  /// So long after the first rank is past the last window of a batch the others' reports are waited for.
  core::Seconds report_grace{10};
  /// From the end of a sweep to the begin of the job's next one, at least: what profiling may cost is its
  /// budget once in so long.
  core::Seconds reprofile_interval{1800};
  /// Life of a straggler notice that names none, and the longest that one may have.
  core::Seconds notice_ttl{600};
  /// Life of a notice about a straggler that we saw ourselves; each report that still shows it renews it.
  core::Seconds detected_ttl{120};
  core::Seconds notice_ttl_most{7 * 86'400.0};
};

/// Bounds on what clients may make the server hold.
struct Limits {
  std::size_t jobs = 1024;
  std::size_t ranks_of_job = 65'536;  ///< pp x dp x tp
  std::size_t notices_of_job = 1024;
  /// Computations of one job: 64 x 1,024 is the largest that DESIGN section 7 names.
  std::size_t computations = 131'072;
  std::size_t registration_bytes = std::size_t{4} << 20U;  ///< 131,072 cells of 16 bytes, twice
  std::size_t profile_bytes = std::size_t{64} << 20U;
  std::size_t message_bytes = std::size_t{64} << 10U;  ///< every other body: the longest lists 1,024 clocks
  /// A rank's measurements: some hundred kinds and clocks, and the sums of 64 columns.
  std::size_t report_bytes = std::size_t{256} << 10U;
  std::size_t kinds_of_report = 1024;  ///< kinds x stages x clocks that one rank runs
  std::size_t energy_columns = 64;     ///< of one report
  std::size_t fingerprint_bytes = 128;
  std::size_t shared_profiles = 1024;  ///< of all fingerprints; then the oldest makes room
  core::Seconds longest_poll{55};      ///< below the usual idle limit of 60 s of what may stand between
};

}  // namespace perseus::server
