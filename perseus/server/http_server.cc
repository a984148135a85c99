// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/http_server.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

#include "perseus/format/numbers.h"
#include "perseus/server/rate_limit.h"

namespace perseus::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;
using core::ErrorCode;
using core::fail;
using core::Seconds;

using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

std::chrono::nanoseconds duration(Seconds s) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(s.value() * 1e9));
}

beast::tcp_stream& tcp_of(PlainStream& stream) {
  return stream;
}
beast::tcp_stream& tcp_of(TlsStream& stream) {
  return stream.next_layer();
}

/// Who is at the other end and by which door it came.
struct Peer {
  std::string address;
  bool loopback = false;
  bool zeus_only = false;
  bool tls = false;
};

}  // namespace

struct HttpServer::Shared {
  asio::io_context& io;
  HttpHandler& handler;
  Log& log;
  std::optional<TokenTable> tokens;
  HttpLimits limits;
  RateLimit requests;
  RateLimit refusals;
  RateLimit complaints{10, 50};  ///< log lines about refused requests; one bucket
  ssl::context tls{ssl::context::tls_server};
  std::vector<std::shared_ptr<tcp::acceptor>> acceptors;
  std::size_t connections = 0;
  std::size_t busy = 0;
  bool ready = false;
  bool stopping = false;
  bool beyond_loopback = false;

  void complain(std::string_view event, const Peer& peer, std::string_view why) {
    if (complaints.take("", handler.now())) {
      log.write(Level::kWarning, event, {{"peer", peer.address}, {"reason", why}});
    }
  }
};

namespace {

/// Counts a thing as long as it lives.
class Counted {
 public:
  explicit Counted(std::size_t& count) : count_(count) { ++count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count_; }

