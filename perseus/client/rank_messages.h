// SPDX-License-Identifier: Apache-2.0
//
// What a rank says to the server: values to the JSON bodies of schema/openapi.yaml. Members that are not set
// are left out, so that a server that does not know them yet takes the rest.
#pragma once

#include <cstdint>
#include <string>

#include "perseus/client/control_link.h"
#include "perseus/client/server_link.h"

namespace perseus::client {

/// Which message of which life of the job this is.
struct Stamp {
  std::uint64_t incarnation = 0;
  std::uint64_t sequence = 0;  ///< rises from message to message of a rank
};

/// "dp.pp.tp", as paths and bodies have it.
[[nodiscard]] std::string place_text(const RankPlace& place);

/// PUT jobs/JOB: what rank 0.0.0 says of the job.
[[nodiscard]] std::string registration_body(const JobFacts& job);

/// POST ranks.
[[nodiscard]] std::string hello_body(const Stamp& stamp, const RankPlace& place,
                                     const std::string& schedule_sha256, const GpuFacts& gpu,
                                     std::uint64_t step);

/// POST ranks/RANK/renew and ranks/RANK/leave.
[[nodiscard]] std::string renewal_body(const Stamp& stamp, std::uint64_t step);

/// Where a report goes under ranks/RANK: "windows", "measurements" or "guard".
[[nodiscard]] std::string report_route(const RankReport& report);
/// Its body.
[[nodiscard]] std::string report_body(const Stamp& stamp, const RankReport& report);

}  // namespace perseus::client
