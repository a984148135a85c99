// SPDX-License-Identifier: Apache-2.0
//
// A deployment as the store keeps it, beside the plans that it names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/json_reader.h"
#include "perseus/server/job_state.h"
#include "perseus/server/json_text.h"
#include "perseus/server/store.h"

namespace perseus::server {

/// The windows of a sweep as the store keeps them.
void append_windows(JsonText& out, std::span<const SweepWindow> windows);
[[nodiscard]] core::Status read_windows(format::JsonReader& json, std::vector<SweepWindow>& to);

/// A deployment without its plans, which are stored under their own names.
struct StoredDeployment {
  Deployment deployment;           ///< `plans` and `since` are empty
  std::vector<std::string> plans;  ///< sha256 for each pipeline; empty: baseline clocks
};

[[nodiscard]] std::string write_deployment(const Deployment& deployment);
/// Reads what write_deployment() wrote; refuses all else (kInvalidInput).
[[nodiscard]] core::Result<StoredDeployment> parse_deployment(std::string_view text);

/// The records that make a deployment durable.
[[nodiscard]] std::vector<Change> records_of(const std::string& job, const Deployment& deployment);

}  // namespace perseus::server
