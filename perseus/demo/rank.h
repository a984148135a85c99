// SPDX-License-Identifier: Apache-2.0
//
// One rank of the simulated training job: one process, one simulated GPU, real sockets to its neighbours, and
// the hooks of perseus/client/perseus.h where a framework has them. What it computes is simulated, what it
// waits for is not.
//
//   RankOptions options{.place = {.folder = "/tmp/job", .pipelines = 2, .stages = 4, .stage = 3}, ...};
//   PERSEUS_ASSIGN_OR_RETURN(auto rank, join_training(options));
//   PERSEUS_RETURN_IF_ERROR(rank->train(stop, [](const std::string& line) { std::puts(line.c_str()); }));
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/demo/mesh.h"

namespace perseus::demo {

/// What one stage computes for a microbatch, at the top clock.
struct StageWork {
  core::Seconds forward{0.4}, backward{0.8};  ///< simulated
  double memory_bound = 0;        ///< share of the time that does not scale with the clock, 0 to 1
  double utilization = 0.8;       ///< of the SMs' dynamic power, 0 to 1
  double memory_utilization = 0;  ///< of the memory's power, 0 to 1

  friend bool operator==(const StageWork&, const StageWork&) = default;
};

/// What a rank does beside training, for tests of faults.
enum class ActionKind : std::uint8_t {
  kPause,    ///< waits between two steps: a checkpoint
  kStall,    ///< waits in the middle of a step, without a hook: garbage collection, a hanging collective
  kExtra,    ///< announces computations that no schedule has
  kMissing,  ///< does not announce its first forward and its first backward
  kReorder,  ///< announces microbatches 0 and 1 in each other's place
};

/// Of one step.
struct Action {
  ActionKind kind = ActionKind::kPause;
  std::uint64_t step = 0;
  double seconds = 0;  ///< real ones, of kPause and kStall
  friend bool operator==(const Action&, const Action&) = default;
};

/// Reads "12=pause:0.5", "12=stall:30", "12=extra", "12=missing", "12=reorder". kUsage.
[[nodiscard]] core::Result<Action> parse_action(std::string_view text);

struct RankOptions {
  Place place;
  std::string job = "demo";
  std::uint64_t incarnation = 1;
  std::uint32_t microbatches = 6;
  std::uint32_t gpu = 0;         ///< index in the simulated node that PERSEUS_SIM names
  std::string fingerprint;       ///< empty: none
  double blocking_power_w = -1;  ///< of the waiting GPU, in real time; negative: the server measures it
  StageWork work;
  std::uint64_t steps = 0;  ///< 0: until somebody stops one of the ranks
  std::vector<Action> actions;
  core::Seconds patience{30};  ///< for all ranks to come
};

/// A rank whose job has come together.
class TrainingRank {
 public:
  TrainingRank() = default;
  TrainingRank(const TrainingRank&) = delete;
  TrainingRank& operator=(const TrainingRank&) = delete;
  virtual ~TrainingRank() = default;
  /// Trains until the steps are over or any rank of the job is asked to stop, whose step is then finished
  /// first. Tells what happens as lines of JSON: "joined", one "step" for each, "end". kIo: another rank is
  /// gone; kDeviceLost. Once, on the thread that joined.
  [[nodiscard]] virtual core::Status train(const std::atomic<bool>& stop,
                                           const std::function<void(const std::string&)>& tell) = 0;
};

/// Opens the GPU and Perseus, which finds in its environment all else that it wants to know (docs/client.md),
/// and waits for the other ranks. kNotFound: no simulated node; kInvalidInput: options that Perseus refuses;
/// kTimeout, kIo.
[[nodiscard]] core::Result<std::unique_ptr<TrainingRank>> join_training(RankOptions options);

}  // namespace perseus::demo
