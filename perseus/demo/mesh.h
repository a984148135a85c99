// SPDX-License-Identifier: Apache-2.0
//
// Who talks to whom in the simulated job: each stage to its neighbours in the pipeline, and all ranks to rank
// 0.0, which reduces what ends an iteration (where a real job all-reduces gradients and their norm).
//
//   PERSEUS_ASSIGN_OR_RETURN(Mesh mesh, Mesh::join({.folder = "/tmp/job", .pipelines = 2, .stages = 4,
//                                                   .pipeline = 0, .stage = 1}, deadline));
//   PERSEUS_RETURN_IF_ERROR(mesh.await_activation(step, microbatch));
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/demo/channel.h"

namespace perseus::demo {

/// Where a rank is in the job.
struct Place {
  std::string folder;  ///< where the ranks' sockets are; private to the job
  std::uint32_t pipelines = 1, stages = 1;
  std::uint32_t pipeline = 0, stage = 0;

  [[nodiscard]] bool first() const { return stage == 0; }
  [[nodiscard]] bool last() const { return stage + 1 == stages; }
  [[nodiscard]] bool root() const { return pipeline == 0 && stage == 0; }
};

/// All connections of one rank. Belongs to one thread. Waits have no deadline but join()'s: as in a real job,
/// a rank waits for its neighbours for as long as they live. Errors of all waits: kIo if a peer is gone or
/// sends what should not come now.
class Mesh {
 public:
  /// Waits until all ranks are there. kTimeout.
  [[nodiscard]] static core::Result<Mesh> join(Place place, Deadline deadline);

  /// From the stage before; returns at once on the first stage.
  [[nodiscard]] core::Status await_activation(std::uint64_t step, std::uint32_t microbatch);
  /// To the next stage; nothing on the last one.
  [[nodiscard]] core::Status send_activation(std::uint64_t step, std::uint32_t microbatch);
  /// From the next stage; returns at once on the last one.
  [[nodiscard]] core::Status await_gradient(std::uint64_t step, std::uint32_t microbatch);
  /// To the stage before; nothing on the first one.
  [[nodiscard]] core::Status send_gradient(std::uint64_t step, std::uint32_t microbatch);
  /// The largest `value` of all ranks, once all have come here.
  [[nodiscard]] core::Result<std::uint32_t> reduce(std::uint64_t step, std::uint32_t value);

 private:
  explicit Mesh(Place place) : place_(std::move(place)) {}
  [[nodiscard]] std::string socket_of(std::uint32_t pipeline, std::uint32_t stage) const;
  [[nodiscard]] Message message(MessageKind kind, std::uint64_t step, std::uint32_t microbatch,
                                std::uint32_t value) const;
  [[nodiscard]] core::Status accept_others(Listener& listener, Deadline deadline);
  [[nodiscard]] core::Result<Message> expect(Channel& from, MessageKind kind, std::uint64_t step,
                                             std::uint32_t microbatch);
  [[nodiscard]] core::Result<std::uint32_t> reduce_at_root(std::uint64_t step, std::uint32_t value);

  Place place_;
  std::optional<Channel> previous_, next_;
  std::optional<Channel> root_;  ///< of all but the root
  std::vector<Channel> others_;  ///< of the root
};

}  // namespace perseus::demo
