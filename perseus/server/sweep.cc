// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "perseus/server/energy_fit.h"

namespace perseus::server {

using core::Seconds;

namespace {

/// Windows that are agreed on together. More cost less waiting between generations, fewer let a stage stop
/// sooner. Assumed.
constexpr std::size_t kWindowsOfBatch = 4;
/// A stage stops after this many of the driver's clocks in a row at which its energy has risen (Perseus,
/// SOSP '24, section 5); of coarser clocks at least two visited ones must have risen over as wide a range.
constexpr std::size_t kRisingClocks = 5;
constexpr std::size_t kRisingVisits = 2;
/// A window is thrown away if power or heat held clocks down in more of its samples than this: single samples
/// are noise (RELIABILITY section 6). Assumed.
constexpr double kMostThrottled = 0.05;
/// Samples of a computation and intervals of the counter that a window must bring, all GPUs of the rank
/// together. Assumed: below that a deviation is no estimate.
constexpr std::uint64_t kLeastSamples = 3;
constexpr std::uint32_t kLeastIntervals = 5;
/// A setting is tried so often.
constexpr std::uint32_t kTries = 2;
/// Longest window in steps: training steps of a millisecond need no more for two seconds.
constexpr double kMostSteps = 100'000;

core::Megahertz top(const SweepRank& rank) {
  return rank.clocks.front();
}

bool needed(const Work& work) {
  // Nothing has to be computed there: stage 0 has no input to differentiate.
  return work.kind != core::Kind::kBackwardInput || work.stage != 0;
}

}  // namespace

std::vector<SweepRank> sweep_ranks(const core::Schedule& schedule) {
  std::vector<SweepRank> out;
  for (const auto& order : schedule.ranks) {
    SweepRank& rank = out.emplace_back();
    for (const core::Computation& c : order) {
      const Work work{c.kind, c.stage};
      if (c.kind != core::Kind::kOther && std::ranges::find(rank.works, work) == rank.works.end()) {
        rank.works.push_back(work);
      }
    }
    std::ranges::sort(rank.works);
  }
  return out;
}

void TimePool::add(const KindTimes& times) {
  if (times.count == 0) return;
  const auto more = static_cast<double>(times.count);
  const auto before = static_cast<double>(count);
  const double distance = times.time.value() - mean_s;
  mean_s += distance * more / (before + more);
  squares += std::pow(times.deviation.value(), 2) * (more - 1) +
             distance * distance * before * more / (before + more);
  count += times.count;
}

double TimePool::deviation_s() const {
  return count < 2 ? 0 : std::sqrt(squares / static_cast<double>(count - 1));
}

Sweep::Sweep(std::vector<SweepRank> ranks, const ProfilingRequest& request, bool power_only)
    : ranks_(std::move(ranks)), request_(request), power_only_(power_only), state_(ranks_.size()) {
  for (std::uint32_t r = 0; r < ranks_.size(); ++r) {
    const auto& clocks = ranks_[r].clocks;
    const double least = top(ranks_[r]).value() / (1 + request_.max_slowdown_pct / 100);
    std::size_t lowest = 0;
    while (!power_only_ && lowest + 1 < clocks.size() && clocks[lowest + 1].value() >= least) ++lowest;
    state_[r].lowest = lowest;
    plan_coarse(r);
  }
  decide();
}

void Sweep::plan_coarse(std::uint32_t rank) {
  RankSweep& state = state_[rank];
  const auto& clocks = ranks_[rank].clocks;
  const std::size_t all = state.lowest + 1;
  const bool every = request_.clocks == 0 || request_.clocks >= all;
  // Half of the visits find out where energy turns, the other half fill the gaps above.
  const std::size_t count =
      every ? all
            : std::max<std::size_t>(std::min<std::size_t>(2, request_.clocks), (request_.clocks + 1) / 2);
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t index = count == 1 ? 0 : k * state.lowest / (count - 1);
    state.visits.push_back({.clock = clocks[index]});
  }
}

