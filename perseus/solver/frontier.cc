// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/frontier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <utility>

#include "perseus/solver/network.h"
#include "perseus/solver/refine.h"
#include "perseus/solver/scaling.h"
#include "perseus/solver/walk.h"

namespace perseus::solver {
namespace {

using core::ErrorCode;
using core::FrontierData;
using core::Seconds;

/// Work between two checkpoints (Walk::work): about 0.3 ms on the reference machine of bench/.
constexpr std::uint64_t kCheckpointWork = 60'000;
/// Numbers that all checkpoints together may hold; beyond it every second one is dropped and the spacing
/// doubles.
constexpr std::size_t kCheckpointNumbers = std::size_t{8} << 20;

/// A problem made ready for the search.
struct Prepared {
  core::Problem problem;
  Scaled scaled;
  Contracted contracted;
  Faces faces;
};

core::Result<Prepared> prepare(const core::Problem& problem) {
  PERSEUS_ASSIGN_OR_RETURN(Scaled scaled, scale(problem));
  Contracted contracted = contract(problem, scaled);
  Faces faces = draw(contracted.network);
  return Prepared{problem, std::move(scaled), std::move(contracted), std::move(faces)};
}

FrontierData::Checkpoint to_checkpoint(Optimum optimum) {
  return {std::move(optimum.node_time), std::move(optimum.arc_flow), std::move(optimum.sink_side)};
}

Optimum from_checkpoint(const FrontierData::Checkpoint& c) {
  return {c.node_time, c.arc_flow, c.sink_side};
}

/// Networks with fewer arcs are walked from T_max at once: a simpler profile would not pay. Measured on
/// bench/support/synthetic.
constexpr std::size_t kSmallNetwork = 50;
/// The simpler profile has every sixth point, and is walked until its slope has come to this share of that at
/// T*: true slopes are up to 8 % higher at the same time. Measured on bench/support/synthetic, 4 x 8 to
/// 16 x 128, where steps 4 to 8 differ by less than half.
constexpr std::uint32_t kCoarseStep = 6;
constexpr double kCoarseShare = 0.88;

/// An optimum a little above T*, where the slope has not passed `blocking` yet, by a simpler profile. Falls
/// back to T_max, which is always right.
Optimum above_star(const Network& network, const Faces& faces, Optimum slowest, std::int64_t blocking) {
  if (network.arcs.size() < kSmallNetwork) return slowest;
  const Network coarse = coarsened(network, kCoarseStep);
  auto start = refine(coarse, slowest);
  if (!start) return slowest;
  Walk rough(coarse, *start, faces);
  const auto enough = static_cast<std::int64_t>(kCoarseShare * static_cast<double>(blocking));
  while (!rough.at_minimum() && rough.slope() < enough) rough.advance();
  auto refined = refine(network, rough.optimum_at(rough.time()));
  if (!refined) return slowest;
  Walk walk(network, *refined, faces);
  return walk.slope() <= blocking && !walk.at_minimum() ? walk.optimum_at(walk.time()) : slowest;
}

/// T_min in ticks.
std::int64_t fastest_time(const Network& network) {
  std::vector<std::int64_t> time(network.nodes, 0);
  for (const Arc& a : network.arcs) {
    time[a.head] = std::max(time[a.head], time[a.tail] + network.curves.fastest(a.curve));
  }
  return time[network.sink];
}

/// Walks and records.
class Recorder {
 public:
  Recorder(const Prepared& prepared, const SolveOptions& options)
      : prepared_(prepared),
        options_(options),
        numbers_(prepared.contracted.network.nodes + prepared.contracted.network.arcs.size()) {}

