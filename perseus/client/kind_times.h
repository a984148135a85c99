// SPDX-License-Identifier: Apache-2.0
//
// Times of computations, gathered over some iterations: mean and spread of what is believable.
//
//   KindSamples samples;
//   samples.add({Kind::kForward, 0, 1410}, Seconds{0.031}, Seconds{0.030});
//   std::vector<KindTimes> times = samples.take();
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "perseus/client/rank_plan.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"

namespace perseus::client {

/// What is measured together.
struct KindKey {
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  std::uint32_t mhz = 0;
  friend auto operator<=>(const KindKey&, const KindKey&) = default;
};

/// Not thread-safe.
class KindSamples {
 public:
  /// A time further from the median than this many standard deviations, as the median absolute deviation
  /// estimates them, is an outlier: a normal sample is that far away once in 1.7 million.
  static constexpr double kOutlier = 5.0;
  /// Deviations below this share of the median count as this share: equal times have no deviation at all,
  /// and one tick of the clock beside them is no outlier. Assumed.
  static constexpr double kLeastDeviation = 1e-3;
  /// Kept per key; further ones are counted as rejected. More than any report needs for a mean.
  static constexpr std::size_t kMost = 65'536;

  /// Keys in one collection, as many as the server takes in a report; others are not kept.
  static constexpr std::size_t kMostKeys = 1024;

  void add(const KindKey& key, core::Seconds time, core::Seconds expected);
  /// One that was measured while power or heat held the clock down.
  void reject(const KindKey& key);
  [[nodiscard]] bool empty() const { return groups_.empty(); }
  /// By key; those without a believable sample are left out. Empties the collection.
  [[nodiscard]] std::vector<KindTimes> take();

 private:
  struct Sample {
    double time_s = 0;
    double expected_s = 0;
  };
  struct Group {
    std::vector<Sample> samples;
    std::uint32_t rejected = 0;
  };
  Group* group_of(const KindKey& key);
  static KindTimes summarise(const KindKey& key, Group group);

  std::map<KindKey, Group> groups_;
};

}  // namespace perseus::client
