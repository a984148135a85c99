// SPDX-License-Identifier: Apache-2.0
//
// One job as the server knows it: its incarnation, its ranks, who is slow, what is deployed and what should
// be. Pure: no I/O, no threads, no clock of its own; every method that needs the time is told it.
//
//   JobState job("gpt", registration, fence, settings);
//   job.set_solved(solved);
//   if (const auto wish = job.wish(now)) { ...make the plans, store them...; job.deploy(deployment, now); }
//   if (const auto step = job.commit_due(now)) { ...store...; job.commit(*step); }
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/server/detector.h"
#include "perseus/server/messages.h"
#include "perseus/server/names.h"
#include "perseus/server/planning.h"
#include "perseus/server/settings.h"
#include "perseus/server/sweep.h"
#include "perseus/server/target_policy.h"

namespace perseus::server {

/// What became of a message.
enum class Applied : std::uint8_t {
  kApplied,
  kRepeated,  ///< late, repeated or about something that is over: answered well, without effect
};

/// Mean of what a rank measured under the deployed generation.
struct RunningMean {
  std::uint64_t iterations = 0;
  double time_s = 0;
  std::uint64_t energy_iterations = 0;
  double energy_j = 0;
  void add(const Measurement& m);
};

/// Computations of one kind and stage that a rank measured under the deployed generation.
struct RunningTimes {
  std::uint64_t count = 0;
  double measured_s = 0;  ///< all together
  double expected_s = 0;  ///< of the same, as the plan says
};

/// One GPU of the job.
struct RankState {
  std::uint64_t sequence = 0;
  std::string gpu_uuid;
  std::vector<core::Megahertz> clocks;
  bool clock_control = true;     ///< false: it only writes down what it would set
  core::Seconds counter_period;  ///< of its energy counter; 0: unknown
  std::uint64_t step = 0;
  Moment last_seen;
  bool left = false;            ///< said goodbye
  std::uint64_t confirmed = 0;  ///< newest generation that it has
  RunningMean measured;
  std::map<Work, RunningTimes> kinds;
  double throttled = 0;  ///< share of samples in its last report
};

/// A straggler notice that counts until a moment.
struct ActiveNotice {
  StragglerNotice notice;
  Moment until;
};

/// A generation: what all ranks of the job are to run, from an agreed step on.
struct Deployment {
  std::uint64_t generation = 0;
  std::uint64_t incarnation = 0;
  std::string schedule_sha256;
  std::string reason;  ///< "fastest", "straggler", "recovered", "guard", "ended", "order changed", "profile"
  std::string profile_sha256;
  std::optional<Targets> targets;                      ///< absent: baseline clocks
  std::vector<std::shared_ptr<const PlanBody>> plans;  ///< per pipeline; empty: baseline clocks or windows
  std::vector<SweepWindow> windows;                    ///< of a sweep, in place of plans
  std::optional<std::uint64_t> from_step;              ///< agreed; absent: prepared only
  Moment since;

  [[nodiscard]] bool baseline() const { return plans.empty() && windows.empty(); }
  /// Rises with every change that a rank must hear of: prepared, then agreed.
  [[nodiscard]] std::uint64_t revision() const { return 2 * generation + (from_step ? 1 : 0); }
};

/// What should be deployed next.
struct Wish {
  std::string reason;
  std::optional<Targets> targets;    ///< absent: baseline clocks, or
  std::vector<SweepWindow> windows;  ///< a part of a sweep
  bool urgent = false;  ///< a speed-up or baseline: at the very next step, without waiting for ranks
};

/// A guard that went off.
struct GuardTrip {
  RankId rank;
  GuardReport report;
};

class JobState {
 public:
  JobState(std::string name, Registration registration, std::string fence, const JobSettings& settings);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Registration& registration() const { return registration_; }
  [[nodiscard]] const std::string& fence() const { return fence_; }
  [[nodiscard]] std::uint64_t incarnation() const { return registration_.incarnation; }

  /// Whether a registration is a repetition of the one that stands (false) or begins the next incarnation
  /// (true). kBusy: an incarnation that is over, or the present one with other content.
  [[nodiscard]] core::Result<bool> is_next(const Registration& registration, const std::string& fence) const;
  /// Begins the next incarnation: all ranks are new, nothing deployed is theirs. What was solved stays if
  /// only the incarnation differs; answers whether it has to be solved anew.
  bool begin_incarnation(Registration registration, std::string fence);

