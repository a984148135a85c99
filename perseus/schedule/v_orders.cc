// SPDX-License-Identifier: Apache-2.0
//
// Schedules that fold the model into a V: rank r holds stage r on the way down and stage 2P - 1 - r on the
// way up, so the last stage's gradient returns over the ranks that its activations came by.
#include <algorithm>
#include <array>
#include <deque>
#include <initializer_list>
#include <limits>
#include <utility>

#include "perseus/schedule/orders.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::Kind;

enum Arm : std::uint8_t { kDown = 0, kUp = 1 };

struct Stages {
  std::array<std::uint32_t, 2> of_arm;
};

Stages v_stages(const Shape& shape, std::uint32_t rank) {
  return {{rank, 2 * shape.pipeline - 1 - rank}};
}

/// One repeated step of a phase: the i-th repetition works on microbatch first + i.
struct Step {
  Kind kind;
  Arm arm;
  std::uint64_t first;
  std::uint64_t end = std::numeric_limits<std::uint64_t>::max();  ///< no microbatch from here on
};

/// Writes the phases of ZB-V. The published order is made for at least 2P - 1 microbatches; with fewer the
/// computations of microbatches that do not exist are left out.
class PhaseWriter {
 public:
  PhaseWriter(const Shape& shape, std::uint32_t rank)
      : stages_(v_stages(shape, rank)), microbatches_(shape.microbatches) {
    order_.reserve(std::size_t{6} * shape.microbatches);
  }

  void phase(std::uint64_t count, std::initializer_list<Step> steps) {
    const std::uint64_t least = std::ranges::min(steps, {}, &Step::first).first;
    if (least >= microbatches_) return;
    // Behind this repetition every step's microbatch is out of range: keeps the work proportional to the
    // output.
    const std::uint64_t useful = std::min(count, microbatches_ - least);
    for (std::uint64_t i = 0; i < useful; ++i) {
      for (const Step& s : steps) {
        const std::uint64_t microbatch = s.first + i;
        if (microbatch >= std::min(s.end, microbatches_)) continue;
        order_.push_back({s.kind, stages_.of_arm[s.arm], static_cast<std::uint32_t>(microbatch)});
      }
    }
  }

  std::vector<Computation> take() { return std::move(order_); }

 private:
  Stages stages_;
  std::uint64_t microbatches_;
  std::vector<Computation> order_;
};

/// The state of one DualPipeV rank: which microbatch each arm handles next, and the weight gradients put off.
class DualPipeWriter {
 public:
  DualPipeWriter(const Shape& shape, std::uint32_t rank) : stages_(v_stages(shape, rank)) {
    order_.reserve(std::size_t{6} * shape.microbatches);
  }

  void forward(Arm arm) { order_.push_back({Kind::kForward, stages_.of_arm[arm], forwards_[arm]++}); }

  void backward(Arm arm) { order_.push_back({Kind::kBackward, stages_.of_arm[arm], backwards_[arm]++}); }

  /// The input gradient now; its weight gradient waits for weight().
  void backward_input(Arm arm) {
    order_.push_back({Kind::kBackwardInput, stages_.of_arm[arm], backwards_[arm]});
    waiting_.push_back({Kind::kBackwardWeight, stages_.of_arm[arm], backwards_[arm]++});
  }

  /// The oldest weight gradient that waits, if any does.
  void weight() {
    if (waiting_.empty()) return;
    order_.push_back(waiting_.front());
    waiting_.pop_front();
  }

  /// A forward on one arm overlapped with a full backward on the other.
  void overlapped(Arm forward_arm, Arm backward_arm) {
    order_.push_back({Kind::kForwardBackward, stages_.of_arm[forward_arm], forwards_[forward_arm]++,
                      stages_.of_arm[backward_arm], backwards_[backward_arm]++});
  }

  std::vector<Computation> take() { return std::move(order_); }

 private:
  Stages stages_;
  std::array<std::uint32_t, 2> forwards_{};
  std::array<std::uint32_t, 2> backwards_{};
  std::deque<Computation> waiting_;
  std::vector<Computation> order_;
};

