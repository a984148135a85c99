// SPDX-License-Identifier: Apache-2.0
//
// Asks a server: what `perseus status` and `perseus demo` use. Blocking, one request a connection, with a
// deadline.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto at, parse_server_url("https://head-node:7787"));
//   PERSEUS_ASSIGN_OR_RETURN(std::string body, get(at, "/api/v1/jobs", {.token = token}));
//   PERSEUS_ASSIGN_OR_RETURN(auto jobs, parse_jobs(body));
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/api_access.h"

namespace perseus::server {

using format::parse_server_url;
using format::ServerUrl;

struct GetOptions {
  std::optional<std::string> token;  ///< sent as a bearer token
  std::optional<std::string>
      ca_file;                 ///< PEM; else the system's authorities. The host's name is always checked
  core::Seconds deadline{10};  ///< of connecting, and of each read and write
};

/// The body of a good answer (2xx), at most 64 MiB. kIo: no connection, or no HTTP; kTimeout; kPermission:
/// 401 or 403, or a certificate that does not hold; kNotFound: 404; kIo for other statuses, each with the
/// server's own words.
[[nodiscard]] core::Result<std::string> get(const ServerUrl& server, const std::string& path,
                                            const GetOptions& options = {});

/// The same for a POST with a JSON body, and for a DELETE.
[[nodiscard]] core::Result<std::string> post(const ServerUrl& server, const std::string& path,
                                             std::string_view json, const GetOptions& options = {});
[[nodiscard]] core::Result<std::string> remove(const ServerUrl& server, const std::string& path,
                                               const GetOptions& options = {});

/// Reads a token for `token` above: the last word of the first line of a file that only its owner can read.
[[nodiscard]] core::Result<std::string> read_token_file(const std::string& path);

/// One job of GET /api/v1/jobs, as far as a table shows it.
struct JobRow {
  std::string job, state, schedule;
  std::uint64_t incarnation = 0, ranks_live = 0, ranks_known = 0, generation = 0, stragglers = 0;
  std::optional<core::Seconds> predicted_time, measured_time;
  std::optional<core::Joules> predicted_energy, measured_energy;
  std::optional<double> intrinsic_pct, extrinsic_pct;  ///< predicted saving
  std::optional<double> planned_pct;                   ///< of the frontier that is being computed
  std::optional<std::string> planner_error;
  bool dry_run = false;
  std::uint64_t windows_done = 0, windows_planned = 0;  ///< of a sweep; 0: none was or is
};

/// Reads the list; members that it does not know are skipped, so that an older `status` can ask a newer
/// server.
[[nodiscard]] core::Result<std::vector<JobRow>> parse_jobs(std::string_view body);

}  // namespace perseus::server
