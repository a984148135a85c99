// SPDX-License-Identifier: Apache-2.0
#include "perseus/wire/seqpacket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <system_error>
#include <vector>

namespace perseus::wire {
namespace {

using core::ErrorCode;
using format::UniqueFd;

/// Connections that wait to be accepted (assumed: a node has tens of ranks).
constexpr int kBacklog = 128;
/// Most descriptors that the kernel passes in one message (SCM_MAX_FD, linux/net/scm.h): room for all of
/// them, so that all can be closed.
constexpr std::size_t kMostFds = 253;

std::unexpected<core::Error> system_error(std::string_view what, ErrorCode code = ErrorCode::kIo) {
  return core::fail(code, fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

/// Waits until the socket is ready for `events`. kTimeout.
core::Status wait_for(int socket, short events, Deadline deadline, std::string_view what) {
  for (;;) {
    const auto left = std::max(deadline - std::chrono::steady_clock::now(), Deadline::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec wait{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    pollfd entry{.fd = socket, .events = events, .revents = 0};
    const int ready = ::ppoll(&entry, 1, &wait, nullptr);
    if (ready > 0) return {};
    if (ready == 0) return core::fail(ErrorCode::kTimeout, fmt::format("{} within the time allowed", what));
    if (errno != EINTR) return system_error("cannot wait for a socket");
  }
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

/// The ancillary data of one message, for at most kMostFds descriptors.
struct alignas(cmsghdr) Ancillary {
  std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> bytes{};
};

/// Takes all descriptors out of a received message; whatever is not kept is closed.
std::vector<UniqueFd> take_fds(msghdr& message, bool& foreign) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      foreign = true;
      continue;
    }
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

core::Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.contains('\0')) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("a socket's path has {} bytes; it must have 1 to {}", path.size(),
                                  sizeof address.sun_path - 1),
                      {path});
  }
  std::ranges::copy(path, std::begin(address.sun_path));
  return address;
}

core::Result<UniqueFd> new_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return system_error("cannot make a socket");
  return fd;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

/// One try to connect: 0, or the errno.
int try_connect(int socket, const sockaddr_un& address) {
  while (::connect(socket, generic(address), sizeof address) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

/// The lock on a socket's name.
core::Result<UniqueFd> lock_name(const std::string& path) {
  const std::string file = path + ".lock";
  // Closed to others, so that only those who may listen here can hold it.
  UniqueFd fd(
      ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR));
  if (!fd) {
    const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::kPermission
                           : errno == ENOENT                 ? ErrorCode::kNotFound
                                                             : ErrorCode::kIo;
    return system_error(fmt::format("cannot open {}", file), code);
  }
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return system_error(fmt::format("cannot lock {}", file));
    return core::fail(ErrorCode::kBusy, "another process listens at this socket, or is about to", {path});
  }
  return fd;
}

/// Whether there is a socket. kInvalidInput: there is something else.
core::Result<bool> socket_exists(const std::string& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return false;
    return system_error(fmt::format("cannot look at {}", path));
  }
  if (S_ISSOCK(status.st_mode)) return true;
  return core::fail(ErrorCode::kInvalidInput, "there is something here that is no socket; it is left alone",
                    {path});
}

/// kBusy where somebody listens who knows of no lock.
core::Status check_nobody_listens(const std::string& path, const sockaddr_un& address) {
  PERSEUS_ASSIGN_OR_RETURN(const bool there, socket_exists(path));
  if (!there) return {};
  PERSEUS_ASSIGN_OR_RETURN(const UniqueFd probe, new_socket());
  const int error = try_connect(probe.get(), address);
  if (error == ENOENT || error == ECONNREFUSED) return {};
  return core::fail(ErrorCode::kBusy, "another process listens at this socket", {path});
}

/// A socket that listens, under a name at which nobody looks. The name is locked: what stands there was left
/// by a process that was killed.
core::Result<UniqueFd> listen_unseen(const std::string& path, mode_t mode) {
  PERSEUS_ASSIGN_OR_RETURN(const sockaddr_un address, address_of(path));
  PERSEUS_ASSIGN_OR_RETURN(const bool left, socket_exists(path));
  if (left && ::unlink(path.c_str()) != 0) return system_error(fmt::format("cannot remove {}", path));
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd fd, new_socket());
  // Before listen(): some kernels hand it on when a connection is accepted, newer ones (6.18 was seen to)
  // when somebody connects.
  PERSEUS_RETURN_IF_ERROR(identify_senders(fd.get()));
  if (::bind(fd.get(), generic(address), sizeof address) != 0) {
    const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::kPermission
                           : errno == ENOENT                 ? ErrorCode::kNotFound
                                                             : ErrorCode::kIo;
    return system_error(fmt::format("cannot make the socket {}", path), code);
  }
  // Nobody can connect before listen(), so there is no moment at which the umask's permissions count.
  if (::chmod(path.c_str(), mode) != 0) return system_error(fmt::format("cannot set the mode of {}", path));
  if (::listen(fd.get(), kBacklog) != 0) return system_error(fmt::format("cannot listen at {}", path));
  return fd;
}