void Sweep::plan_fine(std::uint32_t rank) {
  RankSweep& state = state_[rank];
  const auto& clocks = ranks_[rank].clocks;
  std::vector<std::size_t> visited;
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = 0;
  for (const Visit& visit : state.visits) {
    if (visit.state != Visit::State::kMeasured) continue;
    visited.push_back(static_cast<std::size_t>(std::ranges::find(clocks, visit.clock) - clocks.begin()));
    if (visit.microbatch_j >= least) continue;
    least = visit.microbatch_j;
    best = visited.size() - 1;
  }
  if (request_.clocks == 0 || visited.empty()) return;
  // One visited clock below the least energy is useful to a plan that waits anyway; what lies further is not.
  visited.resize(std::min(visited.size(), best + 2));
  std::vector<std::size_t> fresh;
  for (std::size_t left = request_.clocks - std::min<std::size_t>(request_.clocks, state.visits.size());
       left > 0; --left) {
    std::ranges::sort(visited);
    std::size_t widest = 1;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < visited.size(); ++i) {
      if (visited[i + 1] - visited[i] <= widest) continue;
      widest = visited[i + 1] - visited[i];
      at = visited[i] + widest / 2;
    }
    if (widest < 2) break;
    visited.push_back(at);
    fresh.push_back(at);
  }
  std::ranges::sort(fresh);
  for (const std::size_t index : fresh) state.visits.push_back({.clock = clocks[index]});
}

void Sweep::plan_split(std::uint32_t rank) {
  RankSweep& state = state_[rank];
  const auto& works = ranks_[rank].works;
  const auto wanted = static_cast<std::size_t>(std::ranges::count_if(works, needed));
  if (wanted < 2) return;
  std::vector<Visit> fresh;
  for (const Visit& visit : state.visits) {
    if (visit.state != Visit::State::kMeasured || visit.condition <= kMostCondition ||
        visit.clock == top(ranks_[rank])) {
      continue;
    }
    for (std::uint32_t w = 0; w < works.size(); ++w) {
      if (needed(works[w])) fresh.push_back({.clock = visit.clock, .only = w});
    }
  }
  if (fresh.empty()) return;
  notes_.push_back(fmt::format(
      "pipeline rank {}: its computations cannot be told apart at {} of {} clocks (condition number "
      "above {}); {} windows with one of them slowed at a time were added",
      rank, fresh.size() / wanted, state.visits.size(), kMostCondition, fresh.size()));
  std::ranges::stable_sort(fresh, std::greater(), &Visit::clock);
  state.visits.insert(state.visits.end(), fresh.begin(), fresh.end());
}

void Sweep::advance_phase(std::uint32_t rank) {
  RankSweep& state = state_[rank];
  while (state.phase != Phase::kDone && std::ranges::none_of(state.visits, [](const Visit& v) {
           return v.state == Visit::State::kPlanned;
         })) {
    if (state.phase == Phase::kCoarse) {
      state.phase = Phase::kFine;
      plan_fine(rank);
    } else if (state.phase == Phase::kFine) {
      state.phase = Phase::kSplit;
      if (!power_only_) plan_split(rank);
    } else {
      state.phase = Phase::kDone;
    }
  }
}

std::vector<WorkClock> Sweep::clocks_of(std::uint32_t rank, const Visit& visit) const {
  std::vector<WorkClock> out;
  const auto& works = ranks_[rank].works;
  out.reserve(works.size());
  for (std::uint32_t w = 0; w < works.size(); ++w) {
    out.push_back({works[w], visit.only.value_or(w) == w ? visit.clock : top(ranks_[rank])});
  }
  return out;
}

double Sweep::slowdown_of(const SweepWindow& window) const {
  double most = 1;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    for (const WorkClock& c : window.ranks[r]) {
      most = std::max(most, static_cast<double>(top(ranks_[r]).value()) / c.clock.value());
    }
  }
  return most;
}

/// No computation takes longer than in inverse proportion to its clock, and so no iteration.
Seconds Sweep::cost_bound(const SweepWindow& window) const {
  return window.steps * (slowdown_of(window) - 1) * top_time_.value_or(Seconds(0));
}

