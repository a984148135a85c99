// SPDX-License-Identifier: Apache-2.0
//
// How often a device's readings really change, and whether its energy counter can be believed. Both differ
// between products and drivers (20 to 100 ms were seen, RELIABILITY.md 6), so both are measured.
//
//   auto period = measure_period(device, Reading::kEnergy, steady_time(), {});
//   if (period) ...;   // period->median: a window shorter than some of these measures nothing
#pragma once

#include <cstdint>
#include <optional>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"
#include "perseus/gpu/time_source.h"

namespace perseus::gpu {

/// What is watched.
enum class Reading : std::uint8_t {
  kEnergy,  ///< Device::energy()
  kPower,   ///< Device::power(): the momentary value, else the averaged one
};

/// How often a reading changes.
struct UpdatePeriod {
  core::Seconds median;       ///< between two changes
  core::Seconds longest;      ///< between two changes
  core::Seconds resolution;   ///< the mean distance of our own looks: no period below it can be seen
  std::uint32_t updates = 0;  ///< changes seen
};

struct PeriodOptions {
  core::Seconds poll{0.001};    ///< between two looks: a twentieth of the shortest period seen anywhere
  std::uint32_t updates = 20;   ///< enough for a median; 2 s at a period of 100 ms
  core::Seconds time_limit{5};  ///< then with what there is, at least 2 changes. Assumed
};

/// Looks at the reading until it has changed `options.updates` times. Takes seconds. An energy reading that
/// is integrated by ourselves has no period: kUnsupported. kTimeout: it changed less than twice within the
/// time limit. Otherwise the device's errors.
[[nodiscard]] core::Result<UpdatePeriod> measure_period(Device& device, Reading reading, TimeSource& time,
                                                        const PeriodOptions& options);

/// Compares an energy counter with the power added up over the same time. Some AMD products report an energy
/// that is off by a factor (RELIABILITY.md 6). Not thread-safe.
class EnergyCrossCheck {
 public:
  /// A counter is believed within this factor of the integrated power, up or down: sampled power is good to
  /// some per cent, wrong resolutions are off by 1.5 and more. Assumed.
  static constexpr double kTolerance = 1.25;
  /// Time over which they are compared: at least 20 updates of the slowest counter seen (100 ms).
  static constexpr core::Seconds kSpan{2.0};

  explicit EnergyCrossCheck(core::Seconds span = kSpan) : span_(span) {}

  /// Both totals at `now`; gives the verdict once the span is over. The same verdict ever after.
  std::optional<bool> add(core::Seconds now, core::Joules counter, core::Joules integrated);
  /// Counter over integrated power, once there is a verdict; 0 before.
  [[nodiscard]] double ratio() const { return ratio_; }
  /// Starts again: one of the totals was restarted.
  void restart() { begin_.reset(); }

 private:
  struct Totals {
    core::Seconds time;
    core::Joules counter;
    core::Joules integrated;
  };
  core::Seconds span_;
  std::optional<Totals> begin_;
  std::optional<bool> verdict_;
  double ratio_ = 0;
};

}  // namespace perseus::gpu
