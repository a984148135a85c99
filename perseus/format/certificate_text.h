// SPDX-License-Identifier: Apache-2.0
//
// Inside of plan_json: the certificate object, which stands in a plan file or in a file of its own.
#pragma once

#include <string>

#include "perseus/core/result.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/plan_json.h"

namespace perseus::format {

/// Appends the object; its unit as the exact number of watts.
void append_certificate(std::string& out, const ParsedCertificate& certificate);

/// Reads the object.
core::Result<ParsedCertificate> read_certificate(JsonReader& json);

/// Reads a time of a plan: 0, or kMinTime to kMaxPlanTime seconds.
core::Result<core::Seconds> read_plan_time(JsonReader& json);

/// Reads a digest of 64 lower-case hexadecimal digits.
core::Result<std::string> read_digest(JsonReader& json);

/// Reads a string that must be `wanted`.
core::Status read_format(JsonReader& json, std::string_view wanted);

}  // namespace perseus::format
