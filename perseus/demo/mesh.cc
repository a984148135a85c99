// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/mesh.h"

#include <fmt/format.h>

#include <algorithm>

namespace perseus::demo {
namespace {

// `value` of a hello: what the connection is for.
constexpr std::uint32_t kNeighbour = 0;
constexpr std::uint32_t kReduction = 1;

}  // namespace

std::string Mesh::socket_of(std::uint32_t pipeline, std::uint32_t stage) const {
  return fmt::format("{}/rank-{}.{}", place_.folder, pipeline, stage);
}

Message Mesh::message(MessageKind kind, std::uint64_t step, std::uint32_t microbatch,
                      std::uint32_t value) const {
  return {.kind = kind,
          .microbatch = microbatch,
          .step = step,
          .pipeline = place_.pipeline,
          .stage = place_.stage,
          .value = value};
}

core::Result<Mesh> Mesh::join(Place place, Deadline deadline) {
  Mesh mesh(std::move(place));
  const Place& self = mesh.place_;
  PERSEUS_ASSIGN_OR_RETURN(Listener listener, Listener::open(mesh.socket_of(self.pipeline, self.stage)));
  const auto dial = [&](std::uint32_t pipeline, std::uint32_t stage,
                        std::uint32_t purpose) -> core::Result<Channel> {
    PERSEUS_ASSIGN_OR_RETURN(Channel channel,
                             Channel::dial(mesh.socket_of(pipeline, stage),
                                           mesh.message(MessageKind::kHello, 0, 0, purpose), deadline));
    channel.call_peer(fmt::format("rank {}.{}", pipeline, stage));
    return channel;
  };
  if (!self.first()) {
    PERSEUS_ASSIGN_OR_RETURN(mesh.previous_, dial(self.pipeline, self.stage - 1, kNeighbour));
  }
  if (!self.root()) {
    PERSEUS_ASSIGN_OR_RETURN(mesh.root_, dial(0, 0, kReduction));
  }
  PERSEUS_RETURN_IF_ERROR(mesh.accept_others(listener, deadline));
  // Nobody trains before all are there, so that step 0 is like any other.
  PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const std::uint32_t nothing, mesh.reduce(0, 0));
  return mesh;
}

core::Status Mesh::accept_others(Listener& listener, Deadline deadline) {
  const std::size_t ranks = std::size_t{place_.pipelines} * place_.stages;
  std::size_t missing = (place_.last() ? 0U : 1U) + (place_.root() ? ranks - 1 : 0U);
  for (; missing > 0; --missing) {
    PERSEUS_ASSIGN_OR_RETURN(Listener::Accepted come, listener.accept(deadline));
    if (come.hello.value == kReduction) {
      others_.push_back(std::move(come.channel));
    } else {
      next_ = std::move(come.channel);
    }
  }
  return {};
}

core::Result<Message> Mesh::expect(Channel& from, MessageKind kind, std::uint64_t step,
                                   std::uint32_t microbatch) {
  PERSEUS_ASSIGN_OR_RETURN(const Message got, from.receive());
  if (got.kind == kind && got.step == step && got.microbatch == microbatch) return got;
  return core::fail(
      core::ErrorCode::kIo,
      fmt::format("{} sent kind {} of step {}, microbatch {}, where kind {} of step {}, microbatch {} "
                  "should come",
                  from.peer(), static_cast<int>(got.kind), got.step, got.microbatch, static_cast<int>(kind),
                  step, microbatch));
}

core::Status Mesh::await_activation(std::uint64_t step, std::uint32_t microbatch) {
  if (!previous_) return {};
  PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const Message got,
                           expect(*previous_, MessageKind::kActivation, step, microbatch));
  return {};
}

core::Status Mesh::send_activation(std::uint64_t step, std::uint32_t microbatch) {
  return next_ ? next_->send(message(MessageKind::kActivation, step, microbatch, 0)) : core::Status();
}

core::Status Mesh::await_gradient(std::uint64_t step, std::uint32_t microbatch) {
  if (!next_) return {};
  PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const Message got,
                           expect(*next_, MessageKind::kGradient, step, microbatch));
  return {};
}

core::Status Mesh::send_gradient(std::uint64_t step, std::uint32_t microbatch) {
  return previous_ ? previous_->send(message(MessageKind::kGradient, step, microbatch, 0)) : core::Status();
}

core::Result<std::uint32_t> Mesh::reduce(std::uint64_t step, std::uint32_t value) {
  if (!root_) return reduce_at_root(step, value);
  PERSEUS_RETURN_IF_ERROR(root_->send(message(MessageKind::kReduce, step, 0, value)));
  PERSEUS_ASSIGN_OR_RETURN(const Message result, expect(*root_, MessageKind::kReduced, step, 0));
  return result.value;
}

core::Result<std::uint32_t> Mesh::reduce_at_root(std::uint64_t step, std::uint32_t value) {
  for (Channel& other : others_) {
    PERSEUS_ASSIGN_OR_RETURN(const Message share, expect(other, MessageKind::kReduce, step, 0));
    value = std::max(value, share.value);
  }
  for (Channel& other : others_) {
    PERSEUS_RETURN_IF_ERROR(other.send(message(MessageKind::kReduced, step, 0, value)));
  }
  return value;
}

}  // namespace perseus::demo
