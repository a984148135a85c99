// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace perseus::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
namespace asio = boost::asio;
using asio::ip::tcp;

/// Does what its paths are called after.
class OddHandler final : public HttpHandler {
 public:
  void handle(const Principal& /*principal*/, HttpRequest request, Reply reply) override {
    const std::string& what = request.target.path.at(0);
    if (what == "throws") throw std::bad_alloc();
    reply(request.method == "GET" ? json_response("{}") : method_not_allowed("GET"));
    if (what == "twice") reply(json_response("[]"));
    if (what == "late") throw std::bad_alloc();
  }
  [[nodiscard]] std::size_t body_limit(const Target& /*target*/) const override { return 0; }
  [[nodiscard]] std::size_t body_limit_most() const override { return 0; }
  [[nodiscard]] Moment now() const override { return Moment(0); }
};

class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest()
      : log_([this](std::string_view line) { lines_.emplace_back(line); }),
        server_(io_, handler_, log_, std::nullopt, {}) {
    port_ = server_.listen({"127.0.0.1", 0, true}, false, false).value();
    server_.set_ready(true);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~HttpServerTest() override {
    io_.stop();
    thread_.join();
  }

  /// All that comes back for these requests, sent on one connection; the last closes it.
  std::string ask(const std::vector<std::string>& requests) const {
    asio::io_context own;
    tcp::socket socket(own);
    socket.connect({asio::ip::make_address("127.0.0.1"), port_});
    for (const std::string& request : requests) {
      asio::write(socket,
                  asio::buffer(request + " HTTP/1.1\r\nHost: localhost\r\n" +
                               (&request == &requests.back() ? "Connection: close\r\n\r\n" : "\r\n")));
    }
    std::string answer;
    boost::system::error_code end;
    asio::read(socket, asio::dynamic_buffer(answer), end);
    EXPECT_EQ(end, asio::error::eof);
    return answer;
  }

  asio::io_context io_{1};
  OddHandler handler_;
  std::vector<std::string> lines_;
  Log log_;
  HttpServer server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

TEST_F(HttpServerTest, HeadIsAnsweredWithoutABody) {
  const std::string health = ask({"HEAD /healthz"});
  EXPECT_THAT(health, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(health, HasSubstr("Content-Length: 15\r\n"));
  EXPECT_THAT(health, EndsWith("\r\n\r\n"));
  // A refusal has none either: the next answer on the connection begins where the client looks for it.
  const std::string both = ask({"HEAD /thing", "GET /thing"});
  EXPECT_THAT(both, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(both, HasSubstr("\r\n\r\nHTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(both, EndsWith("\r\n\r\n{}"));
}

TEST_F(HttpServerTest, ARefusedMethodIsToldWhichThePathTakes) {
  EXPECT_THAT(ask({"PUT /thing"}), HasSubstr("Allow: GET\r\n"));
  EXPECT_THAT(ask({"PUT /healthz"}), HasSubstr("Allow: GET, HEAD\r\n"));
  EXPECT_THAT(ask({"GET /thing"}), Not(HasSubstr("Allow:")));
}

TEST_F(HttpServerTest, AHandlerThatThrowsAnswers500AndTheServerGoesOn) {
  const std::string both = ask({"GET /throws", "GET /thing"});
  EXPECT_THAT(both, StartsWith("HTTP/1.1 500 Internal Server Error\r\n"));
  EXPECT_THAT(both, HasSubstr("the server failed while it handled this request"));
  EXPECT_THAT(both, EndsWith("\r\n\r\n{}"));
  EXPECT_THAT(lines_.back(), HasSubstr("request.failed"));
}

TEST_F(HttpServerTest, OneRequestHasOneAnswer) {
  EXPECT_THAT(ask({"GET /twice", "GET /thing"}), Not(HasSubstr("[]")));
  const std::string late = ask({"GET /late"});
  EXPECT_THAT(late, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(late, EndsWith("\r\n\r\n{}"));
}

}  // namespace
}  // namespace perseus::server
