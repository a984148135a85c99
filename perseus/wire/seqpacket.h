// SPDX-License-Identifier: Apache-2.0
//
// One packet with at most one file descriptor over a Unix socket of type SOCK_SEQPACKET, with a deadline.
//
//   PERSEUS_ASSIGN_OR_RETURN(UniqueFd socket, connect_seqpacket("/run/perseus/agent.sock", deadline));
//   PERSEUS_RETURN_IF_ERROR(send_packet(socket.get(), encode(request), -1, deadline));
//   PERSEUS_ASSIGN_OR_RETURN(Packet reply, receive_packet(socket.get(), kMaxAgentPacket, deadline));
//
// No function raises SIGPIPE, none waits beyond its deadline, whatever flags the socket has. Descriptors
// travel in one direction only, from the privileged end: closing one that a stranger has sent may wait for
// that stranger (a file of a FUSE file system, say), so receive_request() never lets one in.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::wire {

/// A moment on CLOCK_MONOTONIC. One in the past: do only what is possible at once.
using Deadline = std::chrono::steady_clock::time_point;
/// `after` from now.
[[nodiscard]] inline Deadline deadline_in(std::chrono::nanoseconds after) {
  return std::chrono::steady_clock::now() + after;
}

struct Packet {
  std::string bytes;
  format::UniqueFd fd;  ///< close-on-exec; none if the peer sent none
  bool end = false;     ///< the peer has closed: no bytes, no fd, and nothing will follow
};

/// Sends one packet, whole or not at all, with a duplicate of `fd` unless that is negative. kIo: the peer is
/// gone or the system refused; kTimeout: the peer does not read; kLimit: larger than the socket's buffer.
[[nodiscard]] core::Status send_packet(int socket, std::string_view bytes, int fd, Deadline deadline);

/// Receives one packet of at most `limit` bytes. A larger one is discarded (kLimit); so is one with more than
/// one descriptor or with other ancillary data (kInvalidInput). No descriptor of a refused packet stays open.
/// kTimeout: nothing came; kIo. An empty packet cannot be told from the end and is taken for it.
[[nodiscard]] core::Result<Packet> receive_packet(int socket, std::size_t limit, Deadline deadline);

/// A packet from a peer that is not trusted.
struct Request {
  std::string bytes;
  /// Who sent this very packet, as the kernel says (SCM_CREDENTIALS); 0: it is not visible in our pid
  /// namespace.
  pid_t sender = 0;
  bool end = false;  ///< as in Packet
};
/// Lets receive_request() tell the senders of all packets that are sent from now on. A listening socket hands
/// it on to its connections; one of listen_seqpacket() has it. kIo.
[[nodiscard]] core::Status identify_senders(int socket);
/// As receive_packet(), for a socket of identify_senders(). A packet with a descriptor is refused
/// (kInvalidInput); the kernel drops the descriptor without making one here.
[[nodiscard]] core::Result<Request> receive_request(int socket, std::size_t limit, Deadline deadline);
/// Sends one packet and receives one. A peer that has hung up may have said why before it did: that is
/// received even where nothing could be sent any more. Errors of send_packet() and receive_packet().
[[nodiscard]] core::Result<Packet> exchange_packets(int socket, std::string_view bytes, std::size_t limit,
                                                    Deadline deadline);
/// Hears nothing more from a peer: what it has sent is thrown away, and it can send no more. To be called
/// before closing, since closing with unread packets would take back what the peer has not read yet.
void hear_no_more(int socket);
/// Whether something is there to be received, or the peer has closed.
[[nodiscard]] bool has_input(int socket);

/// The process at the other end, as it was when the connection was made (or the pair created).
struct Peer {
  pid_t pid = 0;  ///< in our pid namespace; 0: it lives in one that we do not see
  uid_t uid = 0;
  gid_t gid = 0;
};
/// kIo.
[[nodiscard]] core::Result<Peer> peer_of(int socket);

/// Connects to a listening socket. kNotFound: no such socket; kPermission: it may not be used; kBusy: nobody
/// listens (it is stale), or its queue is full until the deadline; kInvalidInput: the path is longer than a
/// socket's name may be (107 bytes); kIo. The result is close-on-exec and non-blocking.
[[nodiscard]] core::Result<format::UniqueFd> connect_seqpacket(const std::string& path, Deadline deadline);

struct Listener;

/// The name of a listening socket: while this lives nobody else can take it. The lock that says so is an
/// flock on a file PATH.lock beside the socket, which stays there; the kernel lets go of it when the process
/// ends, however. Movable.
class SocketName {
 public:
  SocketName(SocketName&&) noexcept = default;
  SocketName& operator=(SocketName&&) = delete;
  SocketName(const SocketName&) = delete;
  SocketName& operator=(const SocketName&) = delete;
  /// Removes the socket, if it is still this one, then lets go of the name.
  ~SocketName();

 private:
  struct Inode {
    std::uint64_t device = 0;
    std::uint64_t number = 0;
  };
  friend core::Result<Listener> listen_seqpacket(const std::string& path, mode_t mode);
  SocketName(std::string path, format::UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  format::UniqueFd lock_;
  Inode inode_;  ///< of the socket, once there is one
};

struct Listener {
  SocketName name;
  format::UniqueFd socket;
};

/// Binds and listens. A socket that nobody listens at any more is replaced, a live one never (kBusy, naming
/// the path): of several processes that try at one moment exactly one succeeds. What is no socket is never
/// removed (kInvalidInput). Whoever sees the socket can connect. `mode` are the permission bits; `path` may
/// have 103 bytes. kIo, kPermission, kNotFound: no such folder.
[[nodiscard]] core::Result<Listener> listen_seqpacket(const std::string& path, mode_t mode);

/// A connected pair, both ends close-on-exec and non-blocking. kIo.
struct SocketPair {
  format::UniqueFd ours;
  format::UniqueFd theirs;
};
[[nodiscard]] core::Result<SocketPair> seqpacket_pair();

}  // namespace perseus::wire