/// One window: the next setting of each rank that has one, all others at their top clocks. A setting that
/// could cost more than `left` is left out.
std::optional<SweepWindow> Sweep::assemble(std::vector<const Visit*>& taken, Seconds left) {
  SweepWindow window{.steps = request_.skip + request_.steps, .skip = request_.skip, .ranks = {}};
  if (top_time_) {
    const double steps = std::ceil(std::min(kMostSteps, request_.window / *top_time_));
    window.steps = request_.skip + std::max(request_.steps, static_cast<std::uint32_t>(steps));
  }
  const double affordable = top_time_ ? 1 + left / (window.steps * *top_time_) : 1;
  bool any = false;
  for (std::uint32_t r = 0; r < ranks_.size(); ++r) {
    const Visit* next = nullptr;
    for (Visit& visit : state_[r].visits) {
      if (visit.state != Visit::State::kPlanned || std::ranges::find(taken, &visit) != taken.end()) continue;
      const double slowdown = static_cast<double>(top(ranks_[r]).value()) / visit.clock.value();
      if (slowdown > affordable) {
        if (!top_time_) break;
        // Not now: what earlier windows of this batch really cost is not known yet.
        if (!taken.empty()) break;
        visit.state = Visit::State::kLeftOut;
        notes_.push_back(fmt::format("{}: left out, it could exceed the budget of {} s", name(r, visit),
                                     request_.budget.value()));
        continue;
      }
      next = &visit;
      break;
    }
    const Visit at_top{.clock = top(ranks_[r])};
    window.ranks.push_back(clocks_of(r, next != nullptr ? *next : at_top));
    if (next == nullptr) continue;
    taken.push_back(next);
    any = true;
  }
  return any ? std::optional(std::move(window)) : std::nullopt;
}

void Sweep::decide() {
  upcoming_.clear();
  if (!failure_.empty()) return;
  if (!top_time_ && probes_ >= kTries) {
    failure_ = "no rank reported a window at the top clock";
    return;
  }
  while (upcoming_.empty()) {
    for (std::uint32_t r = 0; r < ranks_.size(); ++r) advance_phase(r);
    if (std::ranges::all_of(state_, [](const RankSweep& s) { return s.phase == Phase::kDone; })) return;
    fill_batch();
  }
}

void Sweep::fill_batch() {
  std::vector<const Visit*> taken;
  Seconds left = request_.budget - cost_;
  // The first window tells how long an iteration is, and with it how many steps a window needs.
  const std::size_t most = top_time_ ? kWindowsOfBatch : 1;
  while (upcoming_.size() < most) {
    auto window = assemble(taken, left);
    if (!window) return;
    left -= cost_bound(*window);
    upcoming_.push_back(*std::move(window));
  }
}

void Sweep::begin(std::vector<SweepWindow> batch) {
  batch_ = std::move(batch);
  reports_.assign(batch_.size(), {});
  upcoming_.clear();
}

void Sweep::add(const RankId& rank, WindowReport report) {
  if (report.window >= reports_.size()) return;
  reports_[report.window].insert_or_assign(rank, std::move(report));
}

bool Sweep::has_report(const RankId& rank, std::uint32_t window) const {
  return window < reports_.size() && reports_[window].contains(rank);
}

void Sweep::close() {
  finish_batch(false);
}

void Sweep::abandon() {
  finish_batch(true);
}

void Sweep::finish_batch(bool cut_short) {
  const auto batch = std::exchange(batch_, {});
  const auto reports = std::exchange(reports_, {});
  for (std::size_t w = 0; w < batch.size(); ++w) {
    note_time(batch[w], reports[w]);
    if (!cut_short || !reports[w].empty()) ++windows_done_;
    for (std::uint32_t r = 0; r < ranks_.size(); ++r) judge(r, batch[w], reports[w], cut_short);
  }
  for (std::uint32_t r = 0; r < ranks_.size(); ++r) stop_where_energy_rises(r);
  if (!cut_short && !top_time_) ++probes_;
  decide();
}

