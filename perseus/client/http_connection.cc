// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/http_connection.h"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

#include "perseus/client/fork_guard.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/format/unique_fd.h"

namespace perseus::client {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;
using core::ErrorCode;
using core::fail;
using core::Status;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kMostHeaderBytes = 16'384;  ///< as the server takes (docs/server.md)
constexpr std::chrono::seconds kMostRetryAfter{3600};
/// Bytes that the buffer keeps between answers; a larger one is given back.
constexpr std::size_t kKeptBuffer = 16'384;

bool is_json(std::string_view content_type) {
  const std::string_view bare = content_type.substr(0, content_type.find(';'));
  return beast::iequals(bare, "application/json");
}

/// Whether the head and body are what this protocol has.
Status check_answer(unsigned status, std::string_view content_type) {
  if (status < 200 || (status >= 300 && status < 400)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the server answers {}, which is not followed", status));
  }
  if ((status == 200 || status == 201) && !is_json(content_type)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the answer is {}, not application/json", format::quoted(content_type)));
  }
  return {};
}

std::optional<std::chrono::seconds> retry_after(std::string_view header) {
  const auto seconds = format::parse_integer<std::uint32_t>(header);
  if (!seconds) return std::nullopt;
  return std::min(std::chrono::seconds(*seconds), kMostRetryAfter);
}

std::string host_text(const format::ServerUrl& url) {
  const bool bracketed = url.host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(bracketed ? "[{}]:{}" : "{}:{}"), url.host, url.port);
}

http::request<http::string_body> message_of(const HttpQuestion& question, const HttpPeer& peer) {
  http::request<http::string_body> message{http::string_to_verb(question.method), question.target, 11};
  message.set(http::field::host, host_text(peer.url));
  message.set(http::field::user_agent, "perseus-client");
  message.set(http::field::accept, "application/json");
  if (!peer.token.empty()) message.set(http::field::authorization, "Bearer " + peer.token);
  if (!question.body.empty()) message.set(http::field::content_type, "application/json");
  message.body() = question.body;
  message.prepare_payload();
  return message;
}

}  // namespace

std::string url_text(const format::ServerUrl& url) {
  return (url.tls ? "https://" : "http://") + host_text(url);
}

