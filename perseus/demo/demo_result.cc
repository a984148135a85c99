// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/demo_result.h"

#include <fmt/format.h>

#include <cmath>

#include "perseus/report/json_out.h"

namespace perseus::demo {
namespace {

constexpr double kPercent = 100;

void figures(report::JsonOut& out, std::string_view name, const Figures& f) {
  out.key(name).begin_object().key("time_s").number(f.time.value()).key("energy_j").number(f.energy.value());
  out.end_object();
}

/// How far the reference lies above the longest path of its computations: what processes, sockets and the
/// operating system add. The plan's iterations carry the same, but not evenly.
std::string machine_share(const DemoResult& result) {
  return fmt::format(
      "the reference itself takes {:.2f} % longer than its computations alone (single iterations spread by "
      "{:.2f} %): "
      "that is this machine's own delay, and it varies with what else runs on it",
      kPercent * (result.all_max.mean.time / result.ideal - 1),
      kPercent * (result.measured.time_deviation / result.measured.mean.time));
}

}  // namespace

double DemoResult::intrinsic_saved_pct() const {
  return kPercent * (1 - measured.mean.energy / all_max.mean.energy);
}

double DemoResult::extrinsic_saved_pct() const {
  return kPercent * (1 - replanned.mean.energy / waiting.mean.energy);
}

std::vector<std::string> deviations(const DemoResult& result) {
  std::vector<std::string> out;
  const double energy = result.measured.mean.energy / result.predicted.energy - 1;
  const double time = result.measured.mean.time / result.all_max.mean.time - 1;
  const double longer = result.measured.mean.time / result.predicted.time - 1;
  if (std::abs(energy) > kEnergyAgreement) {
    out.push_back(fmt::format(
        "measured energy is {:+.2f} % off the predicted one (bound {:.0f} %): the measured "
        "iteration is {:+.2f} % off the predicted one in time; {}",
        kPercent * energy, kPercent * kEnergyAgreement, kPercent * longer, machine_share(result)));
  }
  if (std::abs(time) > kTimeAgreement) {
    out.push_back(fmt::format("the measured iteration time is {:+.2f} % off all-max (bound {:.0f} %): {}",
                              kPercent * time, kPercent * kTimeAgreement, machine_share(result)));
  }
  if (result.guard_trips > 0) {
    out.push_back(fmt::format("the guard of {} ranks went off: iterations were slower than the plan promised",
                              result.guard_trips));
  }
  if (result.gpus_left_locked > 0) {
    out.push_back(
        fmt::format("{} GPUs were left with a locked clock: that is a bug", result.gpus_left_locked));
  }
  return out;
}

std::string result_json(const DemoResult& result) {
  report::JsonOut out;
  out.begin_object();
  figures(out, "all_max", result.all_max.mean);
  figures(out, "predicted", result.predicted);
  figures(out, "measured", result.measured.mean);
  out.key("intrinsic_saved_pct").number(result.intrinsic_saved_pct());
  out.key("extrinsic_saved_pct").number(result.extrinsic_saved_pct());
  out.key("straggler").begin_object().key("factor").number(result.straggler_factor);
  out.key("replan_ms").number(result.replan_ms).end_object();
  out.key("gpus_left_locked").number(result.gpus_left_locked);
  out.end_object();
  return out.take();
}

}  // namespace perseus::demo
