// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/channel.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr std::chrono::milliseconds kDialAgain{5};  ///< between two attempts. Assumed
constexpr int kBacklog = 64;                        ///< connections that wait to be accepted: more than ranks

/// What stands on the wire after the length.
struct Body {
  std::uint64_t step;
  std::uint32_t kind, microbatch, pipeline, stage, value, reserved;
};
struct Frame {
  std::uint32_t length;
  std::uint32_t reserved;
  Body body;
};
static_assert(sizeof(Frame) == 8 + sizeof(Body));

std::unexpected<core::Error> io_error(const std::string& what, int error) {
  return core::fail(ErrorCode::kIo, fmt::format("{}: {}", what, std::generic_category().message(error)));
}

core::Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("a socket's path has at most {} bytes, and this has {}",
                                  sizeof address.sun_path - 1, path.size()),
                      {path});
  }
  std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
  return address;
}

core::Status wait_readable(int fd, Deadline deadline, const std::string& what) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (ready > 0) return {};
    if (ready == 0) return core::fail(ErrorCode::kTimeout, what);
    if (errno != EINTR) return io_error(what, errno);
  }
}

format::UniqueFd new_socket() {
  return format::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/// Reads exactly `size` bytes; 0 errors mean "the peer is gone".
core::Status read_all(int fd, void* data, std::size_t size, const std::string& peer) {
  auto* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::recv(fd, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(fmt::format("cannot hear {}", peer), errno);
    if (got == 0) return core::fail(ErrorCode::kIo, fmt::format("{} is gone", peer));
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

}  // namespace

core::Result<Channel> Channel::dial(const std::string& path, const Message& hello, Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(const sockaddr_un address, address_of(path));
  for (;;) {
    format::UniqueFd fd = new_socket();
    if (!fd) return io_error("cannot make a socket", errno);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      Channel channel(std::move(fd), path);
      PERSEUS_RETURN_IF_ERROR(channel.send(hello));
      return channel;
    }
    if (errno != ENOENT && errno != ECONNREFUSED && errno != EINTR)
      return io_error("cannot connect to " + path, errno);
    if (std::chrono::steady_clock::now() >= deadline)
      return core::fail(ErrorCode::kTimeout, fmt::format("nobody listens at {}", path));
    std::this_thread::sleep_for(kDialAgain);
  }
}

core::Status Channel::send(const Message& message) {
  const Frame frame{.length = sizeof(Body),
                    .reserved = 0,
                    .body = {.step = message.step,
                             .kind = static_cast<std::uint32_t>(message.kind),
                             .microbatch = message.microbatch,
                             .pipeline = message.pipeline,
                             .stage = message.stage,
                             .value = message.value,
                             .reserved = 0}};
  std::array<char, sizeof frame> bytes{};
  std::memcpy(bytes.data(), &frame, sizeof frame);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return io_error(fmt::format("cannot send to {}", peer_), errno);
    done += static_cast<std::size_t>(sent);
  }
  return {};
}

core::Result<Message> Channel::receive() {
  Frame frame{};
  PERSEUS_RETURN_IF_ERROR(read_all(fd_.get(), &frame, sizeof frame, peer_));
  const Body& body = frame.body;
  if (frame.length != sizeof(Body) || body.kind < 1 || body.kind > 5) {
    return core::fail(ErrorCode::kIo, fmt::format("{} sent {} bytes of kind {}: that is none of our messages",
                                                  peer_, frame.length, body.kind));
  }
  return Message{.kind = static_cast<MessageKind>(body.kind),
                 .microbatch = body.microbatch,
                 .step = body.step,
                 .pipeline = body.pipeline,
                 .stage = body.stage,
                 .value = body.value};
}

core::Result<Listener> Listener::open(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const sockaddr_un address, address_of(path));
  format::UniqueFd fd = new_socket();
  if (!fd) return io_error("cannot make a socket", errno);
  ::unlink(path.c_str());  // of an earlier incarnation of this rank
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return io_error("cannot listen at " + path, errno);
  }
  return Listener(std::move(fd));
}

core::Result<Listener::Accepted> Listener::accept(Deadline deadline) {
  PERSEUS_RETURN_IF_ERROR(wait_readable(fd_.get(), deadline, "the other ranks did not come"));
  format::UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) return io_error("cannot accept", errno);
  PERSEUS_RETURN_IF_ERROR(wait_readable(fd.get(), deadline, "a rank that connected says nothing"));
  Channel channel(std::move(fd), "a rank");
  PERSEUS_ASSIGN_OR_RETURN(const Message hello, channel.receive());
  if (hello.kind != MessageKind::kHello)
    return core::fail(ErrorCode::kIo, "a rank that connected does not say who it is");
  channel.call_peer(fmt::format("rank {}.{}", hello.pipeline, hello.stage));
  return Accepted{std::move(channel), hello};
}

}  // namespace perseus::demo
