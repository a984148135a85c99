// SPDX-License-Identifier: Apache-2.0
//
// Small pipelines with profiles of known shape, for tests and benchmarks: nothing here is measured.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/problem.h"

namespace perseus::tests {

/// Value of a Result that the test knows to be good; throws with the error's text otherwise.
template <class T>
T value_or_throw(core::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().text());
  return *std::move(result);
}

/// 1F1B: warm-up forwards, one forward and one backward in turn, the rest of the backwards.
inline core::Schedule one_f_one_b(std::uint32_t stages, std::uint32_t microbatches) {
  core::Schedule schedule{
      .name = "1f1b", .microbatches = microbatches, .virtual_stages = 1, .ranks = {}, .instructions = {}};
  for (std::uint32_t s = 0; s < stages; ++s) {
    std::vector<core::Computation> order;
    const std::uint32_t warm_up = std::min(stages - 1 - s, microbatches);
    std::uint32_t forward = 0;
    std::uint32_t backward = 0;
    const auto add = [&](core::Kind kind, std::uint32_t& m) {
      order.push_back({.kind = kind, .stage = s, .microbatch = m++});
    };
    while (forward < warm_up) add(core::Kind::kForward, forward);
    while (forward < microbatches) {
      add(core::Kind::kForward, forward);
      add(core::Kind::kBackward, backward);
    }
    while (backward < microbatches) add(core::Kind::kBackward, backward);
    schedule.ranks.push_back(std::move(order));
  }
  return schedule;
}

/// What a synthetic profile looks like.
struct Synthetic {
  std::uint32_t stages = 4;
  std::uint32_t clocks = 55;    ///< 1410 MHz downwards
  std::uint32_t step_mhz = 15;  ///< as on an A100
  double imbalance = 0.1;       ///< stages differ by up to this share
  double time_noise = 0;        ///< standard deviation of a measured time, as a share of it
  double energy_noise = 0;
  std::uint64_t seed = 1;        ///< of the imbalance
  std::uint64_t noise_seed = 1;  ///< of the noise
};

/// Time and energy of a computation that takes `t0` at 1410 MHz, on a made-up GPU of the A100's class: 70-80
/// % of the time scales with the clock, power is 90 W + 260 W x^2.4 at x = clock / 1410 MHz (assumed).
inline core::Option synthetic_option(double t0, double bound_share, std::uint32_t mhz) {
  const double x = mhz / 1410.0;
  const double time = t0 * ((1 - bound_share) + bound_share / x);
  const double power = 90 + 260 * std::pow(x, 2.4);
  return {.clock = core::Megahertz(mhz), .time = core::Seconds(time), .energy = core::Joules(time * power)};
}

/// A profile of `stages` stages with forward (about 0.03 s) and backward (twice that).
inline core::Profile synthetic_profile(const Synthetic& shape) {
  // Not std::normal_distribution: its values differ between standard libraries.
  const auto uniform = [](std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; };
  std::mt19937_64 random(shape.seed);
  std::mt19937_64 noise(shape.noise_seed);
  const auto normal = [&] {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += uniform(noise);
    return sum - 6;
  };
  core::Profile profile;
  for (std::uint32_t s = 0; s < shape.stages; ++s) {
    const double scale = 1 + shape.imbalance * (2 * uniform(random) - 1);
    for (const bool forward : {false, true}) {  // "backward" sorts before "forward"
      const double share = 0.7 + 0.1 * uniform(random);
      core::ProfileEntry entry{
          .stage = s, .instruction = forward ? "forward" : "backward", .stage_b = {}, .options = {}};
      for (std::uint32_t k = 0; k < shape.clocks; ++k) {
        core::Option o = synthetic_option((forward ? 0.03 : 0.06) * scale, share, 1410 - k * shape.step_mhz);
        o.time = (1 + shape.time_noise * normal()) * o.time;
        o.energy = (1 + shape.energy_noise * normal()) * o.energy;
        entry.options.push_back(std::move(o));
      }
      profile.entries.push_back(std::move(entry));
    }
  }
  return profile;
}

/// A 1F1B problem over a profile, `blocking` watts on every rank.
inline core::Problem one_f_one_b_problem(core::Profile profile, std::uint32_t stages,
                                         std::uint32_t microbatches, double blocking = 85, double lag = 0,
                                         std::uint32_t tensor = 1) {
  core::ProblemInputs inputs;
  inputs.profile = std::move(profile);
  inputs.blocking_power.assign(stages, core::Watts(blocking));
  inputs.p2p_lag = core::Seconds(lag);
  inputs.parallel.tensor = tensor;
  return value_or_throw(core::Problem::build(
      value_or_throw(core::Pipeline::build(one_f_one_b(stages, microbatches))), std::move(inputs)));
}

}  // namespace perseus::tests
