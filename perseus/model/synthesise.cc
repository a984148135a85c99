// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/synthesise.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "perseus/model/gpu_physics.h"
#include "perseus/model/kernels.h"
#include "perseus/model/noise.h"
#include "perseus/model/partition.h"

namespace perseus::model {
namespace {

/// Resolution of what is written: far below any real timer or energy counter, far above the last bit of a
/// double, on which compilers may differ.
constexpr double kTicksPerSecond = 1e9;
constexpr double kTicksPerJoule = 1e6;

double rounded(double value, double ticks) {
  return std::round(value * ticks) / ticks;
}

void round_option(core::Option& option) {
  option.time = core::Seconds(rounded(option.time.value(), kTicksPerSecond));
  option.energy = core::Joules(rounded(option.energy.value(), kTicksPerJoule));
  if (option.time_std) option.time_std = core::Seconds(rounded(option.time_std->value(), kTicksPerSecond));
  if (option.energy_std)
    option.energy_std = core::Joules(rounded(option.energy_std->value(), kTicksPerJoule));
}

Work joined(Work a, const Work& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The instructions of one stage with their work, sorted by name as a profile wants them.
std::vector<std::pair<std::string, Work>> instructions(const Deployment& setup, const StageShape& stage,
                                                       bool split) {
  Work input = backward_input_work(setup, stage);
  if (setup.recompute == Recompute::kFull) input = joined(recompute_work(setup, stage), input);
  const Work weight = backward_weight_work(setup, stage);
  const Work backward = joined(input, weight);
  std::vector<std::pair<std::string, Work>> list{{"backward", backward}};
  if (split && !stage.first) list.emplace_back("backward_input", input);
  if (split) list.emplace_back("backward_weight", stage.first ? backward : weight);
  list.emplace_back("forward", forward_work(setup, stage));
  if (setup.recompute == Recompute::kSeparate) list.emplace_back("recompute", recompute_work(setup, stage));
  return list;
}

}  // namespace

core::Result<core::Profile> synthesise(const SynthRequest& request) {
  PERSEUS_ASSIGN_OR_RETURN(const Deployment setup, resolve(request));
  PERSEUS_ASSIGN_OR_RETURN(const auto clocks, listed_clocks(*setup.gpu, request.clocks));
  const NoiseModel noise{.time_percent = request.noise_time,
                         .energy_percent = request.noise_energy,
                         .samples = request.samples,
                         .seed = request.seed};
  const std::vector<StageShape> shapes = stage_shapes(setup, request.partition);
  core::Profile profile;
  for (std::uint32_t stage = 0; stage < shapes.size(); ++stage) {
    for (const auto& [name, work] : instructions(setup, shapes[stage], request.split_backward)) {
      core::ProfileEntry entry{.stage = stage, .instruction = name, .stage_b = std::nullopt, .options = {}};
      for (const core::Megahertz clock : clocks) {
        const Cost cost = run(*setup.gpu, setup.tensor, work, clock);
        core::Option option;
        option.clock = clock;
        option.time = cost.time;
        option.energy = cost.energy;
        add_noise(noise, stage, name, option);
        round_option(option);
        entry.options.push_back(std::move(option));
      }
      profile.entries.push_back(std::move(entry));
    }
  }
  return profile;
}

core::Result<core::Seconds> p2p_lag(const SynthRequest& request) {
  PERSEUS_ASSIGN_OR_RETURN(const Deployment setup, resolve(request));
  constexpr double kBf16 = 2;  // B
  const double bytes = kBf16 * setup.tokens * setup.model->hidden / setup.tensor;
  return core::Seconds(rounded(bytes / setup.gpu->network_bandwidth.value, kTicksPerSecond));
}

}  // namespace perseus::model
