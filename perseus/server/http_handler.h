// SPDX-License-Identifier: Apache-2.0
//
// What answers the requests that an HttpServer has read and checked: the logic behind it.
#pragma once

#include <cstddef>

#include "perseus/server/http_types.h"
#include "perseus/server/settings.h"
#include "perseus/server/tokens.h"

namespace perseus::server {

/// All functions are called on the thread of the HTTP server.
class HttpHandler {
 public:
  HttpHandler() = default;
  HttpHandler(const HttpHandler&) = delete;
  HttpHandler& operator=(const HttpHandler&) = delete;
  virtual ~HttpHandler() = default;

  /// Answers a request, at once or later. `principal` has been authenticated.
  virtual void handle(const Principal& principal, HttpRequest request, Reply reply) = 0;
  /// Largest body that a request may have: decided by the path before the body is read.
  [[nodiscard]] virtual std::size_t body_limit(const Target& target) const = 0;
  /// The largest of them.
  [[nodiscard]] virtual std::size_t body_limit_most() const = 0;
  /// Monotonic, for rates.
  [[nodiscard]] virtual Moment now() const = 0;

  /// Whether a path is one of Zeus's, whose clients know no tokens; none is, unless it says so.
  [[nodiscard]] virtual bool is_zeus(const Target& /*target*/) const { return false; }
  /// Answers those.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps both
  virtual void handle_zeus(HttpRequest /*request*/, Reply reply) {
    reply(error_response(404, "not_found", "there is nothing at this path"));
  }
};

}  // namespace perseus::server
