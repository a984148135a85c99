// SPDX-License-Identifier: Apache-2.0
//
// Ranks of a simulated training job that answer the windows of a sweep from a truth that the test knows: a
// timeline of the real schedule, an energy counter with its own period and phase, noise. For tests of this
// room.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/pipeline.h"
#include "perseus/format/profile_csv.h"
#include "perseus/server/energy_fit.h"
#include "perseus/server/sweep.h"

namespace perseus::server {

/// What computations and waiting really take.
struct Truth {
  std::function<double(const Work&, double mhz)> time_s;
  std::function<double(const Work&, double mhz)> power_w;
  std::function<double(double mhz)> idle_w;
};

/// A GPU whose top clock is 1410 MHz: times fall nearly with the clock, power rises faster, backward draws
/// more than forward, a waiting GPU draws a little less at lower clocks. Stages differ.
inline Truth usual_truth() {
  return {.time_s =
              [](const Work& w, double mhz) {
                const double at_top = (w.kind == core::Kind::kForward ? 0.030 : 0.060) * (1 + 0.15 * w.stage);
                return at_top * (0.85 * 1410 / mhz + 0.15);
              },
          .power_w =
              [](const Work& w, double mhz) {
                return 90 + (w.kind == core::Kind::kForward ? 210 : 240) * std::pow(mhz / 1410, 2.6);
              },
          .idle_w = [](double mhz) { return 65 + 20 * mhz / 1410; }};
}

struct RankNoise {
  double time = 0.004;            ///< of one computation, relative
  double counter_period_s = 0.1;  ///< of the energy counter
  double update_seen_s =
      0.002;             ///< an update is taken to be within so much of its moment, both ways together
  double throttled = 0;  ///< share of throttled samples that is reported
  double slow = 1;       ///< times are stretched by this
  bool whole_iterations = false;  ///< the counter changes once an iteration: worst of all
};

/// One iteration of all pipeline ranks at fixed clocks.
class SimulatedIteration {
 public:
  SimulatedIteration(const core::Pipeline& pipeline, const Truth& truth,
                     const std::vector<std::vector<WorkClock>>& clocks, double slow = 1) {
    std::vector<double> ready(pipeline.size(), 0);
    ranks.resize(clocks.size());
    for (const core::ComputationId i : pipeline.topological_order()) {
      const auto& c = pipeline.computation(i);
      const std::uint32_t r = pipeline.rank_of(i);
      const Work work{c.kind, c.stage};
      double mhz = 0;
      for (const WorkClock& wc : clocks[r]) {
        if (wc.work == work) mhz = wc.clock.value();
      }
      const double end = ready[i] + slow * truth.time_s(work, mhz);
      ranks[r].push_back({{work, core::Megahertz(static_cast<std::uint32_t>(mhz))}, ready[i], end});
      time_s = std::max(time_s, end);
      for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
        ready[pipeline.edges()[e].to] = std::max(ready[pipeline.edges()[e].to], end);
      }
    }
    for (auto& rank : ranks) std::ranges::sort(rank, {}, &Run::begin_s);
  }
  struct Run {
    WorkClock what;
    double begin_s, end_s;
  };
  std::vector<std::vector<Run>> ranks;
  double time_s = 0;
};

/// The report of one GPU of pipeline rank `rank` about a window.
class SimulatedRank {
 public:
  SimulatedRank(const core::Pipeline& pipeline, Truth truth, std::uint64_t seed, RankNoise noise = {})
      : pipeline_(&pipeline), truth_(std::move(truth)), noise_(noise), random_(seed) {}

  RankNoise& noise() { return noise_; }

  WindowReport measure(const SweepWindow& window, std::uint32_t rank) {
    const SimulatedIteration iteration(*pipeline_, truth_, window.ranks, noise_.slow);
    const std::uint32_t steps = window.steps - window.skip;
    WindowReport out{.iterations = steps,
                     .iteration_time = core::Seconds(iteration.time_s),
                     .throttled = noise_.throttled};
    out.counter_period = core::Seconds(noise_.counter_period_s);
    std::normal_distribution<double> normal;
    std::map<WorkClock, TimePool> pools;
    std::vector<SimulatedIteration::Run> runs;  // of all steps, one after another
    for (std::uint32_t s = 0; s < steps; ++s) {
      for (auto run : iteration.ranks[rank]) {
        const double length = (run.end_s - run.begin_s) * (1 + noise_.time * normal(random_));
        run.begin_s += s * iteration.time_s;
        run.end_s = run.begin_s + length;
        pools[run.what].add({.count = 1, .time = core::Seconds(length)});
        runs.push_back(run);
      }
    }
    for (const auto& [what, pool] : pools) {
      out.kinds.push_back({.kind = what.work.kind,
                           .stage = what.work.stage,
                           .clock = what.clock,
                           .count = static_cast<std::uint32_t>(pool.count),
                           .time = core::Seconds(pool.mean_s),
                           .deviation = core::Seconds(pool.deviation_s())});
    }
    out.energy = energy_of(runs, steps * iteration.time_s, iteration.time_s);
    return out;
  }