void Sweep::note_time(const SweepWindow& window, const std::map<RankId, WindowReport>& reports) {
  Seconds mean;
  for (const auto& [rank, report] : reports)
    mean += report.iteration_time / static_cast<double>(reports.size());
  const bool at_top = slowdown_of(window) == 1;
  if (!reports.empty() && at_top) top_time_ = top_time_ ? std::min(*top_time_, mean) : mean;
  if (!top_time_) return;
  cost_ += reports.empty() ? cost_bound(window) : window.steps * std::max(Seconds(0), mean - *top_time_);
}

Visit& Sweep::visit_of(std::uint32_t rank, const std::vector<WorkClock>& clocks) {
  for (Visit& visit : state_[rank].visits) {
    if (clocks_of(rank, visit) == clocks) return visit;
  }
  Visit visit{.clock =
                  clocks.empty() ? top(ranks_[rank]) : std::ranges::min(clocks, {}, &WorkClock::clock).clock};
  if (clocks_of(rank, visit) != clocks) {
    const auto lowered = std::ranges::find(clocks, visit.clock, &WorkClock::clock);
    visit.only = static_cast<std::uint32_t>(lowered - clocks.begin());
  }
  return state_[rank].visits.emplace_back(visit);
}

std::string Sweep::name(std::uint32_t rank, const Visit& visit) const {
  std::string out = fmt::format("pipeline rank {} at {} MHz", rank, visit.clock.value());
  if (visit.only) {
    const Work& work = ranks_[rank].works[*visit.only];
    out += fmt::format(" ({}{} alone)", core::letter(work.kind), work.stage);
  }
  return out;
}

namespace {

/// What is wrong with the reports of one rank about one window; empty: nothing.
std::string fault_of(const std::vector<WorkClock>& clocks,
                     const std::vector<const std::pair<const RankId, WindowReport>*>& good,
                     double throttled) {
  if (good.empty() && throttled > kMostThrottled) {
    return fmt::format("power or heat held clocks down in {:.0f} % of the samples", 100 * throttled);
  }
  if (good.empty()) return "no GPU reported it";
  std::uint64_t intervals = 0;
  for (const auto* report : good) {
    if (report->second.energy) intervals += report->second.energy->intervals;
  }
  for (const WorkClock& c : clocks) {
    std::uint64_t samples = 0;
    for (const auto* report : good) {
      for (const KindTimes& k : report->second.kinds) {
        if (WorkClock{{k.kind, k.stage}, k.clock} == c) samples += k.count;
      }
    }
    if (needed(c.work) && samples < kLeastSamples) {
      return fmt::format("{} samples of {}{}, of {} that are needed", samples, core::letter(c.work.kind),
                         c.work.stage, kLeastSamples);
    }
  }
  if (intervals >= kLeastIntervals) return "";
  return fmt::format("the energy counters changed {} times, of {} that are needed", intervals,
                     kLeastIntervals);
}

}  // namespace

void Sweep::judge(std::uint32_t rank, const SweepWindow& window,
                  const std::map<RankId, WindowReport>& reports, bool cut_short) {
  Visit& visit = visit_of(rank, window.ranks[rank]);
  // A rank that has nothing left to visit runs along at its top clock.
  if (visit.state != Visit::State::kPlanned) return;
  std::vector<const std::pair<const RankId, WindowReport>*> good;
  double throttled = 0;
  for (const auto& report : reports) {
    if (report.first.pp != rank) continue;
    throttled = std::max(throttled, report.second.throttled);
    if (report.second.throttled <= kMostThrottled) good.push_back(&report);
  }
  const std::string fault = fault_of(window.ranks[rank], good, throttled);
  if (fault.empty()) return take(rank, visit, good);
  if (cut_short || ++visit.tries < kTries) return;
  visit.state = Visit::State::kLeftOut;
  notes_.push_back(fmt::format("{}: left out after {} tries: {}", name(rank, visit), kTries, fault));
}