  /// Messages of ranks. kNotFound: a rank that is not registered (it should register again). kBusy: of
  /// another incarnation, with another order of computations, or a GPU that another live rank of the job has.
  /// kInvalidInput: no such place in the job.
  core::Result<Applied> hello(const RankHello& hello, Moment now);
  core::Result<Applied> renew(const RankId& rank, const Renewal& renewal, Moment now);
  core::Result<Applied> measure(const RankId& rank, const Measurement& measurement, Moment now);
  /// Also kRepeated, for nothing follows from it: while a rank has not heard of what is deployed. It runs
  /// something else and everybody may wait for it (RELIABILITY row 17). Ranks whose guard went off wait for
  /// the next generation, so the same targets are wished for once more as soon as all have heard.
  core::Result<Applied> guard(const RankId& rank, const GuardReport& report, Moment now);
  /// Whether window() would take the report: it has to be durable before it is taken.
  [[nodiscard]] core::Result<Applied> check_window(const RankId& rank, const WindowReport& report) const;
  core::Result<Applied> window(const RankId& rank, WindowReport report, Moment now);
  core::Result<Applied> leave(const RankId& rank, const Stamp& stamp, Moment now);
  /// A rank asks for plans and tells which generation it has and which step it is in. Counts as life.
  core::Status poll(const RankId& rank, std::uint64_t incarnation, std::uint64_t generation,
                    std::uint64_t step, Moment now);

  /// Stragglers. A notice replaces the one of its id. kInvalidInput: no such pipeline or rank.
  [[nodiscard]] core::Status check_notice(const StragglerNotice& notice) const;
  void put_notice(const std::string& id, StragglerNotice notice, Moment until);
  bool drop_notice(const std::string& id) { return notices_.erase(id) != 0; }
  /// Drops what is over; answers their ids.
  std::vector<std::string> expire_notices(Moment now);
  [[nodiscard]] const std::map<std::string, ActiveNotice>& notices() const { return notices_; }

  /// The planner's answers. A failure leaves everything that is deployed as it is (RELIABILITY row 30).
  void set_solved(std::shared_ptr<const Solved> solved);
  void set_planner_error(std::string reason) { planner_error_ = std::move(reason); }
  [[nodiscard]] const std::shared_ptr<const Solved>& solved() const { return solved_; }
  [[nodiscard]] const std::string& planner_error() const { return planner_error_; }

  /// A guard that went off while its stage ran as planned in the other pipelines: then its own pipeline is
  /// slow, not the plan wrong, and it is for the caller to make a straggler of it. Given once.
  [[nodiscard]] std::optional<GuardTrip> take_suspect() { return std::exchange(suspect_, std::nullopt); }
  /// The verdict on a rank from all reports so far, and whether a stage has drifted.
  [[nodiscard]] std::optional<Verdict> judge(const RankId& rank);
  [[nodiscard]] std::optional<Drift> drift() const { return detector_.drift(); }
  void forget_reports() { detector_.reset(); }

  /// The sweep that is under way. While there is one, nothing but baseline and its windows is wished for.
  [[nodiscard]] const std::optional<Sweep>& sweep() const { return sweep_; }
  /// Why no sweep can begin or go on; empty: one can.
  [[nodiscard]] std::string sweep_obstacle(Moment now) const;
  /// What the ranks offer: works and the clocks that all GPUs of each pipeline rank have in common.
  [[nodiscard]] std::vector<SweepRank> sweep_ranks() const;
  void begin_sweep(Sweep sweep) { sweep_.emplace(std::move(sweep)); }
  /// Takes over a sweep as it was stored. Its last batch, of `generation`, goes on if that is deployed.
  void restore_sweep(Sweep sweep, std::uint64_t generation);
  /// Closes the running batch if all live ranks have reported its last window, or are past it and nothing
  /// more has come for a while. Answers whether it did.
  bool close_batch(Moment now);
  void drop_sweep() { sweep_.reset(); }
  /// All ranks that are known write down what they would set, and there are some.
  [[nodiscard]] bool dry_run() const;

