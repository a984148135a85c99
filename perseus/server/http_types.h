// SPDX-License-Identifier: Apache-2.0
//
// A request and its answer as the server's logic sees them: no sockets, no HTTP library.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::server {

/// Path and query of a request, taken apart and percent-decoded. '+' is itself: Zeus puts it into job ids.
struct Target {
  std::vector<std::string> path;                           ///< segments; "/" has none
  std::vector<std::pair<std::string, std::string>> query;  ///< in order, no name twice

  /// The value of a query parameter, or nothing.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
};

/// Longest request target in bytes: the longest path has 2 names of 128 bytes, all escaped, and a short
/// query.
inline constexpr std::size_t kMaxTargetBytes = 2048;

/// Reads a request target in origin form. Refused (kInvalidInput, kLimit): one that does not begin with '/',
/// an empty segment (but for one '/' at the end), "." and "..", a broken escape, a byte outside printable
/// ASCII, text that is not UTF-8 once decoded or holds a control character, a query parameter that comes
/// twice.
[[nodiscard]] core::Result<Target> parse_target(std::string_view target);

/// Whether the host of a Host header is this machine's loopback, by name or number, with any port.
[[nodiscard]] bool is_loopback_host(std::string_view host);

struct HttpRequest {
  std::string method;
  Target target;
  std::string content_type;
  std::string body;
};

struct HttpResponse {
  unsigned status = 200;
  std::string_view content_type = "application/json";
  /// Shared, since one plan goes to many ranks. Null: no body.
  std::shared_ptr<const std::string> body;
  std::optional<unsigned> retry_after_s;
  std::string_view allow = {};  ///< of a 405: what the path takes, "GET, PUT"; a literal
};

/// To be called once, on the thread of the service.
using Reply = std::function<void(HttpResponse)>;

[[nodiscard]] HttpResponse json_response(std::string body, unsigned status = 200);
/// The status that stands for an error, and a body {"error":{"code","message"}}.
[[nodiscard]] HttpResponse error_response(const core::Error& error);
/// The same with a status of its own.
[[nodiscard]] HttpResponse error_response(unsigned status, std::string_view code, std::string_view message);
/// 405: the path takes these methods only, "GET, PUT"; a literal.
[[nodiscard]] HttpResponse method_not_allowed(std::string_view allowed);
/// HTTP status of an error code.
[[nodiscard]] unsigned http_status(core::ErrorCode code);

}  // namespace perseus::server
