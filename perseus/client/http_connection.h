// SPDX-License-Identifier: Apache-2.0
//
// One connection to a server: a question, an answer, over plain TCP or TLS, each wait with a deadline.
//
//   HttpConnection connection(io, peer);
//   auto answer = co_await connection.ask({.method = "GET", .target = "/api/v1/jobs"}, limits);
//
// What a hostile or broken server can do to it: make it wait until a deadline, and fill HttpPeer::most_bytes.
// Redirects are not followed, proxy variables not looked at. Sockets are closed on exec() and on fork().
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/client/name_lookup.h"
#include "perseus/core/result.h"
#include "perseus/format/api_access.h"

namespace perseus::client {

/// The other end, for all connections to it. Not changed while one of them asks.
struct HttpPeer {
  format::ServerUrl url;
  std::string token;                         ///< sent as a bearer token; empty: none
  boost::asio::ssl::context* tls = nullptr;  ///< with authorities; needed for https
  std::size_t most_bytes = 0;                ///< of an answer's body
};

/// "http://host:port", as log lines show it.
[[nodiscard]] std::string url_text(const format::ServerUrl& url);

/// A client's TLS: 1.2 or later, the certificates of `ca_file` (PEM; empty: the system's authorities).
/// kInvalidInput where none can be read.
[[nodiscard]] core::Result<std::unique_ptr<boost::asio::ssl::context>> make_client_tls(
    const std::string& ca_file);

struct HttpQuestion {
  std::string method;  ///< "GET", "PUT" or "POST"
  std::string target;  ///< path and query
  std::string body;    ///< JSON; empty: none
};

/// Each counts from the moment at which the part before it has ended.
struct HttpWaits {
  std::chrono::milliseconds connect;  ///< name, TCP and TLS together
  std::chrono::milliseconds head;     ///< from the sent question to the whole head of the answer
  std::chrono::milliseconds rest;     ///< sending the question; reading the answer's body
};

struct HttpAnswer {
  unsigned status = 0;
  std::string body;                                 ///< JSON where the status is 200 or 201
  std::optional<std::chrono::seconds> retry_after;  ///< as the server asks for, at most an hour
};

/// Belongs to the io_context's thread; must outlive its run().
class HttpConnection {
 public:
  HttpConnection(boost::asio::io_context& io, const HttpPeer& peer);
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;
  ~HttpConnection();

  /// Connects where there is no connection, asks, and waits for the whole answer. One at a time. A connection
  /// that the server has closed since the last answer is replaced once without saying so: the questions are
  /// idempotent. Errors: kIo and kTimeout (nobody there, cut off, too slow), kPermission (the certificate
  /// does not hold), kInvalidInput and kLimit (what came is no answer that makes sense, or too much of it).
  boost::asio::awaitable<core::Result<HttpAnswer>> ask(HttpQuestion question, HttpWaits waits);
  /// Closes the connection; an ask() that waits ends with kIo.
  void cut();
  /// cut(), and no further connection is made.
  void close_for_good();

 private:
  using Plain = boost::asio::ip::tcp::socket;
  using Tls = boost::asio::ssl::stream<Plain>;
  using Time = std::chrono::steady_clock::time_point;

  [[nodiscard]] bool is_open() const { return plain_ != nullptr || tls_ != nullptr; }
  [[nodiscard]] Plain* socket() { return tls_ ? &tls_->next_layer() : plain_.get(); }
  /// From now on the connection is cut at that moment. Beast's own streams close their sockets themselves;
  /// here a socket must first be taken off fork()'s list.
  void cut_at(Time deadline);
  void cut_never();
  void drop();
  [[nodiscard]] std::unexpected<core::Error> failure(const boost::system::error_code& error,
                                                     std::string_view what) const;
  boost::asio::awaitable<core::Status> connect(Time deadline);
  boost::asio::awaitable<core::Status> connect_to(const boost::asio::ip::tcp::endpoint& address,
                                                  Time deadline);
  boost::asio::awaitable<core::Status> start_tls(Time deadline);
  boost::asio::awaitable<core::Result<HttpAnswer>> ask_once(const HttpQuestion& question,
                                                            const HttpWaits& waits);
  template <class Stream>
  boost::asio::awaitable<core::Result<HttpAnswer>> exchange(Stream& stream, const HttpQuestion& question,
                                                            const HttpWaits& waits);

  boost::asio::io_context& io_;
  const HttpPeer& peer_;
  NameLookup lookup_;
  std::unique_ptr<Plain> plain_;
  std::unique_ptr<Tls> tls_;
  int guarded_ = -1;  ///< the socket that fork() closes in children
  boost::asio::steady_timer deadline_;
  std::uint64_t deadlines_ = 0;  ///< counts them: a timer that has fired knows whether it still matters
  bool too_late_ = false;
  boost::beast::flat_buffer buffer_;
  bool answered_ = false;  ///< something of the last answer has arrived
  bool closed_ = false;
};

}  // namespace perseus::client