core::Result<std::unique_ptr<ssl::context>> make_client_tls(const std::string& ca_file) {
  auto tls = std::make_unique<ssl::context>(ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(tls->native_handle(), SSL_OP_NO_RENEGOTIATION);
  // Connections wait most of the time: their record buffers are given back.
  SSL_CTX_set_mode(tls->native_handle(), SSL_MODE_RELEASE_BUFFERS);
  tls->set_verify_mode(ssl::verify_peer);
  error_code error;
  if (ca_file.empty()) {
    static_cast<void>(tls->set_default_verify_paths(error));
  } else {
    static_cast<void>(tls->load_verify_file(ca_file, error));
  }
  if (error)
    return fail(ErrorCode::kInvalidInput, "no authorities could be read: " + error.message(), {ca_file});
  return tls;
}

HttpConnection::HttpConnection(asio::io_context& io, const HttpPeer& peer)
    : io_(io), peer_(peer), lookup_(io, peer.url.host, peer.url.port), deadline_(io) {}

HttpConnection::~HttpConnection() {
  cut();
}

void HttpConnection::cut() {
  if (Plain* const open = socket(); open != nullptr) {
    // Off the list first: the number may belong to somebody else as soon as it is closed.
    if (guarded_ >= 0) keep_in_children(std::exchange(guarded_, -1));
    error_code ignored;
    static_cast<void>(open->close(ignored));
  }
}

void HttpConnection::drop() {
  cut();
  tls_.reset();
  plain_.reset();
}

void HttpConnection::cut_at(Time deadline) {
  too_late_ = false;
  deadline_.expires_at(deadline);
  deadline_.async_wait([this, number = ++deadlines_](const error_code& error) {
    if (error || number != deadlines_) return;
    too_late_ = true;
    cut();
  });
}

void HttpConnection::cut_never() {
  ++deadlines_;
  deadline_.cancel();
}

std::unexpected<core::Error> HttpConnection::failure(const error_code& error, std::string_view what) const {
  if (too_late_) return fail(ErrorCode::kTimeout, fmt::format("{}: too slow", what));
  if (error == http::error::body_limit || error == http::error::header_limit) {
    return fail(ErrorCode::kLimit, fmt::format("{}: {}", what, error.message()));
  }
  const bool cut_off = error == http::error::end_of_stream || error == http::error::partial_message;
  if (!cut_off && error.category() == make_error_code(http::error::bad_version).category()) {
    return fail(ErrorCode::kInvalidInput, fmt::format("{}: not HTTP ({})", what, error.message()));
  }
  return fail(ErrorCode::kIo, fmt::format("{}: {}", what, error.message()));
}

void HttpConnection::close_for_good() {
  closed_ = true;
  lookup_.cancel();
  cut();
}

asio::awaitable<core::Result<HttpAnswer>> HttpConnection::ask(HttpQuestion question, HttpWaits waits) {
  const bool reused = is_open();
  core::Result<HttpAnswer> answer = co_await ask_once(question, waits);
  const bool stale = !answer && reused && !answered_ && answer.error().code() == ErrorCode::kIo;
  if (stale && !closed_) answer = co_await ask_once(question, waits);
  co_return answer;
}

asio::awaitable<core::Result<HttpAnswer>> HttpConnection::ask_once(const HttpQuestion& question,
                                                                   const HttpWaits& waits) {
  core::Result<HttpAnswer> answer;
  if (!is_open()) {
    const Status connected = co_await connect(Clock::now() + waits.connect);
    if (!connected) answer = std::unexpected(connected.error());
  }
  if (answer) {
    if (tls_) {
      answer = co_await exchange(*tls_, question, waits);
    } else {
      answer = co_await exchange(*plain_, question, waits);
    }
  }
  cut_never();
  const bool usable = answer && socket()->is_open();
  if (!usable) drop();
  co_return answer;
}

asio::awaitable<Status> HttpConnection::connect(Time deadline) {
  buffer_.clear();
  answered_ = false;
  const core::Result<NameLookup::Addresses> found = co_await lookup_.find(deadline);
  if (!found) co_return std::unexpected(found.error());
  Status connected = fail(ErrorCode::kTimeout, "no connection within the deadline");
  for (std::size_t i = 0; i < found->size(); ++i) {
    // An address that swallows everything may not use up the time of the others.
    const auto left = (deadline - Clock::now()) / static_cast<std::int64_t>(found->size() - i);
    if (closed_ || left <= Clock::duration::zero()) break;
    connected = co_await connect_to(found->at(i), Clock::now() + left);
    if (connected) break;
  }
  if (connected && closed_) connected = fail(ErrorCode::kIo, "the link is closed");
  if (connected && peer_.url.tls) connected = co_await start_tls(deadline);
  co_return connected;
}

asio::awaitable<Status> HttpConnection::connect_to(const tcp::endpoint& address, Time deadline) {
  // Not by Asio, which opens sockets that exec() keeps.
  format::UniqueFd fd(::socket(address.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    co_return fail(ErrorCode::kIo, "the system refuses a socket: " + std::generic_category().message(errno));
  }
  plain_ = std::make_unique<Plain>(io_);
  error_code error;
  static_cast<void>(plain_->assign(address.protocol(), fd.get(), error));
  if (!error) {
    guarded_ = fd.release();
    close_in_children(guarded_);
    cut_at(deadline);
    co_await plain_->async_connect(address, asio::redirect_error(asio::use_awaitable, error));
  }
  if (!error) static_cast<void>(plain_->set_option(tcp::no_delay(true), error));
  if (!error) co_return Status();
  drop();
  co_return failure(error, "connecting");
}

asio::awaitable<Status> HttpConnection::start_tls(Time deadline) {
  tls_ = std::make_unique<Tls>(std::move(*plain_), *peer_.tls);
  plain_.reset();
  SSL* const session = tls_->native_handle();
  std::string host = peer_.url.host;
  // An address is checked as an address, a name as a name; only a name is said in the clear (RFC 6066).
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host.c_str()) != 1) {
    SSL_set1_host(session, host.c_str());
    SSL_ctrl(session, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host.data());
  }
  cut_at(deadline);
  error_code error;
  co_await tls_->async_handshake(ssl::stream_base::client, asio::redirect_error(asio::use_awaitable, error));
  if (!error) co_return Status();
  const long verdict = SSL_get_verify_result(session);
  if (verdict != X509_V_OK) {
    co_return fail(ErrorCode::kPermission, fmt::format("the server's certificate does not hold: {}",
                                                       X509_verify_cert_error_string(verdict)));
  }
  co_return failure(error, "TLS");
}

template <class Stream>
asio::awaitable<core::Result<HttpAnswer>> HttpConnection::exchange(Stream& stream,
                                                                   const HttpQuestion& question,
                                                                   const HttpWaits& waits) {
  answered_ = false;
  error_code error;
  const http::request<http::string_body> message = message_of(question, peer_);
  cut_at(Clock::now() + waits.rest);
  co_await http::async_write(stream, message, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return failure(error, "sending");

  http::response_parser<http::string_body> parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(peer_.most_bytes);
  cut_at(Clock::now() + waits.head);
  co_await http::async_read_header(stream, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
  answered_ = parser.got_some() || buffer_.size() != 0;
  if (error) co_return failure(error, "waiting for the answer");
  if (!parser.is_done()) {
    cut_at(Clock::now() + waits.rest);
    co_await http::async_read(stream, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return failure(error, "reading the answer");
  }

  auto& got = parser.get();
  const Status fits = check_answer(got.result_int(), got[http::field::content_type]);
  if (!fits) co_return std::unexpected(fits.error());
  HttpAnswer answer{got.result_int(), std::move(got.body()), retry_after(got[http::field::retry_after])};
  // Bytes that nobody asked for could be taken for the next answer.
  if (!got.keep_alive() || buffer_.size() != 0) cut();
  if (buffer_.capacity() > kKeptBuffer) buffer_.shrink_to_fit();
  co_return answer;
}

}  // namespace perseus::client