 private:
  /// Power and seconds by column between two moments.
  double collect(const std::vector<SimulatedIteration::Run>& runs, double from, double to,
                 std::map<EnergyColumn, double>& seconds) const {
    double joules = 0;
    double busy = 0;
    double mhz = runs.back().what.clock.value();
    for (const auto& run : runs) {
      if (run.begin_s < from) mhz = run.what.clock.value();
      const double part = std::min(run.end_s, to) - std::max(run.begin_s, from);
      if (part <= 0) continue;
      const auto& [work, clock] = run.what;
      seconds[{false, work.kind, work.stage, clock}] += part;
      joules += part * truth_.power_w(work, clock.value());
      busy += part;
    }
    const double idle = std::max(0.0, to - from - busy);
    seconds[EnergyColumn{}] += idle;
    return joules + idle * truth_.idle_w(mhz);
  }

  EnergySums energy_of(const std::vector<SimulatedIteration::Run>& runs, double length, double iteration) {
    std::uniform_real_distribution<double> uniform;
    const double period = noise_.whole_iterations ? iteration : noise_.counter_period_s;
    EnergySums out;
    double true_before = period * uniform(random_);
    double seen_before = true_before + noise_.update_seen_s * (uniform(random_) - 0.5);
    for (double now = true_before + period; now + noise_.update_seen_s < length; now += period) {
      const double seen = now + noise_.update_seen_s * (uniform(random_) - 0.5);
      std::map<EnergyColumn, double> seconds;
      std::map<EnergyColumn, double> unseen;
      const double joules = collect(runs, true_before, now, unseen);
      collect(runs, seen_before, seen, seconds);
      EnergySums one{
          .intervals = 1, .seconds = core::Seconds(seen - seen_before), .joules = core::Joules(joules)};
      for (const auto& [column, s] : seconds) one.columns.push_back(column);
      for (auto a = seconds.begin(); a != seconds.end(); ++a) {
        one.xty.push_back(a->second * joules);
        for (auto b = a; b != seconds.end(); ++b) one.xtx.push_back(a->second * b->second);
      }
      one.yty = joules * joules;
      accumulate(out, one);
      true_before = now;
      seen_before = seen;
    }
    return out;
  }

  const core::Pipeline* pipeline_;
  Truth truth_;
  RankNoise noise_;
  std::mt19937_64 random_;
};

/// The clocks of an A100 from the top down to `least`.
inline std::vector<core::Megahertz> usual_clocks(std::uint32_t least = 600, std::uint32_t step = 15) {
  std::vector<core::Megahertz> out;
  for (std::uint32_t mhz = 1410; mhz >= least; mhz -= step) out.emplace_back(mhz);
  return out;
}

/// A report as a rank sends it.
inline std::string window_body(const WindowReport& r) {
  std::string out =
      fmt::format(R"({{"incarnation":{},"sequence":{},"generation":{},"window":{},"step":{},"iterations":{},)"
                  R"("iteration_time_s":{},"throttled":{},"counter_period_s":{},"kinds":[)",
                  r.stamp.incarnation, r.stamp.sequence, r.generation, r.window, r.step, r.iterations,
                  r.iteration_time.value(), r.throttled, r.counter_period.value());
  for (const KindTimes& k : r.kinds) {
    out += fmt::format(
        R"({}{{"kind":"{}","stage":{},"clock_mhz":{},"count":{},"rejected":{},"time_s":{},"time_std_s":{}}})",
        &k == r.kinds.data() ? "" : ",", core::letter(k.kind), k.stage, k.clock.value(), k.count, k.rejected,
        k.time.value(), k.deviation.value());
  }
  out += R"(],"energy":)";
  if (!r.energy) return out + "null}";
  std::vector<std::string> columns;
  for (const EnergyColumn& c : r.energy->columns) columns.push_back(fmt::format("\"{}\"", to_text(c)));
  out += fmt::format(
      R"({{"intervals":{},"seconds":{},"joules":{},"columns":[{}],"xtx":[{}],"xty":[{}],"yty":{}}}}})",
      r.energy->intervals, r.energy->seconds.value(), r.energy->joules.value(), fmt::join(columns, ","),
      fmt::join(r.energy->xtx, ","), fmt::join(r.energy->xty, ","), r.energy->yty);
  return out;
}

}  // namespace perseus::server