/// The end of a DualPipeV rank: backwards only. The later half splits them, so that weight gradients fill the
/// gaps in which the input gradient of the next microbatch is still on its way.
void drain(DualPipeWriter& out, std::uint32_t rank, std::uint32_t behind) {
  const std::uint32_t turns = rank + 1;
  bool split = false;
  const auto backward = [&](Arm arm) { split ? out.backward_input(arm) : out.backward(arm); };
  for (std::uint32_t i = 0; i < turns; ++i) {
    const bool half = i == turns / 2;
    if (half && rank % 2 == 1) split = true;
    backward(kUp);
    if (half && rank % 2 == 0) split = true;
    backward(kDown);
  }
  for (std::uint32_t i = 0; i < behind; ++i) {
    out.weight();
    backward(kDown);
  }
  for (std::uint32_t i = 0; i < turns; ++i) out.weight();
}

}  // namespace

std::vector<Computation> zero_bubble_v(const Shape& shape, std::uint32_t rank) {
  const std::uint64_t p = shape.pipeline;
  const std::uint64_t r = rank;
  const std::uint64_t n = std::max<std::uint64_t>(2 * p - 1, shape.microbatches);
  constexpr Kind kF = Kind::kForward;
  constexpr Kind kI = Kind::kBackwardInput;
  constexpr Kind kW = Kind::kBackwardWeight;
  PhaseWriter out(shape, rank);
  // Warm up: forwards downwards, then both arms by turns, then the up arm alone with its backwards.
  out.phase(2 * (p - r) - 1, {{kF, kDown, 0}});
  out.phase(r, {{kF, kUp, 0}, {kF, kDown, 2 * (p - r) - 1}});
  out.phase(p - r, {{kF, kUp, r}, {kI, kUp, 0}, {kW, kUp, 0}});
  // Steady: each arm one forward and one whole backward; the down arm runs out of forwards first.
  out.phase(n - p, {{kF, kDown, 2 * p - r - 1, n},
                    {kI, kDown, 0},
                    {kW, kDown, 0},
                    {kF, kUp, p},
                    {kI, kUp, p - r},
                    {kW, kUp, p - r}});
  // Cool down: input gradients first, weight gradients into the gaps and to the end.
  out.phase(r, {{kI, kDown, n - p}, {kI, kUp, n - r}});
  out.phase(p - r, {{kI, kDown, n - p + r}, {kW, kDown, n - p}});
  out.phase(r, {{kW, kUp, n - r}});
  out.phase(r, {{kW, kDown, n - r}});
  return out.take();
}

std::vector<Computation> dual_pipe_v(const Shape& shape, std::uint32_t rank) {
  const std::uint32_t behind = shape.pipeline - 1 - rank;  // ranks between this one and the fold of the V
  const std::uint32_t steady = shape.microbatches - 2 * shape.pipeline + rank + 1;
  const bool at_fold = behind == 0;
  DualPipeWriter out(shape, rank);
  for (std::uint32_t i = 0; i < 2 * behind; ++i) out.forward(kDown);
  for (std::uint32_t i = 0; i < rank + 1; ++i) {
    out.forward(kDown);
    out.forward(kUp);
  }
  for (std::uint32_t i = 0; i < behind; ++i) {
    out.backward_input(kUp);
    out.weight();
    out.forward(kUp);
  }
  for (std::uint32_t i = 0; i < steady; ++i) {
    if (i == 0 && at_fold) {  // both would wait for each other's result: run apart, the bubble is smaller
      out.forward(kDown);
      out.backward(kUp);
    } else {
      out.overlapped(kDown, kUp);
    }
    out.overlapped(kUp, kDown);
  }
  for (std::uint32_t i = 0; i < behind; ++i) {
    out.backward(kUp);
    out.overlapped(kUp, kDown);
  }
  drain(out, rank, behind);
  return out.take();
}

}  // namespace perseus::schedule