 private:
  std::size_t& count_;
};

/// What is known of a request before its body is read.
struct Head {
  HttpRequest request;
  std::optional<Principal> principal;
  bool zeus = false;
  std::optional<HttpResponse> answer;  ///< there is nothing more to do
  bool close = false;
};

template <class State>
void answer_health(State& shared, Head& head) {
  if (head.request.method != "GET" && head.request.method != "HEAD") {
    head.answer = method_not_allowed("GET, HEAD");
    return;
  }
  const bool healthy = head.request.target.path[0] == "healthz" || shared.ready;
  head.answer =
      json_response(healthy ? R"({"status":"ok"})" : R"({"status":"not ready"})", healthy ? 200 : 503);
}

/// Finds out whom the request comes from, or answers it with a refusal.
template <class State>
void authenticate(State& shared, const Peer& peer, std::string_view authorization, std::string_view host,
                  Head& head) {
  if (!shared.tokens) {
    // Without tokens the loopback address is the fence; a page in a browser must not get over it by a name of
    // its own for that address.
    if (!shared.beyond_loopback && !is_loopback_host(host)) {
      shared.complain("request.refused", peer, "Host is not this machine's loopback");
      head.answer = error_response(403, "permission", "Host is not this machine's loopback");
      return;
    }
    head.principal = Principal{Role::kAdmin, ""};
    return;
  }
  const auto token = bearer_token(authorization);
  if (token) head.principal = shared.tokens->find(*token);
  if (head.principal) return;
  head.close = true;
  if (!shared.refusals.take(peer.address, shared.handler.now())) {
    head.answer = error_response(429, "busy", "too many wrong tokens from this address");
    head.answer->retry_after_s = 1;
    return;
  }
  shared.complain("request.refused", peer, authorization.empty() ? "no token" : "wrong token");
  head.answer = error_response(401, "permission", "a bearer token that this server knows is needed");
}

template <class State>
Head read_head(State& shared, const Peer& peer, const http::request<http::string_body>& message) {
  Head head;
  head.request.method = std::string(message.method_string());
  if (!shared.requests.take(peer.address, shared.handler.now())) {
    head.answer = error_response(429, "busy", "too many requests from this address");
    head.answer->retry_after_s = 1;
    head.close = true;
    return head;
  }
  auto target = parse_target(message.target());
  if (!target) {
    head.answer = error_response(target.error());
    head.close = true;
    return head;
  }
  head.request.target = *std::move(target);
  head.request.content_type = std::string(message[http::field::content_type]);
  const auto& path = head.request.target.path;
  if (path.size() == 1 && (path[0] == "healthz" || path[0] == "readyz")) {
    answer_health(shared, head);
    return head;
  }
  head.zeus = shared.handler.is_zeus(head.request.target);
  if (peer.zeus_only || head.zeus) {
    const bool open = head.zeus && (peer.zeus_only || peer.loopback);
    if (!open) head.answer = error_response(404, "not_found", "there is nothing at this path");
    return head;
  }
  authenticate(shared, peer, message[http::field::authorization], message[http::field::host], head);
  return head;
}

/// What a request is waiting with, until it has been answered.
template <class Completion>
struct Waiting {
  Completion completion;
  bool answered = false;
};

/// Hands a request to the handler and waits for its answer. A handler that throws (memory has run out)
/// answers 500, if it has not answered yet.
template <class State>
asio::awaitable<HttpResponse> ask(State& shared, Head head) {
  const auto start = [&shared, &head](auto completion) {
    using Pending = Waiting<decltype(completion)>;
    const auto pending = std::make_shared<Pending>(Pending{std::move(completion)});
    const Reply reply = [pending](HttpResponse answer) {
      if (std::exchange(pending->answered, true)) return;
      const auto executor = asio::get_associated_executor(pending->completion);
      asio::post(executor, [pending, answer = std::move(answer)]() mutable {
        std::move(pending->completion)(std::move(answer));
      });
    };
    try {
      if (head.zeus) {
        shared.handler.handle_zeus(std::move(head.request), reply);
      } else {
        shared.handler.handle(*head.principal, std::move(head.request), reply);
      }
    } catch (const std::exception& error) {
      shared.log.write(Level::kError, "request.failed", {{"reason", error.what()}});
      reply(error_response(500, "internal", "the server failed while it handled this request"));
    }
  };
  co_return co_await asio::async_initiate<decltype(asio::use_awaitable), void(HttpResponse)>(
      start, asio::use_awaitable);
}

/// How an answer goes back.
struct Manner {
  bool keep_alive = false;
  unsigned version = 11;
  bool without_body = false;  ///< the request was HEAD: headers as if there were one
};

/// Sends an answer; false if the connection is to be closed.
template <class Stream>
asio::awaitable<bool> send(Stream& stream, const HttpResponse& answer, Manner manner, Seconds limit) {
  http::response<http::span_body<const char>> message{static_cast<http::status>(answer.status),
                                                      manner.version};
  if (answer.body) {
    message.set(http::field::content_type, answer.content_type);
    if (!manner.without_body) message.body() = {answer.body->data(), answer.body->size()};
  }
  if (!answer.allow.empty()) message.set(http::field::allow, answer.allow);
  if (answer.retry_after_s) message.set(http::field::retry_after, std::to_string(*answer.retry_after_s));
  if (answer.status == 401) message.set(http::field::www_authenticate, "Bearer");
  message.set(http::field::cache_control, "no-store");
  message.keep_alive(manner.keep_alive);
  if (answer.status != 204) message.content_length(answer.body ? answer.body->size() : 0);
  tcp_of(stream).expires_after(duration(limit));
  error_code error;
  co_await http::async_write(stream, message, asio::redirect_error(asio::use_awaitable, error));
  co_return !error && manner.keep_alive;
}

/// What a request that could not be read is answered with; nothing for a connection that just ended.
std::optional<HttpResponse> answer_to(const error_code& error) {
  if (error == http::error::end_of_stream || error == asio::error::eof ||
      error == asio::error::connection_reset || error == asio::error::operation_aborted ||
      error == beast::error::timeout || error == http::error::partial_message) {
    return std::nullopt;
  }
  if (error == http::error::header_limit) return error_response(431, "limit", "the headers are too long");
  if (error == http::error::body_limit)
    return error_response(413, "limit", "the body is longer than this path takes");
  if (error.category() == make_error_code(http::error::bad_line_ending).category()) {
    return error_response(400, "invalid_input", "this is not HTTP/1.1: " + error.message());
  }
  return std::nullopt;
}

/// Reads until the first byte of a request is there; an idle connection waits here with a small buffer only.
template <class Stream>
asio::awaitable<bool> first_byte(Stream& stream, beast::flat_buffer& buffer, Seconds limit) {
  if (buffer.size() != 0) co_return true;
  tcp_of(stream).expires_after(duration(limit));
  error_code error;
  constexpr std::size_t kChunk = 1024;
  const std::size_t got = co_await stream.async_read_some(buffer.prepare(kChunk),
                                                          asio::redirect_error(asio::use_awaitable, error));
  buffer.commit(got);
  co_return !error && got != 0;
}

/// One request and its answer; false if the connection is over.
template <class Stream, class State>
asio::awaitable<bool> exchange(Stream& stream, beast::flat_buffer& buffer, const Peer& peer, State& shared) {
  auto parser = std::make_unique<http::request_parser<http::string_body>>();
  parser->header_limit(shared.limits.header_bytes);
  error_code error;
  tcp_of(stream).expires_after(duration(shared.limits.header));
  // Until the path is known the largest limit counts; its own one is set before the body is read.
  parser->body_limit(shared.handler.body_limit_most());
  co_await http::async_read_header(stream, buffer, *parser, asio::redirect_error(asio::use_awaitable, error));
  const Counted busy(shared.busy);
  if (error) {
    if (const auto answer = answer_to(error)) co_await send(stream, *answer, {}, shared.limits.write);
    co_return false;
  }
  Head head = read_head(shared, peer, parser->get());
  Manner manner{.keep_alive = parser->get().keep_alive() && !head.close && !shared.stopping,
                .version = parser->get().version(),
                .without_body = parser->get().method() == http::verb::head};
  const std::size_t limit = head.answer ? 0 : shared.handler.body_limit(head.request.target);
  const auto announced = parser->content_length();
  const bool has_body = parser->chunked() || (announced && *announced != 0);
  if (!head.answer && announced && *announced > limit) {
    head.answer = error_response(413, "limit",
                                 fmt::format("a body of {} bytes; this path takes {}", *announced, limit));
  }
  if (head.answer) {
    // The body of a refused request is not read: the connection ends with the answer.
    manner.keep_alive = manner.keep_alive && !has_body;
    co_return co_await send(stream, *head.answer, manner, shared.limits.write);
  }
  if (has_body) {
    parser->body_limit(limit);
    tcp_of(stream).expires_after(duration(shared.limits.body));
    if (beast::iequals(parser->get()[http::field::expect], "100-continue")) {
      http::response<http::empty_body> go_on{http::status::continue_, manner.version};
      co_await http::async_write(stream, go_on, asio::redirect_error(asio::use_awaitable, error));
    }
    if (!error)
      co_await http::async_read(stream, buffer, *parser, asio::redirect_error(asio::use_awaitable, error));
    if (error) {
      manner.keep_alive = false;
      if (const auto answer = answer_to(error)) co_await send(stream, *answer, manner, shared.limits.write);
      co_return false;
    }
    head.request.body = std::move(parser->get().body());
  }
  parser.reset();
  if (buffer.size() == 0) buffer.shrink_to_fit();
  tcp_of(stream).expires_never();
  const HttpResponse answer = co_await ask(shared, std::move(head));
  co_return co_await send(stream, answer, manner, shared.limits.write);
}

template <class Stream, class State>
asio::awaitable<void> converse(Stream& stream, const Peer& peer, State& shared) {
  beast::flat_buffer buffer;
  while (!shared.stopping) {
    if (!co_await first_byte(stream, buffer, shared.limits.idle)) co_return;
    if (!co_await exchange(stream, buffer, peer, shared)) co_return;
  }
}

template <class StatePtr>
asio::awaitable<void> serve_plain(PlainStream stream, Peer peer, StatePtr shared) {
  const Counted counted(shared->connections);
  co_await converse(stream, peer, *shared);
  error_code ignored;
  (void)stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}

template <class StatePtr>
asio::awaitable<void> serve_tls(PlainStream plain, Peer peer, StatePtr shared) {
  const Counted counted(shared->connections);
  TlsStream stream(std::move(plain), shared->tls);
  error_code error;
  tcp_of(stream).expires_after(duration(shared->limits.handshake));
  co_await stream.async_handshake(ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    shared->complain("tls.refused", peer, error.message());
    co_return;
  }
  co_await converse(stream, peer, *shared);
  tcp_of(stream).expires_after(duration(shared->limits.handshake));
  co_await stream.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
}

template <class StatePtr>
asio::awaitable<void> accept_all(std::shared_ptr<tcp::acceptor> acceptor, bool tls, bool zeus_only,
                                 StatePtr shared) {
  asio::steady_timer pause(shared->io);
  while (acceptor->is_open()) {
    error_code error;
    tcp::socket socket = co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      // Out of descriptors, or a connection that ended while it waited: go on, but not in a tight loop.
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    const auto remote = socket.remote_endpoint(error);
    if (error) continue;
    Peer peer{remote.address().to_string(), remote.address().is_loopback(), zeus_only, tls};
    if (shared->connections >= shared->limits.connections) {
      shared->complain("connection.refused", peer, "too many connections");
      continue;  // closes it
    }
    (void)socket.set_option(tcp::no_delay(true), error);
    PlainStream stream(std::move(socket));
    if (tls) {
      asio::co_spawn(shared->io, serve_tls(std::move(stream), std::move(peer), shared), asio::detached);
    } else {
      asio::co_spawn(shared->io, serve_plain(std::move(stream), std::move(peer), shared), asio::detached);
    }
  }
}

core::Status check_key_file(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return fail(ErrorCode::kNotFound, "there is no such file", {path});
  if ((status.st_mode & 007U) == 0) return {};
  return fail(ErrorCode::kPermission,
              fmt::format("has mode {:04o}; a private key must be closed to others", status.st_mode & 07777U),
              {path});
}

}  // namespace