  void end() { ended_ = true; }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] const std::optional<GuardTrip>& guard_trip() const { return guard_; }
  /// Lets plans be deployed again after a guard went off.
  void release_guard() { guard_.reset(); }

  /// What should be deployed, if that is not what is.
  [[nodiscard]] std::optional<Wish> wish(Moment now) const;
  /// Why there is nothing to wish for is that a change has to wait until this moment, a notice ends then, or
  /// ranks have not confirmed by then.
  [[nodiscard]] std::optional<Moment> next_look(Moment now) const;
  /// The number that the next deployment must carry.
  [[nodiscard]] std::uint64_t next_generation() const { return last_generation_ + 1; }
  /// Keeps numbers rising after a restart in which a deployment could not be read.
  void skip_to_generation(std::uint64_t last) { last_generation_ = std::max(last_generation_, last); }
  /// The step at which an urgent deployment takes effect, were it deployed now.
  [[nodiscard]] std::uint64_t next_step() const { return ranks_.empty() ? 0 : newest_step_ + 1; }
  /// Makes it what is deployed. `changed`: it counts for the policy's hold; the first plan of all does not.
  void deploy(Deployment deployment, bool changed, Moment now);
  [[nodiscard]] const std::optional<Deployment>& deployment() const { return deployment_; }
  /// The agreed step, once all live ranks have confirmed a prepared generation or the deadline is over.
  [[nodiscard]] std::optional<std::uint64_t> commit_due(Moment now) const;
  void commit(std::uint64_t from_step);

  [[nodiscard]] const std::map<RankId, RankState>& ranks() const { return ranks_; }
  [[nodiscard]] bool live(const RankState& rank, Moment now) const {
    return !rank.left && now < rank.last_seen + settings_.rank_ttl;
  }
  [[nodiscard]] std::size_t live_count(Moment now) const;
  /// What is wanted by the notices that count; only with set_solved().
  [[nodiscard]] Targets wanted(Moment now) const;

 private:
  core::Result<RankState*> find(const RankId& rank, std::uint64_t incarnation);
  core::Status check_incarnation(std::uint64_t incarnation) const;
  core::Status check_place(const RankId& rank) const;
  /// Notes a message of a known rank; kRepeated if it is not newer than the last one.
  core::Result<Applied> note(const RankId& rank, const Stamp& stamp, Moment now, RankState*& state);
  void advance(RankState& rank, std::uint64_t step, Moment now);
  /// So many steps may be over since the newest one was reported: no iteration is shorter than T_min.
  [[nodiscard]] std::uint64_t steps_since_newest(Moment now) const;
  void confirm(const RankId& id, RankState& rank, std::uint64_t generation);
  /// Some rank that has not left has not confirmed what is deployed.
  [[nodiscard]] bool someone_behind() const;
  [[nodiscard]] bool deployment_fits() const;
  [[nodiscard]] std::optional<Wish> sweep_wish(const Sweep& sweep, Moment now) const;
  /// The sweep, if the deployment is its running batch and its step is agreed; else nullptr.
  [[nodiscard]] const Sweep* running_sweep() const;

  std::string name_;
  Registration registration_;
  std::string fence_;
  JobSettings settings_;
  TargetPolicy policy_;
  std::map<RankId, RankState> ranks_;
  std::map<std::string, RankId> rank_of_gpu_;
  std::uint64_t newest_step_ = 0;
  Moment newest_step_at_;  ///< when some rank was last known to be in it
  std::map<std::string, ActiveNotice> notices_;
  std::shared_ptr<const Solved> solved_;
  std::string planner_error_;
  std::optional<GuardTrip> guard_;
  std::optional<GuardTrip> suspect_;
  std::map<std::uint32_t, Moment> suspected_;  ///< pipelines whose guard made stragglers of them, and when
  bool deploy_again_ = false;                  ///< a guard went off while some rank was behind
  bool ended_ = false;
  std::uint64_t last_generation_ = 0;
  std::optional<Deployment> deployment_;
  Detector detector_;
  std::optional<Sweep> sweep_;
  std::uint64_t sweep_generation_ = 0;  ///< of its running batch
  std::optional<Moment> past_batch_;    ///< when some rank was first seen behind the last window
  std::set<RankId> unconfirmed_;        ///< of the deployment: live ranks that have not confirmed it
};

}  // namespace perseus::server