  core::Result<FrontierData> run() {
    const Network& network = prepared_.contracted.network;
    Optimum slowest = slowest_optimum(network);
    data_.time_exponent = prepared_.scaled.time_exponent;
    data_.power_exponent = prepared_.scaled.power_exponent;
    data_.to_t_max = options_.range == Range::kTMax;
    data_.t_max = slowest.node_time[network.sink];
    if (!data_.to_t_max)
      slowest = above_star(network, prepared_.faces, std::move(slowest), prepared_.scaled.total_blocking);
    Walk walk(network, slowest, prepared_.faces);
    begin_ = walk.time();
    record(walk);
    std::uint64_t reported = 0;
    while (!walk.at_minimum()) {
      if (options_.stop.stop_requested()) return stopped(walk);
      walk.advance();
      record(walk);
      if (options_.progress && walk.work() - reported > kProgressWork) {
        reported = walk.work();
        report(walk);
      }
    }
    return std::move(data_);
  }

 private:
  static constexpr std::uint64_t kProgressWork = 20'000'000;  ///< about ten reports a second

  void record(Walk& walk) {
    if (walk.time() != time_) {
      time_ = walk.time();
      slope_above_ = slope_;
    }
    slope_ = walk.slope();
    if (!star_known_ && (walk.slope() > prepared_.scaled.total_blocking || walk.at_minimum())) {
      star_known_ = true;
      data_.t_star = walk.time();
    }
    if (!data_.to_t_max && !star_known_) return;
    const bool corner =
        data_.corners.empty() || walk.at_minimum() || walk.slope() != data_.corners.back().slope;
    // At T_min the slope has no end: what the walk found before it found that out is worth nothing.
    if (corner) add_corner({time_, walk.at_minimum() ? slope_above_ : slope_});
    if (data_.checkpoints.empty() || (walk.work() - last_checkpoint_ >= spacing_ && !walk.at_minimum())) {
      add_checkpoint(walk);
    }
  }

  void add_corner(FrontierData::Corner corner) {
    // Settling one instant may end at the minimum without a step below it: the corner above it is then T_min
    // itself.
    if (!data_.corners.empty() && data_.corners.back().time == corner.time) data_.corners.pop_back();
    data_.corners.push_back(corner);
  }

  void add_checkpoint(Walk& walk) {
    data_.checkpoints.push_back(to_checkpoint(walk.optimum_at(walk.time())));
    last_checkpoint_ = walk.work();
    if (data_.checkpoints.size() * numbers_ <= kCheckpointNumbers) return;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < data_.checkpoints.size(); i += 2) {
      if (i != kept) data_.checkpoints[kept] = std::move(data_.checkpoints[i]);
      ++kept;
    }
    data_.checkpoints.resize(kept);
    spacing_ *= 2;
  }

  /// Of the way from where the walk began down to T_min, 0 to 1.
  double share_done(Walk& walk) const {
    const auto begin = static_cast<double>(begin_);
    const auto t_min = static_cast<double>(fastest_time(prepared_.contracted.network));
    return begin > t_min ? (begin - static_cast<double>(walk.time())) / (begin - t_min) : 1;
  }

  void report(Walk& walk) const { options_.progress(share_done(walk), "walking the frontier"); }

  std::unexpected<core::Error> stopped(Walk& walk) const {
    return core::fail(ErrorCode::kTimeout,
                      fmt::format("stopped after {:.0f} % of the frontier", 100 * share_done(walk)));
  }

  const Prepared& prepared_;
  const SolveOptions& options_;
  std::size_t numbers_;
  std::uint64_t spacing_ = kCheckpointWork;
  std::uint64_t last_checkpoint_ = 0;
  bool star_known_ = false;
  std::int64_t begin_ = 0;        ///< of the walk's first instant
  std::int64_t time_ = -1;        ///< of the walk's last instant
  std::int64_t slope_ = 0;        ///< just below it
  std::int64_t slope_above_ = 0;  ///< just above it
  FrontierData data_;
};

}  // namespace

struct Frontier::State {
  Prepared prepared;
  FrontierData data;
  core::ExactTime exact_t_min;
};

