// SPDX-License-Identifier: Apache-2.0
//
// Sockets: HTTP/1.1 with and without TLS, limits and deadlines, and who a request comes from. What requests
// mean is the business of an HttpHandler. The HTTP library stays behind this header.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/server/http_handler.h"
#include "perseus/server/log.h"
#include "perseus/server/tokens.h"

namespace perseus::server {

/// Bounds of connections (all assumed unless a reason is given).
struct HttpLimits {
  std::size_t connections = 12'000;        ///< 10,000 ranks and room for operators
  std::uint32_t header_bytes = 16 * 1024;  ///< a request's line and headers
  core::Seconds idle{120};                 ///< of a connection without a request
  core::Seconds header{10};                ///< from the first byte of a request to the end of its headers
  core::Seconds body{60};                  ///< for the body
  core::Seconds write{30};                 ///< for an answer
  core::Seconds handshake{10};             ///< of TLS
  double requests_per_second = 20'000;     ///< of one address, on average
  double burst = 40'000;                   ///< of one address, at once: a storm of 10,000 ranks on one node
  double refused_per_second = 10;          ///< wrong tokens of one address
  double refused_burst = 100;
};

/// An address to listen on.
struct Endpoint {
  std::string address;
  std::uint16_t port = 0;
  bool loopback = false;
  [[nodiscard]] std::string text() const;
};

/// "127.0.0.1:7787", "[::1]:7787"; kUsage for anything else. Names are not resolved.
[[nodiscard]] core::Result<Endpoint> parse_endpoint(const std::string& text, const std::string& flag);

struct TlsFiles {
  std::string certificate;  ///< PEM, with its chain
  std::string key;          ///< PEM; others may not read it
};

class HttpServer {
 public:
  /// `tokens` absent: whoever reaches it may do everything.
  HttpServer(boost::asio::io_context& io, HttpHandler& handler, Log& log, std::optional<TokenTable> tokens,
             const HttpLimits& limits);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  /// Loads certificate and key; later listen() calls with `tls` use them. kNotFound, kPermission,
  /// kInvalidInput.
  core::Status use_tls(const TlsFiles& files);
  /// Binds and accepts. Port 0: any; the bound port is answered. kBusy: somebody else has it. kPermission,
  /// kIo. `zeus_only`: only Zeus's routes and /healthz.
  core::Result<std::uint16_t> listen(const Endpoint& endpoint, bool tls, bool zeus_only);
  /// No further connections and no further requests on those that are there.
  void stop_accepting();

  [[nodiscard]] std::size_t connections() const;
  /// Requests that are being answered.
  [[nodiscard]] std::size_t busy() const;
  /// Whether /readyz says so; set by the process.
  void set_ready(bool ready);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace perseus::server
