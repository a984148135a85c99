// SPDX-License-Identifier: Apache-2.0
//
// The whole server as one object: what `perseus serve` runs.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto server, Server::start(options, log));
//   server->run();   // until SIGTERM, SIGINT or stop()
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::server {

/// What the command line says. Paths are used as they are given.
struct ServerOptions {
  std::string listen = "127.0.0.1:7787";  ///< ADDRESS:PORT; port 0: any
  std::optional<std::string>
      zeus_plain;  ///< a second ADDRESS:PORT that answers Zeus's routes only, without TLS
  std::string state = "perseus-state";  ///< folder of the store; made with mode 0700 if absent
  std::optional<std::string> tls_cert, tls_key;
  std::optional<std::string> token_file;
  bool insecure_plain = false;  ///< beyond loopback although TLS or tokens are missing
  std::optional<core::Seconds> rank_ttl, plan_ttl, min_hold, reprofile_interval;
  std::optional<double> hysteresis;
  std::optional<std::size_t> max_connections;
};

class Server {
 public:
  /// Opens the store, takes over what it holds, and listens. `log_line` gets whole lines of JSON from several
  /// threads, one at a time. Errors: kUsage for options that do not go together (an address beyond loopback
  /// without TLS and tokens, say), and those of store, tokens, TLS and sockets.
  static core::Result<std::unique_ptr<Server>> start(const ServerOptions& options,
                                                     std::function<void(std::string_view)> log_line);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  virtual ~Server() = default;

  /// Serves until SIGTERM, SIGINT or stop(); then answers what waits, writes what is queued, and returns.
  /// Once.
  virtual void run() = 0;
  /// Ends run(); callable from any thread.
  virtual void stop() = 0;
  /// The port that is listened on.
  [[nodiscard]] virtual std::uint16_t port() const = 0;

 protected:
  Server() = default;
};

}  // namespace perseus::server