namespace {

core::Result<Relaxed> expand(const Prepared& prepared, const Optimum& optimum, Seconds target) {
  PERSEUS_ASSIGN_OR_RETURN(Expansion::Detail detail,
                           prepared.contracted.expansion.expand(prepared.problem, prepared.scaled,
                                                                optimum.node_time, optimum.arc_flow));
  return Relaxed{target, prepared.scaled.time_exponent, std::move(detail.duration),
                 std::move(detail.certificate)};
}

/// The least double that is not below `ticks`.
Seconds ceil_seconds(std::int64_t ticks, std::int32_t exponent) {
  auto nearest = static_cast<double>(ticks);
  if (static_cast<Int128>(nearest) < ticks) {
    nearest = std::nextafter(nearest, std::numeric_limits<double>::infinity());
  }
  return Seconds(std::ldexp(nearest, exponent));
}

/// What is wrong with stored corners: each end, and T*, where they must be, and convex between. Empty:
/// nothing.
std::string check_corners(const Prepared& prepared, const FrontierData& data) {
  const auto falls = [](const auto& a, const auto& b) { return a.time > b.time && a.slope <= b.slope; };
  for (std::size_t i = 0; i + 1 < data.corners.size(); ++i) {
    if (!falls(data.corners[i], data.corners[i + 1])) return "its corners are not convex";
  }
  const Network& network = prepared.contracted.network;
  if (data.corners.back().time != fastest_time(network)) return "its last corner is not at T_min";
  if (data.t_max != slowest_optimum(network).node_time[network.sink]) return "its T_max is another";
  if (data.corners.front().time != (data.to_t_max ? data.t_max : data.t_star)) {
    return "its first corner is not where its range begins";
  }
  const auto star = std::ranges::find_if(data.corners, [&](const FrontierData::Corner& corner) {
    return corner.slope > prepared.scaled.total_blocking;
  });
  if (data.t_star != (star != data.corners.end() ? *star : data.corners.back()).time) {
    return "its T* is not where the slope passes the blocking power";
  }
  return {};
}

Int128 flow_value(const Network& network, const FrontierData::Checkpoint& checkpoint) {
  Int128 value = 0;
  for (ArcId a = 0; a < network.arcs.size(); ++a) {
    if (network.arcs[a].tail == network.source) value += checkpoint.arc_flow[a];
  }
  return value;
}

/// Whether `slope` can be that of C at `time`: between those on both sides of it. At T_min there is no limit.
bool slope_fits(const std::vector<FrontierData::Corner>& corners, std::int64_t time, Int128 slope) {
  const auto below =
      std::ranges::partition_point(corners, [&](const auto& corner) { return corner.time >= time; });
  const auto at =
      std::ranges::partition_point(corners, [&](const auto& corner) { return corner.time > time; });
  const std::int64_t least = at == corners.begin() ? 0 : std::prev(at)->slope;
  return slope >= least &&
         (below == corners.begin() || below == corners.end() || slope <= std::prev(below)->slope);
}

std::unexpected<core::Error> too_fast(Seconds target, core::ExactTime least) {
  return core::fail(ErrorCode::kInfeasible,
                    fmt::format("target time {} s is below the least iteration time {} s", target.value(),
                                least.ceil_seconds().value()));
}

bool feasible(Seconds target, core::ExactTime least) {
  // Beyond the longest makespan of any problem all targets are alike, and ExactTime holds no more.
  constexpr Seconds kLongest{1.6e13};
  return target >= Seconds(0) && core::ExactTime(std::min(target, kLongest)) >= least;
}

/// A target in ticks, rounded down. Landmarks are asked for by the double that stands for them
/// (ceil_seconds), which is not the whole number of ticks itself, and mean that very tick: a tick beside it,
/// T* would lose its vertex.
std::int64_t to_ticks(Seconds target, std::int32_t exponent, std::initializer_list<std::int64_t> landmarks) {
  for (const std::int64_t landmark : landmarks) {
    if (target == ceil_seconds(landmark, exponent)) return landmark;
  }
  return static_cast<std::int64_t>(std::floor(std::ldexp(target.value(), -exponent)));
}

/// Walks on until no instant is left between the walk and `time`, and answers the optimum there. A time below
/// T_min (by the rounding of ticks) is T_min.
Optimum walk_to(Walk& walk, std::int64_t time) {
  while (!walk.at_minimum() && walk.next_time() >= time && walk.time() > time) walk.advance();
  return walk.optimum_at(walk.at_minimum() ? std::max(time, walk.time()) : time);
}

core::ExactTime exact_t_min(const core::Problem& problem) {
  return core::exact_timing(problem, core::fastest_choice(problem)).makespan;
}

}  // namespace

