// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/server.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <system_error>

#include "perseus/server/http_server.h"
#include "perseus/server/service.h"
#include "perseus/server/workers.h"

namespace perseus::server {
namespace {

namespace asio = boost::asio;
using core::ErrorCode;
using core::fail;
using core::Seconds;
using SteadyClock = std::chrono::steady_clock;

/// How long requests under way may take once the server is told to stop.
constexpr std::chrono::seconds kLastRequests{3};

/// TLS and tokens, or loopback, or a flag that says otherwise.
core::Status check_exposure(const ServerOptions& options, const Endpoint& endpoint) {
  if (options.tls_cert.has_value() != options.tls_key.has_value()) {
    return fail(ErrorCode::kUsage, "--tls-cert and --tls-key go together");
  }
  if (endpoint.loopback || options.insecure_plain || (options.tls_cert && options.token_file)) return {};
  return fail(
      ErrorCode::kUsage,
      fmt::format("{} can be reached from the network: that needs --tls-cert, --tls-key and --token-file, or "
                  "--insecure-plain, which says that both TLS and tokens may be missing",
                  endpoint.text()),
      {"--listen"});
}

core::Status make_state_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail(ErrorCode::kIo, fmt::format("could not be made: {}", std::generic_category().message(errno)),
              {path});
}

/// Ten thousand ranks need as many descriptors: take what the system allows.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

JobSettings settings_of(const ServerOptions& options) {
  JobSettings out;
  out.rank_ttl = options.rank_ttl.value_or(out.rank_ttl);
  out.plan_ttl = options.plan_ttl.value_or(out.plan_ttl);
  out.min_hold = options.min_hold.value_or(out.min_hold);
  out.reprofile_interval = options.reprofile_interval.value_or(out.reprofile_interval);
  out.hysteresis = options.hysteresis.value_or(out.hysteresis);
  return out;
}

/// Members are destroyed in reverse order: the store's thread writes what is queued last.
class RealServer final : public Server {
 public:
  RealServer(const ServerOptions& options, std::optional<TokenTable> tokens,
             std::function<void(std::string_view)> log_line)
      : log_(std::move(log_line)),
        service_(outside(), settings_of(options)),
        http_(io_, service_, log_, std::move(tokens), http_limits(options)) {}

  RealServer(const RealServer&) = delete;
  RealServer& operator=(const RealServer&) = delete;
  ~RealServer() override {
    // Sessions refer to the service; none may outlive it.
    io_.stop();
  }

  core::Status open(const ServerOptions& options, const Endpoint& endpoint,
                    const std::optional<Endpoint>& zeus) {
    if (options.tls_cert) PERSEUS_RETURN_IF_ERROR(http_.use_tls({*options.tls_cert, *options.tls_key}));
    PERSEUS_RETURN_IF_ERROR(make_state_folder(options.state));
    PERSEUS_ASSIGN_OR_RETURN(OpenedStore opened, open_sqlite_store(options.state + "/server.db"));
    PERSEUS_ASSIGN_OR_RETURN(const Snapshot snapshot, opened.store->load());
    std::vector<std::string> findings = std::move(opened.findings);
    for (std::string& finding : opened.store->take_findings()) findings.push_back(std::move(finding));
    store_ = std::make_unique<StoreThread>(std::move(opened.store), post());
    for (std::string& finding : service_.restore(snapshot)) findings.push_back(std::move(finding));
    for (const std::string& finding : findings)
      log_.write(Level::kError, "store.finding", {{"reason", finding}});
    service_.findings = std::move(findings);
    service_.connections = [this] { return http_.connections(); };
    PERSEUS_ASSIGN_OR_RETURN(port_, http_.listen(endpoint, options.tls_cert.has_value(), false));
    Endpoint bound = endpoint;
    bound.port = port_;
    log_.write(Level::kInfo, "server.listening",
               {{"address", bound.text()},
                {"tls", options.tls_cert ? "yes" : "no"},
                {"tokens", options.token_file ? "yes" : "no"}});
    if (!options.token_file) {
      log_.write(Level::kWarning, "server.no_tokens", {{"reason", "whoever can connect may do everything"}});
    }
    if (zeus) {
      PERSEUS_ASSIGN_OR_RETURN(const std::uint16_t zeus_port, http_.listen(*zeus, false, true));
      log_.write(Level::kWarning, "server.zeus_plain",
                 {{"address", zeus->address}, {"port", std::to_string(zeus_port)}});
    }
    http_.set_ready(true);
    return {};
  }

