// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/result.h"

#include <fmt/format.h>

#include <array>

namespace perseus::core {
namespace {

constexpr std::array kTable = {
    ErrorInfo{ErrorCode::kUsage, "usage", 2, "The command line itself is wrong."},
    ErrorInfo{ErrorCode::kInvalidInput, "invalid_input", 1, "A file or a value breaks its contract."},
    ErrorInfo{ErrorCode::kInfeasible, "infeasible", 1, "The input is sound but asks for the impossible."},
    ErrorInfo{ErrorCode::kLimit, "limit", 1, "A size limit is exceeded."},
    ErrorInfo{ErrorCode::kClaimFalse, "claim_false", 1, "A plan claims something untrue."},
    ErrorInfo{ErrorCode::kOverflow, "overflow", 1, "Exact arithmetic would leave its range."},
    ErrorInfo{ErrorCode::kUnsupported, "unsupported", 1, "Sound, but this version does not do it."},
    ErrorInfo{ErrorCode::kNotFound, "not_found", 3, "A file or a device is absent."},
    ErrorInfo{ErrorCode::kIo, "io", 3, "The operating system refused to read or write."},
    ErrorInfo{ErrorCode::kPermission, "permission", 3, "The caller has no right to it."},
    ErrorInfo{ErrorCode::kBusy, "busy", 3, "Somebody else holds it."},
    ErrorInfo{ErrorCode::kDeviceLost, "device_lost", 3, "A GPU fell off the bus."},
    ErrorInfo{ErrorCode::kDriver, "driver", 3, "A GPU driver failed in a way that may pass."},
    ErrorInfo{ErrorCode::kTimeout, "timeout", 3, "No answer within the deadline."},
    ErrorInfo{ErrorCode::kInternal, "internal", 3, "A broken invariant of Perseus: please report it."},
};

std::string with_origin(const std::string& message, const Origin& origin) {
  std::string where = origin.source;
  if (origin.line != 0) where += fmt::format("{}{}", where.empty() ? "line " : ":", origin.line);
  if (origin.line != 0 && origin.column != 0) where += fmt::format(":{}", origin.column);
  return where.empty() ? message : where + ": " + message;
}

}  // namespace

std::span<const ErrorInfo> error_table() {
  return kTable;
}

const ErrorInfo& info(ErrorCode code) {
  return kTable.at(static_cast<std::size_t>(code));
}

std::string Error::text() const {
  return with_origin(message_, origin_);
}

std::string Warning::text() const {
  return with_origin(message, origin);
}

}  // namespace perseus::core
