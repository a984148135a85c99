// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/noise.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace perseus::model {
namespace {

constexpr double kMostDeviations = 4;  // keeps values positive at the 20 % that request.h allows

/// splitmix64 (Steele, Lea, Flood 2014): full period, good enough for noise, the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }

  /// Standard normal by Box and Muller, clamped.
  double normal() {
    const double u = (static_cast<double>(next() >> 11U) + 1) * 0x1p-53;  // (0, 1]
    const double v = static_cast<double>(next() >> 11U) * 0x1p-53;        // [0, 1)
    const double x = std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
    return std::clamp(x, -kMostDeviations, kMostDeviations);
  }

 private:
  std::uint64_t state_;
};

/// FNV-1a over what names a row, mixed with the seed.
std::uint64_t row_seed(std::uint64_t seed, std::uint32_t stage, std::string_view instruction,
                       std::uint32_t clock) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto mix = [&hash](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3U; };
  mix(seed);
  mix(stage);
  for (const char c : instruction) mix(static_cast<unsigned char>(c));
  mix(clock);
  return hash;
}

struct Spread {
  double mean = 0;
  double std = 0;
};

Spread measure(Random& random, double truth, double percent, std::uint32_t samples) {
  std::vector<double> values(samples);
  for (double& value : values) value = truth * (1 + percent / 100 * random.normal());
  Spread spread;
  for (const double value : values) spread.mean += value / samples;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (samples > 1) spread.std = std::sqrt(squares / (samples - 1));
  return spread;
}

}  // namespace

void add_noise(const NoiseModel& noise, std::uint32_t stage, std::string_view instruction,
               core::Option& option) {
  if (noise.time_percent == 0 && noise.energy_percent == 0 && noise.samples == 1) return;
  Random random(row_seed(noise.seed, stage, instruction, option.clock ? option.clock->value() : 0));
  const Spread time = measure(random, option.time.value(), noise.time_percent, noise.samples);
  const Spread energy = measure(random, option.energy.value(), noise.energy_percent, noise.samples);
  option.time = core::Seconds(time.mean);
  option.energy = core::Joules(energy.mean);
  if (noise.samples == 1) return;
  option.samples = noise.samples;
  option.time_std = core::Seconds(time.std);
  option.energy_std = core::Joules(energy.std);
}

}  // namespace perseus::model