  void run() override {
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) begin_stop();
    });
    while (!run_once()) {
    }
    log_.write(Level::kInfo, "server.stopped");
  }

  void stop() override {
    asio::post(io_, [this] { begin_stop(); });
  }

  [[nodiscard]] std::uint16_t port() const override { return port_; }

 private:
  Post post() {
    return [this](std::function<void()> function) { asio::post(io_, std::move(function)); };
  }

  /// Runs until it is stopped; false if something threw (memory has run out), which ends that thing alone.
  bool run_once() {
    try {
      io_.run();
      return true;
    } catch (const std::exception& error) {
      log_.write(Level::kError, "server.exception", {{"reason", error.what()}});
      return false;
    }
  }

  [[nodiscard]] static HttpLimits http_limits(const ServerOptions& options) {
    HttpLimits out;
    out.connections = options.max_connections.value_or(out.connections);
    return out;
  }

  Outside outside() {
    return {.store =
                [this](std::vector<Change> changes, std::function<void(core::Status)> done) {
                  store_->write(std::move(changes),
                                [this, done = std::move(done)](const core::Status& stored) {
                                  http_.set_ready(stored.has_value());
                                  done(stored);
                                });
                },
            .run = [this](std::function<void()> work,
                          std::function<void()> done) { quick_.run(std::move(work), std::move(done)); },
            .run_long = [this](std::function<void()> work,
                               std::function<void()> done) { slow_.run(std::move(work), std::move(done)); },
            .now = [this] { return now(); },
            .wall_ms =
                [] {
                  return std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                      .count();
                },
            .wake = [this](Moment at) { wake_at(at); },
            .log = &log_};
  }

  [[nodiscard]] Moment now() const {
    return Seconds(std::chrono::duration<double>(SteadyClock::now() - begun_).count());
  }

  void wake_at(Moment at) {
    if (wake_ && *wake_ <= at) return;
    wake_ = at;
    timer_.expires_at(
        begun_ +
        std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(at.value())) +
        std::chrono::microseconds(1));  // never a moment too early by rounding
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      wake_.reset();
      service_.tick();
    });
  }

  void begin_stop() {
    if (std::exchange(stopping_, true)) return;
    log_.write(Level::kInfo, "server.stopping");
    http_.set_ready(false);
    http_.stop_accepting();
    service_.wind_up();
    wait_for_requests(SteadyClock::now() + kLastRequests);
  }

  void wait_for_requests(SteadyClock::time_point deadline) {
    if (http_.busy() == 0 || SteadyClock::now() >= deadline) return io_.stop();
    last_.expires_after(std::chrono::milliseconds(20));
    last_.async_wait([this, deadline](const boost::system::error_code&) { wait_for_requests(deadline); });
  }

  const SteadyClock::time_point begun_ = SteadyClock::now();
  Log log_;
  asio::io_context io_{1};
  asio::signal_set signals_{io_, SIGTERM, SIGINT};
  asio::steady_timer timer_{io_};
  asio::steady_timer last_{io_};
  std::optional<Moment> wake_;
  bool stopping_ = false;
  std::uint16_t port_ = 0;
  Service service_;
  HttpServer http_;
  std::unique_ptr<StoreThread> store_;
  Worker quick_{post()};
  Worker slow_{post()};
};

}  // namespace

core::Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options,
                                                    std::function<void(std::string_view)> log_line) {
  try {
    PERSEUS_ASSIGN_OR_RETURN(const Endpoint endpoint, parse_endpoint(options.listen, "--listen"));
    PERSEUS_RETURN_IF_ERROR(check_exposure(options, endpoint));
    std::optional<Endpoint> zeus;
    if (options.zeus_plain) {
      PERSEUS_ASSIGN_OR_RETURN(zeus, parse_endpoint(*options.zeus_plain, "--zeus-plain"));
    }
    std::optional<TokenTable> tokens;
    if (options.token_file) {
      PERSEUS_ASSIGN_OR_RETURN(tokens, TokenTable::read(*options.token_file));
    }
    raise_descriptor_limit();
    auto server = std::make_unique<RealServer>(options, std::move(tokens), std::move(log_line));
    PERSEUS_RETURN_IF_ERROR(server->open(options, endpoint, zeus));
    return server;
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInternal, fmt::format("the server could not start: {}", error.what()));
  }
}

}  // namespace perseus::server
