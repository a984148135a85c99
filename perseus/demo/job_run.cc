// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/job_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "perseus/format/json_reader.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr std::size_t kMaxLine = 4096;
constexpr std::int64_t kMostWhole = 9'007'199'254'740'991;
constexpr std::size_t kMaxMembers = 64;
/// For the ranks to finish their step and say goodbye. Assumed.
constexpr std::chrono::milliseconds kFinish{15'000};

std::vector<std::string> rank_arguments(const Site& site, const JobSetup& setup, std::uint32_t pipeline,
                                        std::uint32_t stage) {
  const StageWork& work = setup.workload.stages[stage];
  const auto number = [](double value) { return fmt::format("{}", value); };
  return {site.options().rank,
          "--folder",
          site.folder(),
          "--job",
          setup.name,
          "--pipelines",
          std::to_string(setup.shape.pipelines),
          "--stages",
          std::to_string(setup.shape.stages),
          "--pipeline",
          std::to_string(pipeline),
          "--stage",
          std::to_string(stage),
          "--gpu",
          std::to_string(pipeline * setup.shape.stages + stage),
          "--microbatches",
          std::to_string(setup.shape.microbatches),
          "--forward",
          number(work.forward.value()),
          "--backward",
          number(work.backward.value()),
          "--memory-bound",
          number(work.memory_bound),
          "--utilization",
          number(work.utilization),
          "--memory-utilization",
          number(work.memory_utilization)};
}

}  // namespace

core::Result<RankEvent> parse_rank_event(std::string_view line) {
  format::JsonReader json(line, "a rank");
  PERSEUS_RETURN_IF_ERROR(json.check(kMaxLine, "line"));
  RankEvent event;
  const auto whole = [&](auto& to) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, kMostWhole));
    to = static_cast<std::remove_reference_t<decltype(to)>>(value);
    return {};
  };
  PERSEUS_RETURN_IF_ERROR(json.map(kMaxMembers, [&](const std::string& name) -> core::Status {
    if (name == "pipeline") return whole(event.pipeline);
    if (name == "stage") return whole(event.stage);
    if (name == "step") return whole(event.step);
    if (name == "generation") return whole(event.generation);
    if (name == "guard_trips") return whole(event.guard_trips);
    if (name != "event") return json.skip_value();
    PERSEUS_ASSIGN_OR_RETURN(event.event, json.string());
    return {};
  }));
  return event;
}

core::Result<std::unique_ptr<JobRun>> JobRun::start(Site& site, const JobSetup& setup, Meter& meter,
                                                    bool with_perseus) {
  meter.restart();
  std::unique_ptr<JobRun> run(new JobRun(site, meter, setup.shape.stages));
  for (std::uint32_t pipeline = 0; pipeline < setup.shape.pipelines; ++pipeline) {
    for (std::uint32_t stage = 0; stage < setup.shape.stages; ++stage) {
      const std::string name = fmt::format("rank-{}.{}", pipeline, stage);
      PERSEUS_ASSIGN_OR_RETURN(Child child,
                               Child::start({.name = name,
                                             .arguments = rank_arguments(site, setup, pipeline, stage),
                                             .environment = site.rank_environment(with_perseus),
                                             .log = site.log_of(name)}));
      run->ranks_.push_back(std::move(child));
      run->latest_.push_back({.event = {}, .pipeline = pipeline, .stage = stage});
    }
  }
  return run;
}

core::Result<bool> JobRun::turn(std::chrono::milliseconds limit) {
  std::vector<pollfd> entries;
  entries.reserve(ranks_.size());
  for (Child& rank : ranks_) {
    // poll() passes over a negative descriptor: what has ended would wake it without end.
    const bool over = finishing_ && rank.ended();
    entries.push_back({.fd = over ? -1 : rank.out_fd(), .events = POLLIN, .revents = 0});
  }
  static_cast<void>(::poll(entries.data(), entries.size(), static_cast<int>(limit.count())));
  bool step_ended = false;
  core::Status trouble;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if ((entries[i].revents & POLLIN) == 0) continue;
    ranks_[i].read_lines([&](const std::string& line) {
      if (trouble) trouble = take(i, line, step_ended);
    });
  }
  PERSEUS_RETURN_IF_ERROR(trouble);
  if (!finishing_) PERSEUS_RETURN_IF_ERROR(check_ends());
  return step_ended;
}

core::Status JobRun::take(std::size_t rank, const std::string& line, bool& step_ended) {
  PERSEUS_ASSIGN_OR_RETURN(RankEvent event, parse_rank_event(line));
  const bool root_step = event.event == "step" && rank == 0;
  if (root_step) {
    PERSEUS_RETURN_IF_ERROR(meter_.boundary(event.step, event.generation));
    steps_ = event.step + 1;
    step_ended = true;
  }
  if (event.event == "step") latest_[rank] = std::move(event);
  return {};
}

core::Status JobRun::check_ends() {
  PERSEUS_RETURN_IF_ERROR(site_.check());
  // The others end because the first one did: the one that was killed, or has most to say, is the culprit.
  std::vector<Child*> gone;
  for (Child& rank : ranks_) {
    if (rank.ended()) gone.push_back(&rank);
  }
  if (gone.empty()) return {};
  const auto killed = std::ranges::find_if(gone, [](Child* child) { return WIFSIGNALED(*child->ended()); });
  Child* culprit = killed != gone.end() ? *killed : gone.front();
  return core::fail(ErrorCode::kIo, culprit->obituary());
}

core::Status JobRun::finish() {
  finishing_ = true;
  for (const Child& rank : ranks_) rank.signal(SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + kFinish;
  const auto all_ended = [&] {
    return std::ranges::all_of(ranks_, [](Child& rank) { return rank.ended().has_value(); });
  };
  while (!all_ended() && std::chrono::steady_clock::now() < deadline) {
    PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const bool news, turn(std::chrono::milliseconds(20)));
  }
  for (Child& rank : ranks_) {
    if (!rank.stop(std::chrono::milliseconds(0))) return core::fail(ErrorCode::kIo, rank.obituary());
  }
  return {};
}

std::uint64_t JobRun::guard_trips() const {
  std::uint64_t trips = 0;
  for (const RankEvent& rank : latest_) trips += rank.guard_trips;
  return trips;
}

}  // namespace perseus::demo