std::string Endpoint::text() const {
  return fmt::format(fmt::runtime(address.find(':') == std::string::npos ? "{}:{}" : "[{}]:{}"), address,
                     port);
}

core::Result<Endpoint> parse_endpoint(const std::string& text, const std::string& flag) {
  const std::size_t colon = text.rfind(':');
  const std::string port_text = colon == std::string::npos ? "" : text.substr(colon + 1);
  std::string address = text.substr(0, colon == std::string::npos ? text.size() : colon);
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  const auto port = format::parse_integer<std::uint16_t>(port_text);
  error_code error;
  const auto parsed = asio::ip::make_address(address, error);
  if (!port || error) {
    return fail(ErrorCode::kUsage,
                fmt::format("'{}' is not ADDRESS:PORT, e.g. 127.0.0.1:7787 or [::1]:7787", text), {flag});
  }
  return Endpoint{address, *port, parsed.is_loopback()};
}

HttpServer::HttpServer(asio::io_context& io, HttpHandler& handler, Log& log, std::optional<TokenTable> tokens,
                       const HttpLimits& limits)
    : shared_(new Shared{.io = io,
                         .handler = handler,
                         .log = log,
                         .tokens = std::move(tokens),
                         .limits = limits,
                         .requests = RateLimit(limits.requests_per_second, limits.burst),
                         .refusals = RateLimit(limits.refused_per_second, limits.refused_burst)}) {}

