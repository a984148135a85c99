// SPDX-License-Identifier: Apache-2.0
//
// What the simulated job sends between its stages: tiny messages over Unix sockets, where a real job sends
// tensors.
//
//   PERSEUS_ASSIGN_OR_RETURN(Listener inbox, Listener::open("/tmp/job/rank-0.1"));
//   PERSEUS_ASSIGN_OR_RETURN(Channel next, Channel::dial("/tmp/job/rank-0.2", self, deadline));
//   PERSEUS_RETURN_IF_ERROR(next.send({.kind = MessageKind::kActivation, .step = 3, .microbatch = 0}));
//   PERSEUS_ASSIGN_OR_RETURN(Message gradient, next.receive());
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::demo {

using Deadline = std::chrono::steady_clock::time_point;

enum class MessageKind : std::uint32_t {
  kHello = 1,       ///< first on every connection: who dials
  kActivation = 2,  ///< of a microbatch, to the next stage
  kGradient = 3,    ///< of a microbatch, to the stage before
  kReduce = 4,      ///< a rank's share of the reduction that ends an iteration
  kReduced = 5,     ///< its result
};

/// One message. On the wire: its length, then the five numbers, in the machine's own byte order (both ends
/// are processes of one machine).
struct Message {
  MessageKind kind = MessageKind::kHello;
  std::uint32_t microbatch = 0;  ///< of kActivation and kGradient
  std::uint64_t step = 0;
  std::uint32_t pipeline = 0, stage = 0;  ///< of the sender
  std::uint32_t value = 0;                ///< reduced by maximum: 1 asks the job to end

  friend bool operator==(const Message&, const Message&) = default;
};

/// One connection. Belongs to one thread.
class Channel {
 public:
  Channel() = default;
  Channel(format::UniqueFd fd, std::string peer) : fd_(std::move(fd)), peer_(std::move(peer)) {}

  /// Connects to a listener, waiting for it to appear, and says `hello`. kTimeout, kIo.
  [[nodiscard]] static core::Result<Channel> dial(const std::string& path, const Message& hello,
                                                  Deadline deadline);

  /// kIo: the peer is gone.
  [[nodiscard]] core::Status send(const Message& message);
  /// Waits for as long as it takes, as a training job does. kIo: the peer is gone, or sent nonsense.
  [[nodiscard]] core::Result<Message> receive();

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// For messages: "rank 0.1".
  void call_peer(std::string name) { peer_ = std::move(name); }
  [[nodiscard]] const std::string& peer() const { return peer_; }

 private:
  format::UniqueFd fd_;
  std::string peer_;
};

/// Where others connect to. Belongs to one thread; the file goes with the folder.
class Listener {
 public:
  /// kIo; kLimit for a path too long for a socket.
  [[nodiscard]] static core::Result<Listener> open(const std::string& path);

  struct Accepted {
    Channel channel;
    Message hello;
  };
  /// The next connection and its first message. kTimeout, kIo.
  [[nodiscard]] core::Result<Accepted> accept(Deadline deadline);

 private:
  explicit Listener(format::UniqueFd fd) : fd_(std::move(fd)) {}
  format::UniqueFd fd_;
};

}  // namespace perseus::demo
