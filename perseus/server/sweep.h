// SPDX-License-Identifier: Apache-2.0
//
// An online sweep: which windows of training run at which clocks, and what their reports amount to. Pure: no
// I/O, no clock of its own. docs/server.md, "Online profiling", says why it goes as it goes.
//
//   Sweep sweep(sweep_ranks(schedule), request);
//   while (!sweep.finished()) {
//     sweep.begin(sweep.upcoming());                 // deployed as one generation
//     sweep.add(window, rank, report);               // as ranks report, in any order
//     sweep.close();                                 // all have reported, or no more is expected
//   }
//   ... sweep.data(), sweep.notes() ...
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"
#include "perseus/server/messages.h"

namespace perseus::server {

/// Computations that are measured together: one kind and stage.
struct Work {
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  friend auto operator<=>(const Work&, const Work&) = default;
};

struct WorkClock {
  Work work;
  core::Megahertz clock;
  friend auto operator<=>(const WorkClock&, const WorkClock&) = default;
};

/// Some consecutive steps at fixed clocks; the first `skip` of them are not measured.
struct SweepWindow {
  std::uint32_t steps = 1;
  std::uint32_t skip = 0;
  std::vector<std::vector<WorkClock>> ranks;  ///< per pipeline rank the clocks of its works
  friend bool operator==(const SweepWindow&, const SweepWindow&) = default;
};

/// A pipeline rank as a sweep sees it. All its stages share its GPUs, and so a clock.
struct SweepRank {
  std::vector<Work> works;              ///< that it runs, sorted
  std::vector<core::Megahertz> clocks;  ///< that all its GPUs offer, falling
  friend bool operator==(const SweepRank&, const SweepRank&) = default;
};

/// The works of each rank of a schedule; `clocks` are left empty. Computations of a name of their own
/// (kOther) are no works: ranks do not report them.
[[nodiscard]] std::vector<SweepRank> sweep_ranks(const core::Schedule& schedule);

/// Mean and spread of some samples, which can be joined.
struct TimePool {
  std::uint64_t count = 0;
  double mean_s = 0;
  double squares = 0;  ///< sum of squared distances from the mean, s^2
  void add(const KindTimes& times);
  /// Standard deviation of one sample; 0 for fewer than two.
  [[nodiscard]] double deviation_s() const;
};

/// The GPU of a pipeline rank: (dp, tp).
using Replica = std::pair<std::uint32_t, std::uint32_t>;

/// What was measured at one setting of a pipeline rank's clocks: per GPU the sums of all its windows.
struct SettingData {
  std::vector<WorkClock> clocks;  ///< of its works
  bool uniform = true;            ///< all works at one clock
  std::map<Replica, EnergySums> sums;
};

/// What a sweep has measured of one pipeline rank.
struct RankData {
  std::vector<Work> works;
  std::map<WorkClock, std::map<Replica, TimePool>> times;
  std::vector<SettingData> settings;  ///< that were accepted, by falling clock
};

/// A visit of a pipeline rank to a setting.
struct Visit {
  enum class State : std::uint8_t { kPlanned, kMeasured, kLeftOut };
  core::Megahertz clock;
  std::optional<std::uint32_t> only;  ///< index of the one work that runs at `clock`, all others at the top;
                                      ///< absent: all works do
  State state = State::kPlanned;
  std::uint32_t tries = 0;    ///< windows that were run and not accepted
  std::uint32_t windows = 0;  ///< that were accepted
  std::map<Replica, EnergySums> sums;
  double microbatch_j = 0;  ///< energy of all its works once, as this visit alone tells
  double condition = 0;     ///< of this visit's equations
};

/// How far a sweep is.
struct SweepProgress {
  std::size_t windows_done = 0;
  std::size_t windows_planned = 0;  ///< as far as it is decided: the finer clocks come after the coarse ones
  core::Seconds cost;  ///< training time that it has cost: windows' time over the same at the top clock
  core::Seconds budget;
};

class Sweep {
 public:
  /// `ranks` with at least one clock each. `power_only`: the top clock alone, for the blocking power.
  Sweep(std::vector<SweepRank> ranks, const ProfilingRequest& request, bool power_only);

