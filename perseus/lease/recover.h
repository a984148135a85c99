// SPDX-License-Identifier: Apache-2.0
//
// After a crash: brings every GPU back that an earlier run has left off its baseline. What `perseus agent
// --restore`, a starting agent and a starting guardian do first.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto report, recover(directory, *backend, {}));
//   for (const Restored& gpu : report.gpus) ...
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/backoff.h"
#include "perseus/lease/clock.h"
#include "perseus/lease/state_directory.h"

namespace perseus::lease {

/// The baseline that the site has configured for a GPU; absent: the driver's default.
using SiteBaseline = std::function<std::optional<core::Megahertz>(std::string_view uuid)>;

struct RecoverOptions {
  /// Ignore the journal and bring every device of the backend back: `--restore --all`.
  bool all = false;
  /// For GPUs whose record cannot be read, and for `all`; empty: the driver's default.
  SiteBaseline site_baseline;
  /// How long kDriver is answered by re-opening the backend and trying again (3 s: I1's bound for an agent's
  /// death, of which the process start takes some).
  Duration patience = std::chrono::milliseconds(2'500);
  Backoff::Limits backoff;
  /// Lets time pass between two tries; empty: sleeps. Tests move their clock.
  std::function<void(Duration)> pause;
};

/// One GPU that was to be restored.
struct Restored {
  std::string gpu;                          ///< UUID
  std::optional<core::Megahertz> baseline;  ///< where it was brought to; absent: the driver's default
  std::string owner;                        ///< of the lease that was left, as owner_text(); may be empty
  core::Status result;                      ///< kNotFound: no such device here; kBusy: a guardian lives
};

struct RecoverReport {
  std::vector<Restored> gpus;        ///< by UUID
  std::vector<BadRecord> bad;        ///< records that could not be read; their GPUs are in `gpus`
  std::vector<std::string> dropped;  ///< GPUs whose record was of an earlier boot
  /// Whether every GPU is back, those apart that a living guardian holds (kBusy).
  [[nodiscard]] bool complete() const;
};

/// What the journal owes, without doing it: for an agent whose GPU threads do the work themselves
/// (ClockThread::owe). One entry a GPU, `result` being empty success.
[[nodiscard]] RecoverReport plan_recovery(const Journal& journal, const SiteBaseline& site_baseline);

/// Restores all of them, every GPU by a thread of its own, so that one hanging driver call delays no other,
/// and removes the records of those that are back. Waits as long as the driver's calls do. A folder of
/// Hold::kGpus: GPUs that somebody holds are left alone (kBusy); others are locked meanwhile. Errors are
/// those of reading the folder only; the rest stands in the report.
[[nodiscard]] core::Result<RecoverReport> recover(const StateDirectory& directory, gpu::Backend& backend,
                                                  const RecoverOptions& options,
                                                  const TimeSource& time = SystemTime::instance());

}  // namespace perseus::lease
