// SPDX-License-Identifier: Apache-2.0
//
// A sweep as the store keeps it: what it began with, each batch of windows, and every report that was
// acknowledged, in this order. From these a server that was killed goes on where it was.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/server/job_state.h"
#include "perseus/server/store.h"
#include "perseus/server/sweep.h"

namespace perseus::server {

/// What a sweep began with.
struct SweepHeader {
  std::string schedule_sha256;
  std::string why;  ///< "no profile", "no blocking power", "drift", "guard"
  bool power_only = false;
  std::vector<std::vector<core::Megahertz>> clocks;  ///< per pipeline rank
};

[[nodiscard]] SweepRecord header_record(const std::string& job, const SweepHeader& header);
[[nodiscard]] SweepRecord batch_record(const std::string& job, std::uint64_t generation,
                                       std::span<const SweepWindow> windows);
[[nodiscard]] SweepRecord report_record(const std::string& job, const RankId& rank,
                                        const WindowReport& report, std::string body);

/// A sweep as it was when the server ended.
struct StoredSweep {
  Sweep sweep;
  std::uint64_t generation = 0;  ///< of its last batch
  std::string why;
};
/// Puts the entries of one job, sorted, together again. kInvalidInput: they are not what this build writes,
/// or of other computations than the registration's.
[[nodiscard]] core::Result<StoredSweep> restore_sweep(std::span<const SweepRecord> records,
                                                      const Registration& registration,
                                                      const std::string& fence);

}  // namespace perseus::server