HttpServer::~HttpServer() = default;

core::Status HttpServer::use_tls(const TlsFiles& files) {
  PERSEUS_RETURN_IF_ERROR(check_key_file(files.key));
  error_code error;
  ssl::context& tls = shared_->tls;
  (void)tls.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                            ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | ssl::context::no_compression,
                        error);
  SSL_CTX_set_options(tls.native_handle(), SSL_OP_NO_RENEGOTIATION);
  // Idle connections give their 34 KB of record buffers back.
  SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);
  if (!error) (void)tls.use_certificate_chain_file(files.certificate, error);
  if (error)
    return fail(ErrorCode::kInvalidInput, "no certificate could be read: " + error.message(),
                {files.certificate});
  (void)tls.use_private_key_file(files.key, ssl::context::pem, error);
  if (error || SSL_CTX_check_private_key(tls.native_handle()) != 1) {
    return fail(ErrorCode::kInvalidInput, "no private key of that certificate could be read", {files.key});
  }
  return {};
}

core::Result<std::uint16_t> HttpServer::listen(const Endpoint& endpoint, bool tls, bool zeus_only) {
  const tcp::endpoint local(asio::ip::make_address(endpoint.address), endpoint.port);
  auto acceptor = std::make_shared<tcp::acceptor>(shared_->io);
  error_code error;
  (void)acceptor->open(local.protocol(), error);
  if (!error) (void)acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) (void)acceptor->bind(local, error);
  constexpr int kBacklog = 4096;  // a storm of reconnecting ranks; the kernel's somaxconn bounds it
  if (!error) (void)acceptor->listen(kBacklog, error);
  if (error) {
    const bool busy = error == asio::error::address_in_use;
    const bool denied = error == asio::error::access_denied;
    return fail(busy     ? ErrorCode::kBusy
                : denied ? ErrorCode::kPermission
                         : ErrorCode::kIo,
                fmt::format("cannot listen on {}: {}", endpoint.text(), error.message()));
  }
  if (!zeus_only && !endpoint.loopback) shared_->beyond_loopback = true;
  shared_->acceptors.push_back(acceptor);
  asio::co_spawn(shared_->io, accept_all(acceptor, tls, zeus_only, shared_), asio::detached);
  return acceptor->local_endpoint().port();
}

void HttpServer::stop_accepting() {
  shared_->stopping = true;
  for (const auto& acceptor : shared_->acceptors) {
    error_code ignored;
    (void)acceptor->close(ignored);
  }
}

std::size_t HttpServer::connections() const {
  return shared_->connections;
}
std::size_t HttpServer::busy() const {
  return shared_->busy;
}
void HttpServer::set_ready(bool ready) {
  shared_->ready = ready;
}

}  // namespace perseus::server
