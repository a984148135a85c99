// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/meter.h"

#include <algorithm>
#include <cmath>

namespace perseus::demo {

core::Status Meter::boundary(std::uint64_t step, std::uint64_t generation) {
  Boundary now{.step = step, .generation = generation, .time = {}, .energy = {}};
  for (std::uint32_t gpu = 0; gpu < node_.gpu_count(); ++gpu) {
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Observation seen, node_.observe(gpu));
    // All within microseconds of each other: the first one's moment stands for all.
    if (gpu == 0) now.time = core::Seconds(static_cast<double>(seen.time_ns) * 1e-9);
    now.energy += seen.energy;
  }
  boundaries_.push_back(now);
  return {};
}

std::optional<Measurement> Meter::measured(std::uint64_t first, std::uint64_t last) const {
  return measured_between(boundaries_, first, last);
}

std::optional<Measurement> measured_between(const std::vector<Boundary>& boundaries, std::uint64_t first,
                                            std::uint64_t last) {
  if (first == 0 || last < first) return std::nullopt;
  const auto begin = std::ranges::find(boundaries, first - 1, &Boundary::step);
  const auto end = std::ranges::find(boundaries, last, &Boundary::step);
  if (begin == boundaries.end() || end == boundaries.end()) return std::nullopt;
  const auto another = [&](const Boundary& b) { return b.generation != end->generation; };
  if (std::any_of(std::next(begin), end, another)) return std::nullopt;
  const auto n = static_cast<double>(end - begin);
  Measurement out{
      .mean = {.time = (end->time - begin->time) / n, .energy = (end->energy - begin->energy) / n},
      .iterations = static_cast<std::size_t>(end - begin),
      .time_deviation = {}};
  double squares = 0;
  for (auto at = begin; at != end; ++at) {
    const double off = (std::next(at)->time - at->time - out.mean.time).value();
    squares += off * off;
  }
  if (n > 1) out.time_deviation = core::Seconds(std::sqrt(squares / (n - 1)));
  return out;
}

}  // namespace perseus::demo
