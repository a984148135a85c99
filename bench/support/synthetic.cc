// SPDX-License-Identifier: Apache-2.0
#include "synthetic.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace perseus::bench {
namespace {

using core::Kind;

constexpr double kTopClockMhz = 1410;   // A100's highest SM clock (NVIDIA A100 product brief)
constexpr double kClockStepMhz = 15;    // its step
constexpr double kBlockingWatts = 85;   // assumed
constexpr double kStaticWatts = 90;     // assumed: leakage, memory and board at load
constexpr double kDynamicWatts = 260;   // assumed: at the top clock
constexpr double kVoltageFloor = 0.72;  // assumed: voltage at the lowest clocks over that at the top clock

/// Voltage over that at the top clock: flat below a knee, then linear (assumed shape).
double voltage(double share) {
  constexpr double kKnee = 0.5;
  return share <= kKnee ? kVoltageFloor : kVoltageFloor + (1 - kVoltageFloor) * (share - kKnee) / (1 - kKnee);
}

std::vector<core::Option> options(double seconds_at_top, double compute_bound, std::uint32_t clocks) {
  std::vector<core::Option> all;
  for (std::uint32_t k = 0; k < clocks; ++k) {
    const double mhz = kTopClockMhz - kClockStepMhz * k;
    const double share = mhz / kTopClockMhz;
    const double time = seconds_at_top * (1 - compute_bound + compute_bound / share);
    const double busy =
        (1 - compute_bound + compute_bound / share);  // dynamic power falls while memory is waited for
    const double power =
        kStaticWatts + kDynamicWatts * share * voltage(share) * voltage(share) * (0.6 + 0.4 / busy);
    core::Option option;
    option.clock = core::Megahertz(static_cast<std::uint32_t>(mhz));
    option.time = core::Seconds(time);
    option.energy = core::Joules(power * time);
    all.push_back(std::move(option));
  }
  return all;
}

/// A few per cent of imbalance, with a heavier first (embedding) and last (language model head) stage.
double weight(std::uint32_t stage, std::uint32_t stages) {
  double w = 1 + 0.03 * std::sin(2.1 * stage + 0.7) + 0.015 * std::cos(5.3 * stage);
  if (stage == 0) w += 0.02;
  if (stage + 1 == stages) w += 0.06;
  return w;
}

core::Schedule one_f_one_b(std::uint32_t stages, std::uint32_t microbatches) {
  core::Schedule schedule;
  schedule.name = "1f1b";
  schedule.microbatches = microbatches;
  schedule.ranks.resize(stages);
  for (std::uint32_t s = 0; s < stages; ++s) {
    const std::uint32_t warm = std::min(microbatches, stages - 1 - s);
    auto& rank = schedule.ranks[s];
    const auto put = [&](Kind kind, std::uint32_t m) {
      rank.push_back({.kind = kind, .stage = s, .microbatch = m});
    };
    for (std::uint32_t m = 0; m < warm; ++m) put(Kind::kForward, m);
    for (std::uint32_t m = 0; m + warm < microbatches; ++m) {
      put(Kind::kForward, warm + m);
      put(Kind::kBackward, m);
    }
    for (std::uint32_t m = microbatches - warm; m < microbatches; ++m) put(Kind::kBackward, m);
  }
  return schedule;
}

}  // namespace

core::Result<core::Problem> synthetic_problem(std::uint32_t stages, std::uint32_t microbatches,
                                              std::uint32_t clocks) {
  core::ProblemInputs inputs;
  for (std::uint32_t s = 0; s < stages; ++s) {
    const double w = weight(s, stages);
    // Entries are sorted by instruction name.
    inputs.profile.entries.push_back(
        {s, "backward", std::nullopt, options(0.056 * w, 0.88 - 0.004 * (s % 5), clocks)});
    inputs.profile.entries.push_back(
        {s, "forward", std::nullopt, options(0.029 * w, 0.84 - 0.003 * (s % 7), clocks)});
  }
  inputs.blocking_power.assign(stages, core::Watts(kBlockingWatts));
  PERSEUS_ASSIGN_OR_RETURN(core::Pipeline pipeline, core::Pipeline::build(one_f_one_b(stages, microbatches)));
  return core::Problem::build(std::move(pipeline), std::move(inputs));
}

}  // namespace perseus::bench