core::Result<Frontier> Frontier::solve(const core::Problem& problem, const SolveOptions& options) {
  PERSEUS_ASSIGN_OR_RETURN(Prepared prepared, prepare(problem));
  PERSEUS_ASSIGN_OR_RETURN(FrontierData data, Recorder(prepared, options).run());
  return Frontier(
      std::make_shared<const State>(State{std::move(prepared), std::move(data), exact_t_min(problem)}));
}

core::Result<Frontier> Frontier::from_data(const core::Problem& problem, core::FrontierData data) {
  PERSEUS_ASSIGN_OR_RETURN(Prepared prepared, prepare(problem));
  const auto refuse = [](std::string_view what) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("the stored frontier does not fit its problem: {}", what));
  };
  if (data.time_exponent != prepared.scaled.time_exponent ||
      data.power_exponent != prepared.scaled.power_exponent) {
    return refuse("its units are others");
  }
  if (data.corners.empty() || data.checkpoints.empty()) return refuse("it is empty");
  const std::string wrong_corner = check_corners(prepared, data);
  if (!wrong_corner.empty()) return refuse(wrong_corner);
  const Network& network = prepared.contracted.network;
  std::int64_t above = std::int64_t{1} << 62;
  for (const FrontierData::Checkpoint& c : data.checkpoints) {
    const std::string wrong = check_optimum(network, from_checkpoint(c));
    if (!wrong.empty()) return refuse("in a checkpoint " + wrong);
    if (c.node_time[network.sink] >= above) return refuse("its checkpoints are out of order");
    above = c.node_time[network.sink];
    if (!slope_fits(data.corners, above, flow_value(network, c))) {
      return refuse("a checkpoint's flow is not the slope of its corners");
    }
  }
  if (data.checkpoints.front().node_time[network.sink] < data.corners.front().time) {
    return refuse("its checkpoints do not cover its range");
  }
  return Frontier(
      std::make_shared<const State>(State{std::move(prepared), std::move(data), exact_t_min(problem)}));
}

const core::Problem& Frontier::problem() const {
  return state_->prepared.problem;
}
Seconds Frontier::t_min() const {
  return state_->exact_t_min.ceil_seconds();
}
Seconds Frontier::t_star() const {
  return std::max(t_min(), ceil_seconds(state_->data.t_star, state_->data.time_exponent));
}
Seconds Frontier::t_max() const {
  return std::max(t_min(), ceil_seconds(state_->data.t_max, state_->data.time_exponent));
}
Range Frontier::range() const {
  return state_->data.to_t_max ? Range::kTMax : Range::kTStar;
}
std::size_t Frontier::breakpoint_count() const {
  return state_->data.corners.size();
}
const core::FrontierData& Frontier::data() const {
  return state_->data;
}

