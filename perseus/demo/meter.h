// SPDX-License-Identifier: Apache-2.0
//
// What the demo measures: the simulated driver's own clock and energy, read at the end of each iteration.
//
//   Meter meter(node);
//   meter.boundary(step, generation);               // each time rank 0.0 says that an iteration has ended
//   meter.measured(12, 23);                         // per iteration, all GPUs
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/simgpu/node.h"

namespace perseus::demo {

/// Of one iteration, all pipelines together; simulated seconds.
struct Figures {
  core::Seconds time;
  core::Joules energy;
};

/// The end of an iteration.
struct Boundary {
  std::uint64_t step = 0;
  std::uint64_t generation = 0;  ///< that the iteration ran under
  core::Seconds time;            ///< simulated, since the node was made
  core::Joules energy;           ///< of all GPUs since then
};

/// Means with their spread over iterations.
struct Measurement {
  Figures mean;
  std::size_t iterations = 0;
  core::Seconds time_deviation;  ///< standard deviation of one iteration's time; 0 of fewer than two
};

class Meter {
 public:
  /// `node` must outlive it.
  explicit Meter(const simgpu::Node& node) : node_(node) {}

  /// Notes the end of a step; steps come in order. Errors as Node::observe().
  core::Status boundary(std::uint64_t step, std::uint64_t generation);
  /// A new run of the job counts its steps from 0 again.
  void restart() { boundaries_.clear(); }

  [[nodiscard]] const std::vector<Boundary>& boundaries() const { return boundaries_; }
  /// Of the steps first .. last; nothing if they, or the end of the one before, are not known, or did not all
  /// run under one generation.
  [[nodiscard]] std::optional<Measurement> measured(std::uint64_t first, std::uint64_t last) const;

 private:
  const simgpu::Node& node_;
  std::vector<Boundary> boundaries_;
};

/// The same from boundaries alone.
[[nodiscard]] std::optional<Measurement> measured_between(const std::vector<Boundary>& boundaries,
                                                          std::uint64_t first, std::uint64_t last);

}  // namespace perseus::demo