void Sweep::take(std::uint32_t rank, Visit& visit,
                 const std::vector<const std::pair<const RankId, WindowReport>*>& good) {
  RankSweep& state = state_[rank];
  Seconds measured;
  for (const auto* entry : good) {
    const auto& [id, report] = *entry;
    measured = std::max(measured, report.iterations * report.iteration_time);
    for (const KindTimes& k : report.kinds) {
      const Work work{k.kind, k.stage};
      if (std::ranges::find(ranks_[rank].works, work) == ranks_[rank].works.end()) continue;
      state.times[{work, k.clock}][{id.dp, id.tp}].add(k);
    }
    if (report.energy) accumulate(visit.sums[{id.dp, id.tp}], *report.energy);
  }
  ++visit.windows;
  // The very first window was laid out before the length of an iteration was known.
  const bool too_short = visit.windows == 1 && visit.clock == top(ranks_[rank]) && measured < request_.window;
  if (too_short) return;
  visit.state = Visit::State::kMeasured;
  EnergySums sums;
  for (const auto& [replica, own] : visit.sums) accumulate(sums, own);
  const auto fit = fit_powers({&sums, 1});
  visit.condition = fit ? fit->condition.front() : std::numeric_limits<double>::infinity();
  visit.microbatch_j = 0;
  for (const WorkClock& c : clocks_of(rank, visit)) {
    const auto times = state.times.find(c);
    const auto* power = fit ? fit->find({false, c.work.kind, c.work.stage, c.clock}) : nullptr;
    if (times == state.times.end() || power == nullptr) continue;
    double mean = 0;
    for (const auto& [replica, pool] : times->second)
      mean += pool.mean_s / static_cast<double>(times->second.size());
    visit.microbatch_j += power->power.value() * mean;
  }
}

void Sweep::stop_where_energy_rises(std::uint32_t rank) {
  RankSweep& state = state_[rank];
  if (state.phase != Phase::kCoarse) return;
  const auto& clocks = ranks_[rank].clocks;
  const auto index = [&](const Visit& v) { return std::ranges::find(clocks, v.clock) - clocks.begin(); };
  const Visit* above = nullptr;
  std::size_t visits = 0;
  std::ptrdiff_t from = 0;
  for (const Visit& visit : state.visits) {
    if (visit.state != Visit::State::kMeasured) continue;
    const bool rises = above != nullptr && visit.microbatch_j > above->microbatch_j;
    if (rises && visits == 0) from = index(*above);
    visits = rises ? visits + 1 : 0;
    above = &visit;
  }
  const bool stop =
      visits >= kRisingVisits && index(*above) - from >= static_cast<std::ptrdiff_t>(kRisingClocks);
  if (!stop) return;
  std::erase_if(state.visits,
                [&](const Visit& v) { return v.state == Visit::State::kPlanned && v.clock < above->clock; });
}

SweepProgress Sweep::progress() const {
  SweepProgress out{
      .windows_done = windows_done_, .windows_planned = 0, .cost = cost_, .budget = request_.budget};
  std::size_t most = 0;
  for (const RankSweep& state : state_) {
    most = std::max(most, static_cast<std::size_t>(
                              std::ranges::count(state.visits, Visit::State::kPlanned, &Visit::state)));
  }
  out.windows_planned = windows_done_ + most;
  return out;
}

std::vector<RankData> Sweep::data() const {
  std::vector<RankData> out;
  for (std::uint32_t r = 0; r < ranks_.size(); ++r) {
    RankData& rank = out.emplace_back();
    rank.works = ranks_[r].works;
    rank.times = state_[r].times;
    std::vector<const Visit*> measured;
    for (const Visit& visit : state_[r].visits) {
      if (visit.windows > 0) measured.push_back(&visit);
    }
    std::ranges::stable_sort(measured, std::greater(), &Visit::clock);
    for (const Visit* visit : measured) {
      rank.settings.push_back({clocks_of(r, *visit), !visit->only, visit->sums});
    }
  }
  return out;
}

}  // namespace perseus::server
