// SPDX-License-Identifier: Apache-2.0
//
// The smallest server that a rank's link can talk to: answers as scripted, well or badly, on a port of the
// loopback address. For tests of this room; the real server is in tests/python.
#pragma once

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace perseus::client {

/// One thread a connection; all of them end with the server.
class TestHttpServer {
 public:
  struct Request {
    std::string method, target, authorization, body;
    int connection = 0;  ///< counted from 1
  };
  /// What is done with a request.
  struct Action {
    std::string bytes;
    enum class Then : std::uint8_t {
      kGoOn,
      kClose,
      kHang,
      kDrip
    } then = Then::kGoOn;  ///< kDrip: `bytes` slowly
  };
  using Script = std::function<Action(const Request&)>;

  static std::string message(unsigned status, std::string_view body, std::string_view more = {},
                             std::string_view type = "application/json") {
    return fmt::format("HTTP/1.1 {} Words\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n{}", status,
                       type, body.size(), more, body);
  }
  static Action answer(unsigned status, std::string_view body = "{}", std::string_view more = {}) {
    if (status == 204) return {fmt::format("HTTP/1.1 204 No Content\r\n{}\r\n", more)};
    return {message(status, body, more)};
  }
  static Action bytes(std::string text) { return {std::move(text), Action::Then::kClose}; }
  static Action hang() { return {"", Action::Then::kHang}; }
  static Action drip(std::string text) { return {std::move(text), Action::Then::kDrip}; }
  static Action close() { return {"", Action::Then::kClose}; }

  explicit TestHttpServer(Script script, std::uint16_t port = 0) : script_(std::move(script)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool listens = ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                         ::listen(listener_, 64) == 0 &&
                         ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    if (!listens) std::abort();
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  TestHttpServer(const TestHttpServer&) = delete;
  TestHttpServer& operator=(const TestHttpServer&) = delete;
  ~TestHttpServer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    ::shutdown(listener_, SHUT_RDWR);
    changed_.notify_all();
    acceptor_.join();
    ::close(listener_);
    for (std::thread& thread : connections_) thread.join();
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url() const { return fmt::format("http://127.0.0.1:{}", port_); }
  /// All requests so far, in the order in which they were read.
  [[nodiscard]] std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  /// Those whose target ends with `end` (before a query).
  [[nodiscard]] std::vector<Request> requests_to(std::string_view end) const {
    std::vector<Request> out;
    for (Request& request : requests()) {
      if (std::string_view(request.target).substr(0, request.target.find('?')).ends_with(end))
        out.push_back(std::move(request));
    }
    return out;
  }
  /// Waits until so many of them have come.
  void wait_for(std::string_view end, std::size_t count) const {
    while (requests_to(end).size() < count) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(5));
    }
  }
  /// For scripts that wait: true once the server ends.
  template <class Ready>
  bool wait_until(Ready&& ready) {
    std::unique_lock lock(mutex_);
    while (!stopping_ && !ready()) changed_.wait_for(lock, std::chrono::milliseconds(5));
    return stopping_;
  }

 private:
  void accept_all() {
    for (int number = 1;; ++number) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      if (fd < 0) continue;
      open_.push_back(fd);
      connections_.emplace_back([this, fd, number] { serve(fd, number); });
    }
  }

  void serve(int fd, int number) {
    std::string buffer;
    while (true) {
      Request request;
      request.connection = number;
      if (!read(fd, buffer, request)) break;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      changed_.notify_all();
      if (!act(fd, script_(request))) break;
    }
    const std::lock_guard lock(mutex_);
    open_.remove(fd);
    ::close(fd);
  }

  /// False: the connection is over.
  bool act(int fd, const Action& action) {
    if (action.then == Action::Then::kHang) wait_until([fd] { return closed(fd); });
    if (action.then == Action::Then::kDrip) return drip_out(fd, action.bytes);
    send(fd, action.bytes);
    return action.then == Action::Then::kGoOn;
  }
  /// A byte every 5 ms, until the other side has enough of it.
  bool drip_out(int fd, std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (!send(fd, text.substr(i, 1))) return false;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(5));
      if (stopping_) return false;
    }
    return true;
  }
  static bool closed(int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }
  static bool send(int fd, std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  static std::string field(std::string_view head, std::string_view name) {
    const std::size_t at = head.find(name);
    if (at == std::string_view::npos) return "";
    const std::string_view rest = head.substr(at + name.size());
    return std::string(rest.substr(0, rest.find("\r\n")));
  }
  static bool read(int fd, std::string& buffer, Request& out) {
    const auto more = [&] {
      char chunk[65536];
      const ssize_t got = ::recv(fd, chunk, sizeof chunk, 0);
      if (got > 0) buffer.append(chunk, static_cast<std::size_t>(got));
      return got > 0;
    };
    std::size_t end = 0;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
      if (!more()) return false;
    }
    const std::string head = buffer.substr(0, end + 2);
    const std::string length = field(head, "Content-Length: ");
    const std::size_t size = length.empty() ? 0 : std::stoul(length);
    while (buffer.size() < end + 4 + size) {
      if (!more()) return false;
    }
    const std::size_t space = head.find(' ');
    out.method = head.substr(0, space);
    out.target = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
    out.authorization = field(head, "Authorization: ");
    out.body = buffer.substr(end + 4, size);
    buffer.erase(0, end + 4 + size);
    return true;
  }

  Script script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<Request> requests_;
  std::list<int> open_;
  std::list<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace perseus::client