/// One packet into `bytes` and `control`; the length is that of the whole packet, even where it did not fit.
core::Result<std::size_t> receive(int socket, std::span<char> bytes, std::span<char> control, msghdr& message,
                                  Deadline deadline) {
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  for (;;) {
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t length = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
    message.msg_iov = nullptr;  // it is gone when this returns
    if (length >= 0) return static_cast<std::size_t>(length);
    if (errno == EINTR) continue;
    if (!would_block()) return system_error("cannot receive");
    PERSEUS_RETURN_IF_ERROR(wait_for(socket, POLLIN, deadline, "nothing came"));
  }
}

core::Status check_length(std::size_t length, std::size_t limit) {
  if (length <= limit) return {};
  return core::fail(ErrorCode::kLimit, fmt::format("a packet of {} bytes; the limit is {}", length, limit));
}

}  // namespace

core::Status send_packet(int socket, std::string_view bytes, int fd, Deadline deadline) {
  iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno == EINTR) continue;
    if (errno == EMSGSIZE) {
      return core::fail(ErrorCode::kLimit,
                        fmt::format("a packet of {} bytes is too large for the socket", bytes.size()));
    }
    if (!would_block()) return system_error("cannot send");
    PERSEUS_RETURN_IF_ERROR(wait_for(socket, POLLOUT, deadline, "the peer did not read"));
  }
}

core::Result<Packet> receive_packet(int socket, std::size_t limit, Deadline deadline) {
  Packet packet;
  packet.bytes.resize(limit);
  auto ancillary = std::make_unique<Ancillary>();
  msghdr message{};
  PERSEUS_ASSIGN_OR_RETURN(const std::size_t length,
                           receive(socket, packet.bytes, ancillary->bytes, message, deadline));
  bool foreign = false;
  std::vector<UniqueFd> fds = take_fds(message, foreign);
  PERSEUS_RETURN_IF_ERROR(check_length(length, limit));
  if (foreign || (message.msg_flags & MSG_CTRUNC) != 0) {
    return core::fail(ErrorCode::kInvalidInput, "a packet with ancillary data that is no file descriptor");
  }
  if (fds.size() > 1) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("a packet with {} file descriptors; the limit is 1", fds.size()));
  }
  packet.bytes.resize(length);
  if (!fds.empty()) packet.fd = std::move(fds.front());
  packet.end = length == 0;
  if (packet.end) packet.fd.reset();
  return packet;
}

core::Status identify_senders(int socket) {
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0) return {};
  return system_error("cannot ask for the senders of packets");
}

core::Result<Request> receive_request(int socket, std::size_t limit, Deadline deadline) {
  Request request;
  request.bytes.resize(limit);
  // Room for the credentials, which the kernel writes first, and for nothing else: where there is no room for
  // a descriptor it makes none (scm_detach_fds in linux/net/core/scm.c) and says MSG_CTRUNC.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
  msghdr message{};
  PERSEUS_ASSIGN_OR_RETURN(const std::size_t length,
                           receive(socket, request.bytes, control, message, deadline));
  PERSEUS_RETURN_IF_ERROR(check_length(length, limit));
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return core::fail(ErrorCode::kInvalidInput, "a packet with a file descriptor; none is taken");
  }
  const cmsghdr* part = CMSG_FIRSTHDR(&message);
  if (part != nullptr && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS) {
    ucred credentials{};
    std::memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
    request.sender = credentials.pid;
  }
  request.bytes.resize(length);
  request.end = length == 0;
  return request;
}

