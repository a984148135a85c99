// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/telemetry_server.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>

#include "perseus/server/http_server.h"
#include "perseus/server/telemetry_pages.h"

namespace perseus::server {
namespace {

namespace asio = boost::asio;
using core::ErrorCode;
using core::Seconds;
using SteadyClock = std::chrono::steady_clock;

/// A node has a scraper or two, each with a connection that it keeps, and now and then a person (assumed).
HttpLimits limits() {
  return {.connections = 64,
          .header_bytes = 8 * 1024,
          .idle = Seconds(120),  // more than the longest scrape interval in common use, 60 s
          .header = Seconds(5),
          .body = Seconds(5),
          .write = Seconds(10),
          .handshake = Seconds(5),
          .requests_per_second = 50,
          .burst = 100};
}

core::Status check_exposure(const TelemetryOptions& options, const Endpoint& endpoint) {
  if (endpoint.loopback || options.beyond_loopback) return {};
  return core::fail(
      ErrorCode::kUsage,
      fmt::format("{} can be reached from the network: that needs --beyond-loopback, which says that whoever "
                  "connects may read this node's GPUs (UUIDs, clocks, power, energy, temperature, states), "
                  "without encryption; nothing can be changed",
                  endpoint.text()),
      {"--listen"});
}

class RealTelemetryServer final : public TelemetryServer {
 public:
  RealTelemetryServer(const TelemetryOptions& options, std::function<void(std::string_view)> log_line)
      : log_(std::move(log_line)),
        pages_(
            {.folder = options.folder, .max_age = options.max_age}, [this] { return now(); },
            [] { return std::chrono::system_clock::now(); }),
        http_(io_, pages_, log_, std::nullopt, limits()) {}

  RealTelemetryServer(const RealTelemetryServer&) = delete;
  RealTelemetryServer& operator=(const RealTelemetryServer&) = delete;
  // Sessions refer to the pages; none may outlive them.
  ~RealTelemetryServer() override { io_.stop(); }

  core::Status open(const TelemetryOptions& options, Endpoint endpoint) {
    PERSEUS_ASSIGN_OR_RETURN(endpoint.port, http_.listen(endpoint, false, false));
    log_.write(Level::kInfo, "telemetry.listening",
               {{"address", endpoint.text()}, {"folder", options.folder}});
    if (!endpoint.loopback) {
      log_.write(Level::kWarning, "telemetry.beyond_loopback",
                 {{"reason", "whoever can connect may read this node's GPUs"}});
    }
    http_.set_ready(true);
    return {};
  }

  void run() override {
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) io_.stop();
    });
    io_.run();
    log_.write(Level::kInfo, "telemetry.stopped");
  }

 private:
  [[nodiscard]] Moment now() const {
    return Seconds(std::chrono::duration<double>(SteadyClock::now() - begun_).count());
  }

  const SteadyClock::time_point begun_ = SteadyClock::now();
  Log log_;
  asio::io_context io_{1};
  asio::signal_set signals_{io_, SIGTERM, SIGINT};
  TelemetryPages pages_;
  HttpServer http_;
};

}  // namespace

core::Result<std::unique_ptr<TelemetryServer>> TelemetryServer::start(
    const TelemetryOptions& options, std::function<void(std::string_view)> log_line) {
  try {
    PERSEUS_ASSIGN_OR_RETURN(const Endpoint endpoint, parse_endpoint(options.listen, "--listen"));
    PERSEUS_RETURN_IF_ERROR(check_exposure(options, endpoint));
    auto server = std::make_unique<RealTelemetryServer>(options, std::move(log_line));
    PERSEUS_RETURN_IF_ERROR(server->open(options, endpoint));
    return server;
  } catch (const std::exception& error) {
    return core::fail(ErrorCode::kInternal, fmt::format("the exporter could not start: {}", error.what()));
  }
}

}  // namespace perseus::server
