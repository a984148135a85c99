// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/partition.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "perseus/core/profile.h"
#include "perseus/model/gpu_physics.h"

namespace perseus::model {
namespace {

using core::Seconds;

/// Forward plus backward at the top clock; the limiter does not matter to a split.
Seconds stage_time(const Deployment& setup, const StageShape& stage) {
  const core::Megahertz top = supported_clocks(*setup.gpu).front();
  Seconds time;
  for (const Work& work :
       {forward_work(setup, stage), backward_input_work(setup, stage), backward_weight_work(setup, stage)}) {
    time += run_unlimited(*setup.gpu, setup.tensor, work, top).time;
  }
  return time;
}

StageCosts stage_costs(const Deployment& setup) {
  const Seconds layer = stage_time(setup, {.layers = 1});
  return {.layer = layer,
          .embedding = stage_time(setup, {.layers = 1, .first = true}) - layer,
          .head = stage_time(setup, {.layers = 1, .last = true}) - layer};
}

/// The slowest and the fastest stage when the first has `first` layers, the last `last` and the rest is even.
std::pair<Seconds, Seconds> extremes(std::uint32_t first, std::uint32_t last, std::uint32_t rest,
                                     std::uint32_t between, const StageCosts& costs) {
  const Seconds a = first * costs.layer + costs.embedding;
  const Seconds b = last * costs.layer + costs.head;
  Seconds slowest = std::max(a, b);
  Seconds fastest = std::min(a, b);
  if (between > 0) {
    const std::uint32_t most = (rest + between - 1) / between;
    const std::uint32_t least = rest / between;
    slowest = std::max(slowest, most * costs.layer);
    fastest = std::min(fastest, least * costs.layer);
  }
  return {slowest, fastest};
}

}  // namespace

std::vector<std::uint32_t> even_split(std::uint32_t layers, std::uint32_t stages) {
  std::vector<std::uint32_t> split(stages, layers / stages);
  for (std::uint32_t s = 0; s < layers % stages; ++s) ++split[s];
  return split;
}

std::vector<std::uint32_t> ends_as_layers_split(std::uint32_t layers, std::uint32_t stages) {
  if (stages == 1) return {layers};
  std::vector<std::uint32_t> split = even_split(layers + 2, stages);
  --split.front();
  --split.back();
  for (std::uint32_t* end : {&split.front(), &split.back()}) {
    if (*end > 0) continue;
    --*std::ranges::max_element(split);
    ++*end;
  }
  return split;
}

std::vector<std::uint32_t> min_imbalance_split(std::uint32_t layers, std::uint32_t stages,
                                               const StageCosts& costs) {
  if (stages == 1) return {layers};
  const std::uint32_t between = stages - 2;
  std::optional<std::pair<Seconds, Seconds>> best;  // (slowest, -fastest): less is better
  std::pair<std::uint32_t, std::uint32_t> ends{1, 1};
  for (std::uint32_t last = 1; last + between + 1 <= layers; ++last) {
    for (std::uint32_t first = 1; first + last + between <= layers; ++first) {
      const std::uint32_t rest = layers - first - last;
      if (between == 0 && rest != 0) continue;
      const auto [slowest, fastest] = extremes(first, last, rest, between, costs);
      const std::pair candidate{slowest, -fastest};
      if (!best || candidate < *best) {
        best = candidate;
        ends = {first, last};
      }
    }
  }
  std::vector<std::uint32_t> split{ends.first};
  if (between > 0) {
    const auto middle = even_split(layers - ends.first - ends.second, between);
    split.insert(split.end(), middle.begin(), middle.end());
  }
  split.push_back(ends.second);
  return split;
}

namespace {

std::vector<std::uint32_t> deal(const Deployment& setup, Partition partition) {
  switch (partition) {
    case Partition::kMinImbalance:
      return min_imbalance_split(setup.model->layers, setup.stages, stage_costs(setup));
    case Partition::kEven:
      return even_split(setup.model->layers, setup.stages);
    case Partition::kEndsAsLayers:
      return ends_as_layers_split(setup.model->layers, setup.stages);
  }
  return {};
}

}  // namespace

std::vector<StageShape> stage_shapes(const Deployment& setup, Partition partition) {
  const auto split = deal(setup, partition);
  std::vector<StageShape> shapes;
  shapes.reserve(split.size());
  for (std::size_t s = 0; s < split.size(); ++s) {
    shapes.push_back({.layers = split[s], .first = s == 0, .last = s + 1 == split.size()});
  }
  return shapes;
}

double imbalance_ratio(const Deployment& setup, const std::vector<StageShape>& stages) {
  Seconds slowest;
  Seconds fastest = core::kMaxTime;
  for (const StageShape& stage : stages) {
    const Seconds time = stage_time(setup, stage);
    slowest = std::max(slowest, time);
    fastest = std::min(fastest, time);
  }
  return slowest / fastest;
}

}  // namespace perseus::model