std::vector<Breakpoint> Frontier::breakpoints() const {
  const Prepared& p = state_->prepared;
  const Network& network = p.contracted.network;
  const auto& corners = state_->data.corners;
  // C at the first checkpoint from its spans, from there on by the slopes.
  const FrontierData::Checkpoint& first = state_->data.checkpoints.front();
  Int128 cost = 0;
  for (const Arc& a : network.arcs)
    cost += network.curves.cost(a.curve, first.node_time[a.head] - first.node_time[a.tail]);
  // Landmarks by the doubles that stand for them everywhere.
  const auto corner_time = [&](std::int64_t ticks) {
    if (ticks == corners.back().time) return t_min();
    if (ticks == state_->data.t_star) return t_star();
    return ticks == state_->data.t_max ? t_max() : p.scaled.seconds(ticks);
  };
  std::vector<Breakpoint> all;
  all.reserve(corners.size());
  for (std::size_t i = 0; i < corners.size(); ++i) {
    if (i > 0) cost += Int128{corners[i - 1].slope} * (corners[i - 1].time - corners[i].time);
    const double above_least =
        std::ldexp(static_cast<double>(cost), p.scaled.time_exponent + p.scaled.power_exponent);
    const core::Joules total = p.scaled.least_cost + core::Joules(above_least);
    const core::Watts slope = p.scaled.watts(corners[i].slope);
    const Seconds time = corner_time(corners[i].time);
    const double share = std::ldexp(static_cast<double>(p.problem.size()), -59) + 0x1p-44;
    const double magnitude = std::abs(p.scaled.least_cost.value()) + above_least + (slope * time).value();
    all.push_back({time, slope, total, core::Joules(share * magnitude)});
  }
  return all;
}

core::Result<Relaxed> Frontier::at(Seconds target) const {
  if (!feasible(target, state_->exact_t_min)) return too_fast(target, state_->exact_t_min);
  const Network& network = state_->prepared.contracted.network;
  const FrontierData& data = state_->data;
  const std::int64_t slowest = data.corners.front().time;
  target = std::min(target, std::max(t_min(), ceil_seconds(slowest, data.time_exponent)));
  const std::int64_t wanted = to_ticks(target, data.time_exponent, {slowest, data.t_star});
  const std::int64_t time = std::clamp(wanted, data.corners.back().time, slowest);
  const auto below = std::ranges::partition_point(
      data.checkpoints, [&](const auto& c) { return c.node_time[network.sink] >= time; });
  Walk walk(network, from_checkpoint(*std::prev(below)), state_->prepared.faces);
  return expand(state_->prepared, walk_to(walk, time), target);
}

core::Result<std::vector<Relaxed>> sample(const core::Problem& problem, std::span<const Seconds> targets,
                                          const Progress& progress) {
  PERSEUS_ASSIGN_OR_RETURN(Prepared prepared, prepare(problem));
  const core::ExactTime least = exact_t_min(problem);
  const Network& network = prepared.contracted.network;
  const Optimum slowest = slowest_optimum(network);
  const std::int64_t t_max = slowest.node_time[network.sink];
  Walk walk(network, slowest, prepared.faces);
  std::vector<Relaxed> all;
  for (const Seconds target : targets) {
    if (!feasible(target, least)) return too_fast(target, least);
    if (!all.empty() && target > targets[all.size() - 1]) {
      return core::fail(ErrorCode::kInvalidInput,
                        fmt::format("target time {} s follows {} s; targets are asked for from slow to fast",
                                    target.value(), targets[all.size() - 1].value()));
    }
    const std::int32_t exponent = prepared.scaled.time_exponent;
    const Seconds within = std::min(target, std::max(least.ceil_seconds(), ceil_seconds(t_max, exponent)));
    const std::int64_t time = std::min(t_max, to_ticks(within, exponent, {t_max}));
    PERSEUS_ASSIGN_OR_RETURN(Relaxed relaxed, expand(prepared, walk_to(walk, time), within));
    all.push_back(std::move(relaxed));
    if (progress)
      progress(static_cast<double>(all.size()) / static_cast<double>(targets.size()),
               "sampling the frontier");
  }
  return all;
}

}  // namespace perseus::solver
