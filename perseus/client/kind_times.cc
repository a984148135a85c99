// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/kind_times.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace perseus::client {
namespace {

/// The lower median; `values` are put into another order. Not empty.
double median_of(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// A normal distribution's standard deviation over its median absolute deviation.
constexpr double kMadToDeviation = 1.4826;

}  // namespace

KindSamples::Group* KindSamples::group_of(const KindKey& key) {
  const auto known = groups_.find(key);
  if (known != groups_.end()) return &known->second;
  return groups_.size() < kMostKeys ? &groups_[key] : nullptr;
}

void KindSamples::add(const KindKey& key, core::Seconds time, core::Seconds expected) {
  Group* const group = group_of(key);
  if (group == nullptr) return;
  if (group->samples.size() >= kMost) {
    ++group->rejected;
  } else {
    group->samples.push_back({time.value(), expected.value()});
  }
}

void KindSamples::reject(const KindKey& key) {
  if (Group* const group = group_of(key)) ++group->rejected;
}

KindTimes KindSamples::summarise(const KindKey& key, Group group) {
  std::vector<double> values;
  values.reserve(group.samples.size());
  for (const Sample& sample : group.samples) values.push_back(sample.time_s);
  const double median = median_of(values);
  for (double& value : values) value = std::abs(value - median);
  const double deviation = std::max(kMadToDeviation * median_of(values), kLeastDeviation * median);

  double count = 0;
  double sum = 0;
  double squares = 0;  // of the distances from the median: no cancellation
  double expected = 0;
  for (const Sample& sample : group.samples) {
    const double distance = sample.time_s - median;
    if (std::abs(distance) > kOutlier * deviation) {
      ++group.rejected;
      continue;
    }
    count += 1;
    sum += distance;
    squares += distance * distance;
    expected += sample.expected_s;
  }
  const double variance = count > 1 ? std::max(0.0, (squares - sum * sum / count) / (count - 1)) : 0.0;
  return {.kind = key.kind,
          .stage = key.stage,
          .clock = core::Megahertz(key.mhz),
          .count = static_cast<std::uint32_t>(count),
          .rejected = group.rejected,
          .time = core::Seconds(median + sum / count),
          .deviation = core::Seconds(std::sqrt(variance)),
          .expected = core::Seconds(expected / count)};
}

std::vector<KindTimes> KindSamples::take() {
  std::vector<KindTimes> out;
  for (auto& [key, group] : groups_) {
    if (!group.samples.empty()) out.push_back(summarise(key, std::move(group)));
  }
  groups_.clear();
  return out;
}

}  // namespace perseus::client