core::Result<Packet> exchange_packets(int socket, std::string_view bytes, std::size_t limit,
                                      Deadline deadline) {
  const core::Status sent = send_packet(socket, bytes, -1, deadline);
  if (!sent && sent.error().code() != ErrorCode::kIo) return std::unexpected(sent.error());
  auto packet = receive_packet(socket, limit, deadline);
  if (!sent && (!packet || packet->end)) return std::unexpected(sent.error());
  return packet;
}

void hear_no_more(int socket) {
  static_cast<void>(::shutdown(socket, SHUT_RD));
  // No room for descriptors: none is made here. After the shutdown the queue only gets shorter.
  char byte = 0;
  while (::recv(socket, &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC) > 0) {
  }
}

bool has_input(int socket) {
  pollfd entry{.fd = socket, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) > 0;
}

core::Result<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return system_error("cannot tell who is at the other end");
  }
  return Peer{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

core::Result<UniqueFd> connect_seqpacket(const std::string& path, Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(const sockaddr_un address, address_of(path));
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd fd, new_socket());
  // A non-blocking connect answers EAGAIN while the listener's queue is full; nothing tells when it no longer
  // is, so it is tried again at this interval (assumed: an agent accepts within microseconds).
  constexpr timespec kRetry{.tv_sec = 0, .tv_nsec = 2'000'000};
  for (;;) {
    errno = try_connect(fd.get(), address);
    switch (errno) {
      case 0:
        return fd;
      case EAGAIN:
        if (std::chrono::steady_clock::now() < deadline) {
          ::nanosleep(&kRetry, nullptr);
          continue;
        }
        return core::fail(ErrorCode::kBusy, "too many connections wait at this socket", {path});
      case ENOENT:
      case ENOTDIR:
        return core::fail(ErrorCode::kNotFound, "there is no such socket", {path});
      case ECONNREFUSED:
        return core::fail(ErrorCode::kBusy, "nobody listens at this socket", {path});
      case EACCES:
      case EPERM:
        return core::fail(ErrorCode::kPermission, "this socket may not be used by this user", {path});
      case EPROTOTYPE:
        return core::fail(ErrorCode::kInvalidInput, "this is another kind of socket", {path});
      default:
        return system_error(fmt::format("cannot connect to {}", path));
    }
  }
}

SocketName::~SocketName() {
  if (!lock_ || inode_.number == 0) return;  // moved from, or never bound
  struct stat status{};
  const bool ours = ::lstat(path_.c_str(), &status) == 0 && status.st_dev == inode_.device &&
                    status.st_ino == inode_.number;
  if (ours) static_cast<void>(::unlink(path_.c_str()));
}

core::Result<Listener> listen_seqpacket(const std::string& path, mode_t mode) {
  PERSEUS_ASSIGN_OR_RETURN(const sockaddr_un address, address_of(path));
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd lock, lock_name(path));
  SocketName name(path, std::move(lock));
  PERSEUS_RETURN_IF_ERROR(check_nobody_listens(path, address));
  // Whoever sees the socket can connect: it takes its name, and a stale one's place, when it listens.
  const std::string unseen = path + ".new";
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd fd, listen_unseen(unseen, mode));
  struct stat status{};
  if (::lstat(unseen.c_str(), &status) != 0) return system_error(fmt::format("cannot look at {}", unseen));
  if (::rename(unseen.c_str(), path.c_str()) != 0) {
    return system_error(fmt::format("cannot rename {} to {}", unseen, path));
  }
  name.inode_ = {.device = status.st_dev, .number = status.st_ino};
  return Listener{std::move(name), std::move(fd)};
}

core::Result<SocketPair> seqpacket_pair() {
  std::array<int, 2> fds{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) != 0) {
    return system_error("cannot make a pair of sockets");
  }
  return SocketPair{.ours = UniqueFd(fds[0]), .theirs = UniqueFd(fds[1])};
}

}  // namespace perseus::wire
