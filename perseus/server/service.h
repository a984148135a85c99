// SPDX-License-Identifier: Apache-2.0
//
// The server's logic: requests in, answers out, with the store, the planner and the clocks handed in. It runs
// on one thread and needs no lock; tests run it without a socket.
//
//   Service service(outside, {});
//   service.restore(snapshot);
//   service.handle(principal, request, [](HttpResponse answer) { ... });
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perseus/server/deployment.h"
#include "perseus/server/http_handler.h"
#include "perseus/server/job_state.h"
#include "perseus/server/json_text.h"
#include "perseus/server/log.h"
#include "perseus/server/measured_profile.h"
#include "perseus/server/planning.h"
#include "perseus/server/settings.h"
#include "perseus/server/store.h"
#include "perseus/server/tokens.h"

namespace perseus::server {

class ZeusRoutes;

/// What the service uses of the world. All callbacks given to it are called on the service's thread.
struct Outside {
  /// Makes changes durable, then tells whether that succeeded. Calls are answered in their order.
  std::function<void(std::vector<Change>, std::function<void(core::Status)>)> store;
  /// Runs `work` on some other thread, then `done`. Work must not touch the service. `run` is for what takes
  /// milliseconds, `run_long` for what may take minutes.
  std::function<void(std::function<void()> work, std::function<void()> done)> run, run_long;
  std::function<Moment()> now;            ///< monotonic, from 0 at the start of the process
  std::function<std::int64_t()> wall_ms;  ///< ms since 1970
  std::function<void(Moment)> wake;       ///< asks for a tick() at that moment or soon after
  Log* log = nullptr;
};

/// Counters since the start, for /metrics.
struct Counters {
  std::map<unsigned, std::uint64_t> responses;  ///< by status
  std::uint64_t repeated_messages = 0;          ///< late or duplicated
  std::uint64_t store_failures = 0;
  std::uint64_t planner_failures = 0;
  std::uint64_t polls_superseded = 0;
};

class Service final : public HttpHandler {
 public:
  Service(Outside outside, const JobSettings& settings, const Limits& limits = {});
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service() override;

  /// Takes over what the store holds; answers what could not be understood, one sentence each. To be called
  /// once, before anything else.
  std::vector<std::string> restore(const Snapshot& snapshot);
  void handle(const Principal& principal, HttpRequest request, Reply reply) override;
  /// Zeus's routes and nothing else; they know no tokens.
  void handle_zeus(HttpRequest request, Reply reply) override;
  [[nodiscard]] bool is_zeus(const Target& target) const override;
  [[nodiscard]] std::size_t body_limit(const Target& target) const override;
  [[nodiscard]] std::size_t body_limit_most() const override;
  /// Does what has become due.
  void tick();
  /// Answers all waiting polls and ends all solves, for a server that stops.
  void wind_up();

  /// Further facts for /metrics and /readyz, set by the process.
  std::function<std::size_t()> connections;
  std::vector<std::string> findings;  ///< what was set aside at the start

  /// What Zeus's routes need of a job.
  [[nodiscard]] const JobState* find_job(const std::string& name) const;
  [[nodiscard]] bool has_profile(const std::string& name) const;
  [[nodiscard]] Moment now() const override { return outside_.now(); }
  [[nodiscard]] std::int64_t wall_ms() const { return outside_.wall_ms(); }
  [[nodiscard]] Log& log() const { return *outside_.log; }

 private:
  struct Waiter {
    std::uint64_t incarnation = 0;
    std::uint64_t have = 0;  ///< revision
    std::uint64_t ticket = 0;
    Reply reply;
  };
  /// Where a job's sweep is between its last window and its plan.
  enum class SweepStage : std::uint8_t { kNone, kBeginning, kRunning, kMeasuring, kPlanning };
  struct Job {
    JobState state;
    std::string profile_csv;
    std::string profile_sha256;
    std::string profile_origin;          ///< "uploaded", "measured" or "reused"; empty: no profile
    std::optional<MeasuredFacts> facts;  ///< of a measured profile, or a measured blocking power
    SweepStage sweep_stage = SweepStage::kNone;
    std::string sweep_why;                ///< what the sweep that runs is for
    std::string reprofile_why;            ///< a new sweep is wanted: "drift ...", "guard ..."
    bool reuse_tried = false;             ///< no shared profile fits the ranks that are there
    std::string drift;                    ///< what was seen and not yet measured anew
    std::string sweep_error;              ///< why the last one came to nothing
    std::optional<Moment> next_sweep_at;  ///< not sooner
    std::uint64_t sweeps = 0;             ///< that have ended, since the server started
    core::Seconds sweep_cost;             ///< training time that these have cost
    std::string registration_body;
    std::map<RankId, Waiter> waiters;
    std::shared_ptr<SolveControl> solve;  ///< the solve that counts, while it waits or runs
    Moment solve_since;                   ///< when it was asked for
    bool deploying = false;
    bool committing = false;
    std::optional<Moment> retry_at;  ///< after a failure of planner or store
    std::optional<Moment> alarm;     ///< that is set
    std::optional<Savings> savings;  ///< of the deployment
    /// Body of the answer to polls, by (pipeline, rank of it); without operations for ranks that have them.
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::shared_ptr<const std::string>> plan_texts;
    bool was_live = false;
  };
  using JobPtr = std::shared_ptr<Job>;
  /// A change of one job that has to be durable before the next one begins.
  using Mutation = std::function<void(std::function<void()> finished)>;
  struct Alarm {
    std::string job;
    std::optional<RankId> rank;
    std::uint64_t ticket = 0;
  };

