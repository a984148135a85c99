// SPDX-License-Identifier: Apache-2.0
//
// The grants file of the node agent: whom the administrator lets set which GPUs' clocks (RELIABILITY.md 4).
//
//   grants:
//     - {uid: 1000, gpus: all}
//     - {cgroup: /system.slice/slurmstepd.scope/job_7, gpus: [GPU-5c1e..., 3], min_mhz: 900,
//        expires: 2026-12-31T18:00:00Z, comment: "trial of team A"}
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::format {

/// Largest grants file, and most grants in it (assumed: thousands of users of one node are not a case).
inline constexpr std::size_t kMaxGrantsBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxGrants = 4096;
/// Most GPUs that one grant names; a node has at most 16 today.
inline constexpr std::size_t kMaxGrantGpus = 256;

/// One line of the file: who, on which GPUs, within what.
struct Grant {
  /// Exactly one of the two is there.
  std::optional<std::uint32_t> uid;
  std::optional<std::string> cgroup;  ///< a cgroup v2 path and all below it; starts with '/', not "/" itself
  bool all_gpus = false;
  std::vector<std::string> gpus;                    ///< UUIDs or decimal indices; empty if all_gpus
  std::optional<core::Megahertz> min_clock;         ///< no clock under this one
  std::optional<std::chrono::sys_seconds> expires;  ///< valid before this moment
  std::string comment;                              ///< for people
  std::uint64_t line = 0;                           ///< where it stands, for the audit log

  friend bool operator==(const Grant& a, const Grant& b) {  // the line is no part of the meaning
    return a.uid == b.uid && a.cgroup == b.cgroup && a.all_gpus == b.all_gpus && a.gpus == b.gpus &&
           a.min_clock == b.min_clock && a.expires == b.expires && a.comment == b.comment;
  }
};

/// Reads a grants file. Refused with line and column (kInvalidInput, kLimit): unknown and repeated keys, a
/// grant without holder or with two, without GPUs, the root cgroup, "." or ".." in a path, a time that is not
/// `YYYY-MM-DDTHH:MM:SSZ`. Pure; thread-safe.
[[nodiscard]] core::Result<std::vector<Grant>> parse_grants(std::string_view bytes,
                                                            const std::string& source);

/// The grants as a file that parse_grants() reads back to the same.
[[nodiscard]] std::string write_grants(const std::vector<Grant>& grants);

/// "2026-12-31T18:00:00Z"; years 1970 to 9999.
[[nodiscard]] std::string utc_text(std::chrono::sys_seconds time);

}  // namespace perseus::format
