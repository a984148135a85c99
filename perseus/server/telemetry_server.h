// SPDX-License-Identifier: Apache-2.0
//
// An unprivileged exporter of the node agent's telemetry: what `perseus telemetry` runs.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto server, TelemetryServer::start(options, log));
//   server->run();   // until SIGTERM or SIGINT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::server {

struct TelemetryOptions {
  std::string listen = "127.0.0.1:9787";  ///< ADDRESS:PORT; port 0: any
  std::string folder = "/run/perseus";    ///< where the agent publishes: the folder of its socket
  core::Seconds max_age{15};              ///< older files are answered with 503
  bool beyond_loopback = false;           ///< whether `listen` may be reached from the network
};

class TelemetryServer {
 public:
  /// Listens. `log_line` gets whole lines of JSON, one at a time. kUsage: an address beyond loopback without
  /// the option that says so; the errors of parse_endpoint() and HttpServer::listen().
  static core::Result<std::unique_ptr<TelemetryServer>> start(const TelemetryOptions& options,
                                                              std::function<void(std::string_view)> log_line);
  TelemetryServer(const TelemetryServer&) = delete;
  TelemetryServer& operator=(const TelemetryServer&) = delete;
  virtual ~TelemetryServer() = default;

  /// Serves until SIGTERM or SIGINT. Once.
  virtual void run() = 0;

 protected:
  TelemetryServer() = default;
};

}  // namespace perseus::server