  // service.cc: order of changes, deploying, waiting
  void enqueue(const std::string& job, Mutation mutation);
  void run_next(const std::string& job);
  void start_solving(const JobPtr& job);
  void call_roll(Moment now);
  void advance(const JobPtr& job);
  void deploy(const JobPtr& job, const Wish& wish);
  void store_deployment(const JobPtr& job, const Wish& wish, Deployment deployment,
                        std::optional<Savings> savings);
  void commit(const JobPtr& job, std::uint64_t from_step);
  void publish(Job& job);
  void retry_later(Job& job, std::string_view what, const core::Error& error);
  void set_alarm(Job& job);
  std::shared_ptr<const std::string> plan_text(Job& job, const RankId& rank, bool with_operations) const;
  HttpResponse plan_response(Job& job, const RankId& rank, std::uint64_t have);
  [[nodiscard]] static bool visible(const Job& job, std::uint64_t incarnation);
  JobPtr restore_job(const JobRecord& record, std::vector<std::string>& findings_out);
  void restore_deployments(const Snapshot& snapshot, std::vector<std::string>& findings_out);
  void wait(Job& job, const RankId& rank, Waiter waiter, Moment until);

  // service_profiling.cc: from registered ranks to a measured profile
  enum class SweepGoal : std::uint8_t { kNone, kPower, kProfile };
  [[nodiscard]] static SweepGoal goal_of(const Job& job);
  void profile(const JobPtr& job);
  void begin_sweep(const JobPtr& job, SweepGoal goal);
  void end_sweep(const JobPtr& job, const Sweep& sweep);
  void take_measured(const JobPtr& job, const MeasuredProfile& measured);
  void sweep_failed(const JobPtr& job, const core::Error& error);
  void drop_sweep(Job& job) const;
  bool reuse_profile(const JobPtr& job);
  [[nodiscard]] std::string shared_key(const Job& job) const;
  void adopt_profile(const JobPtr& job, std::string csv, MeasuredFacts facts, const std::string& origin,
                     std::vector<Change> changes);
  void restore_sweeps(const Snapshot& snapshot, std::vector<std::string>& findings_out);
  // service_watch.cc: stragglers and drift that are seen in reports, guards that go off
  void watch(const JobPtr& job, const RankId& rank);
  void watch_straggler(const JobPtr& job, const RankId& rank);
  void put_detected(Job& job, const RankId& rank, const Verdict& verdict);
  void watch_drift(const JobPtr& job);
  void guard_tripped(const JobPtr& job, const RankId& rank);
  void want_profile(Job& job, std::string why);
  void post_window(const JobPtr& job, const RankId& rank, HttpRequest& request, const Reply& reply);

  // routes.cc: one function for each resource
  void route(const Principal& principal, HttpRequest& request, Reply& reply);
  void route_job(const Principal& principal, HttpRequest& request, Reply& reply);
  void route_part(const JobPtr& job, HttpRequest& request, const Reply& reply);
  void route_stragglers(const JobPtr& job, HttpRequest& request, const Reply& reply);
  void route_rank(const JobPtr& job, HttpRequest& request, Reply& reply);
  void take_hello(const JobPtr& job, const HttpRequest& request, const Reply& reply);
  void take_message(const JobPtr& job, const RankId& rank, HttpRequest& request, const Reply& reply);
  void list_jobs(const Principal& principal, const Reply& reply);
  void register_job(const std::string& name, HttpRequest& request, const Reply& reply);
  void store_registration(const std::string& name, const std::string& body, Registration registration,
                          const Reply& reply, const std::function<void()>& finished);
  void apply_registration(const std::string& name, std::string body, Registration registration,
                          const std::string& fence);
  void end_job(const JobPtr& job, const Reply& reply);
  void upload_profile(const JobPtr& job, HttpRequest& request, const Reply& reply);
  void store_profile(const JobPtr& job, const std::string& csv, const std::string& sha256,
                     const std::string& answer, const Reply& reply);
  void post_straggler(const JobPtr& job, HttpRequest& request, const Reply& reply);
  void delete_straggler(const JobPtr& job, const std::string& id, const Reply& reply);
  void get_frontier(const JobPtr& job, const Target& target, const Reply& reply) const;
  void get_plan_file(const JobPtr& job, const Target& target, const Reply& reply);
  void poll_plan(const JobPtr& job, const RankId& rank, const Target& target, const Reply& reply);
  void answer_message(Job& job, const core::Result<Applied>& applied, const Reply& reply);
  JobPtr job_named(const std::string& name) const;

  // views.cc: what is shown
  [[nodiscard]] std::string job_summary(const Job& job) const;
  [[nodiscard]] std::string job_detail(const Job& job) const;
  void append_summary(JsonText& out, const Job& job) const;
  void append_planner(JsonText& out, const Job& job) const;
  void append_profiling(JsonText& out, const Job& job) const;
  [[nodiscard]] std::string notices_json(const Job& job) const;
  // metrics.cc
  [[nodiscard]] std::string metrics_text() const;

  Outside outside_;
  JobSettings settings_;
  Limits limits_;
  std::map<std::string, JobPtr> jobs_;
  std::map<std::string, SharedRecord> shared_;  ///< by key
  std::map<std::string, std::deque<Mutation>> mutations_;
  std::multimap<Moment, Alarm> alarms_;
  Moment next_roll_call_;  ///< when jobs are next looked at for having fallen silent
  std::uint64_t next_ticket_ = 1;
  std::uint64_t next_notice_ = 1;
  Counters counters_;
  std::unique_ptr<ZeusRoutes> zeus_;
};

}  // namespace perseus::server
