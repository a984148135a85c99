// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "perseus/schedule/orders.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::Kind;

/// Which chunk and microbatch the k-th forward (or, with the chunks reversed, backward) of a rank works on.
struct Turn {
  std::uint32_t chunk = 0;
  std::uint32_t microbatch = 0;
};

/// Group by group of microbatches, inside a group chunk by chunk; the last group may be smaller.
Turn turn(const Shape& shape, std::uint64_t k) {
  const std::uint64_t group = k / (std::uint64_t{shape.group_size} * shape.virtual_stages);
  const std::uint64_t first = group * shape.group_size;
  const std::uint64_t size = std::min<std::uint64_t>(shape.group_size, shape.microbatches - first);
  const std::uint64_t within = k - first * shape.virtual_stages;
  return {static_cast<std::uint32_t>(within / size), static_cast<std::uint32_t>(first + within % size)};
}

}  // namespace

std::vector<Computation> one_forward_one_backward(const Shape& shape, std::uint32_t rank,
                                                  const OneForwardOneBackward& how) {
  const std::uint64_t total = std::uint64_t{shape.virtual_stages} * shape.microbatches;
  const std::uint64_t warmup = std::min(how.warmup, total);
  const std::uint64_t delay = how.weight_delay;
  std::vector<Computation> order;
  order.reserve((how.style == BackwardStyle::kFull ? 2 : 3) * total);
  const auto forward = [&](std::uint64_t k) {
    const Turn t = turn(shape, k);
    order.push_back({Kind::kForward, t.chunk * shape.pipeline + rank, t.microbatch});
  };
  const auto backward = [&](Kind kind, std::uint64_t k) {
    const Turn t = turn(shape, k);
    order.push_back({kind, (shape.virtual_stages - 1 - t.chunk) * shape.pipeline + rank, t.microbatch});
  };
  for (std::uint64_t step = 0; step < total + warmup; ++step) {
    if (step < total) forward(step);
    if (step < warmup) continue;
    const std::uint64_t k = step - warmup;
    if (how.style == BackwardStyle::kRecompute) backward(Kind::kRecompute, k);
    backward(how.style == BackwardStyle::kSplit ? Kind::kBackwardInput : Kind::kBackward, k);
    if (how.style == BackwardStyle::kSplit && k >= delay) backward(Kind::kBackwardWeight, k - delay);
  }
  if (how.style == BackwardStyle::kSplit) {
    for (std::uint64_t k = total - std::min(delay, total); k < total; ++k) backward(Kind::kBackwardWeight, k);
  }
  return order;
}

std::vector<Computation> looped_breadth_first(const Shape& shape, std::uint32_t rank) {
  std::vector<Computation> order;
  order.reserve(std::size_t{2} * shape.virtual_stages * shape.microbatches);
  for (std::uint32_t chunk = 0; chunk < shape.virtual_stages; ++chunk) {
    for (std::uint32_t m = 0; m < shape.microbatches; ++m) {
      order.push_back({Kind::kForward, chunk * shape.pipeline + rank, m});
    }
  }
  for (std::uint32_t chunk = shape.virtual_stages; chunk-- > 0;) {
    for (std::uint32_t m = shape.microbatches; m-- > 0;) {
      order.push_back({Kind::kBackward, chunk * shape.pipeline + rank, m});
    }
  }
  return order;
}

}  // namespace perseus::schedule
