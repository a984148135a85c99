// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/detector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace perseus::server {

void Detector::add(const RankId& rank, const Measurement& measurement) {
  Entry entry{.steps = measurement.iterations,
              .throttled = measurement.throttled,
              .iteration_s = measurement.iteration_time.value()};
  for (const KindTimes& k : measurement.kinds) {
    if (k.expected <= core::Seconds(0) || k.count == 0) continue;
    entry.measured_s += k.count * k.time.value();
    entry.expected_s += k.count * k.expected.value();
  }
  Rank& state = ranks_[rank];
  state.entries.push_back(entry);
  std::uint64_t steps = 0;
  for (const Entry& e : state.entries) steps += e.steps;
  while (state.entries.size() > settings_.drift_reports &&
         steps - state.entries.front().steps >= settings_.most_steps) {
    steps -= state.entries.front().steps;
    state.entries.pop_front();
  }
}

std::optional<Detector::Entry> Detector::recent(const Rank& rank, std::uint32_t steps) const {
  Entry sum;
  for (auto e = rank.entries.rbegin(); e != rank.entries.rend() && sum.steps < steps; ++e) {
    sum.steps += e->steps;
    sum.measured_s += e->measured_s;
    sum.expected_s += e->expected_s;
    sum.throttled += e->throttled * e->steps;
    sum.iteration_s += e->iteration_s * e->steps;
  }
  if (sum.steps < steps) return std::nullopt;
  sum.throttled /= sum.steps;
  sum.iteration_s /= sum.steps;
  return sum;
}

/// Median over the GPUs of the same stage in the other pipelines: the lower one, so that a straggler among
/// two others is not taken for normal.
std::optional<double> Detector::usual(const RankId& rank) const {
  std::vector<double> ratios;
  for (const auto& [id, state] : ranks_) {
    if (id.pp != rank.pp || id.dp == rank.dp) continue;
    const auto sum = recent(state, settings_.least_steps);
    if (sum && sum->expected_s > 0) ratios.push_back(sum->measured_s / sum->expected_s);
  }
  if (ratios.empty()) return std::nullopt;
  std::ranges::sort(ratios);
  return ratios[(ratios.size() - 1) / 2];
}

std::optional<Verdict> Detector::judge(const RankId& rank, core::Seconds promised) {
  const auto found = ranks_.find(rank);
  if (found == ranks_.end()) return std::nullopt;
  Rank& state = found->second;
  const auto sum = recent(state, settings_.least_steps);
  if (!sum) return std::nullopt;
  const double least = 1 + (state.slow ? settings_.leave : settings_.enter);
  const std::string throttled =
      sum->throttled > settings_.throttled
          ? fmt::format("power or heat held its clock down in {:.0f} % of the samples", 100 * sum->throttled)
          : "";
  const auto normal = usual(rank);
  const double slowdown = normal && sum->expected_s > 0 ? sum->measured_s / sum->expected_s / *normal : 1;
  if (slowdown > least) {
    state.slow = true;
    return Verdict{
        slowdown, std::nullopt,
        fmt::format("detected: {}",
                    throttled.empty() ? "its computations take longer than in other pipelines" : throttled)};
  }
  // What its other computations took says nothing of the throttled ones.
  const bool hidden = sum->throttled > settings_.mostly_throttled && promised > core::Seconds(0);
  if (hidden && (state.slow || sum->iteration_s > least * promised.value())) {
    state.slow = true;
    return Verdict{1, core::Seconds(std::max(sum->iteration_s, promised.value())),
                   fmt::format("detected: {}", throttled)};
  }
  state.slow = false;
  return std::nullopt;
}

std::optional<Drift> Detector::drift() const {
  struct Stage {
    bool above = true, below = true;
    double measured_s = 0, expected_s = 0;
  };
  std::map<std::uint32_t, Stage> stages;
  for (const auto& [id, state] : ranks_) {
    Stage& stage = stages[id.pp];
    const std::size_t count = std::min(settings_.drift_reports, state.entries.size());
    if (count < settings_.drift_reports) stage.above = stage.below = false;
    for (std::size_t k = 0; k < count; ++k) {
      const Entry& e = state.entries[state.entries.size() - 1 - k];
      stage.above = stage.above && e.measured_s > e.expected_s * (1 + settings_.drift);
      stage.below = stage.below && e.measured_s < e.expected_s * (1 - settings_.drift);
      stage.measured_s += e.measured_s;
      stage.expected_s += e.expected_s;
    }
  }
  for (const auto& [pp, stage] : stages) {
    if ((stage.above || stage.below) && stage.expected_s > 0)
      return Drift{pp, stage.measured_s / stage.expected_s};
  }
  return std::nullopt;
}

}  // namespace perseus::server