  [[nodiscard]] const std::vector<SweepRank>& ranks() const { return ranks_; }
  [[nodiscard]] bool power_only() const { return power_only_; }

  /// The windows to run next; empty once finished, and while a batch runs.
  [[nodiscard]] const std::vector<SweepWindow>& upcoming() const { return upcoming_; }
  /// That batch runs now. It need not be what upcoming() said (after a restart of the server).
  void begin(std::vector<SweepWindow> batch);
  [[nodiscard]] bool running() const { return !batch_.empty(); }
  [[nodiscard]] const std::vector<SweepWindow>& batch() const { return batch_; }
  /// Notes a report of the running batch; a later one of the same rank and window replaces it.
  void add(const RankId& rank, WindowReport report);
  /// How many ranks have reported a window of the running batch.
  [[nodiscard]] bool has_report(const RankId& rank, std::uint32_t window) const;
  /// The running batch is over: judges it and decides what comes next.
  void close();
  /// The running batch was cut short (a new incarnation): takes what it has for good and counts no failure.
  void abandon();

  [[nodiscard]] bool finished() const { return upcoming_.empty() && batch_.empty(); }
  /// Why nothing can be planned from the data; empty: it can.
  [[nodiscard]] const std::string& failure() const { return failure_; }
  /// What was left out and why, one sentence each.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  [[nodiscard]] SweepProgress progress() const;
  /// Iteration time with all at their top clocks, once it is known.
  [[nodiscard]] std::optional<core::Seconds> top_time() const { return top_time_; }
  [[nodiscard]] std::vector<RankData> data() const;
  [[nodiscard]] const std::vector<Visit>& visits(std::uint32_t rank) const { return state_[rank].visits; }

 private:
  enum class Phase : std::uint8_t { kCoarse, kFine, kSplit, kDone };
  struct RankSweep {
    Phase phase = Phase::kCoarse;
    std::size_t lowest = 0;  ///< index of the lowest clock that may be visited
    std::vector<Visit> visits;
    std::map<WorkClock, std::map<Replica, TimePool>> times;
  };
  void plan_coarse(std::uint32_t rank);
  void plan_fine(std::uint32_t rank);
  void plan_split(std::uint32_t rank);
  void advance_phase(std::uint32_t rank);
  void decide();
  void fill_batch();
  [[nodiscard]] Visit* next_visit(std::uint32_t rank, std::vector<const Visit*>& taken);
  [[nodiscard]] std::optional<SweepWindow> assemble(std::vector<const Visit*>& taken, core::Seconds left);
  [[nodiscard]] std::vector<WorkClock> clocks_of(std::uint32_t rank, const Visit& visit) const;
  [[nodiscard]] Visit& visit_of(std::uint32_t rank, const std::vector<WorkClock>& clocks);
  [[nodiscard]] double slowdown_of(const SweepWindow& window) const;
  [[nodiscard]] core::Seconds cost_bound(const SweepWindow& window) const;
  void note_time(const SweepWindow& window, const std::map<RankId, WindowReport>& reports);
  void judge(std::uint32_t rank, const SweepWindow& window, const std::map<RankId, WindowReport>& reports,
             bool cut_short);
  void take(std::uint32_t rank, Visit& visit,
            const std::vector<const std::pair<const RankId, WindowReport>*>& good);
  void stop_where_energy_rises(std::uint32_t rank);
  [[nodiscard]] std::string name(std::uint32_t rank, const Visit& visit) const;
  void finish_batch(bool cut_short);

  std::vector<SweepRank> ranks_;
  ProfilingRequest request_;
  bool power_only_ = false;
  std::vector<RankSweep> state_;
  std::vector<SweepWindow> upcoming_;
  std::vector<SweepWindow> batch_;
  std::vector<std::map<RankId, WindowReport>> reports_;  ///< per window of the batch
  std::optional<core::Seconds> top_time_;
  std::uint32_t probes_ = 0;
  core::Seconds cost_;
  std::size_t windows_done_ = 0;
  std::vector<std::string> notes_;
  std::string failure_;
};

}  // namespace perseus::server
