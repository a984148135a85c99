// SPDX-License-Identifier: Apache-2.0
//
// All simulated GPUs of one machine. Their state lies in one file of shared memory, so that a training
// process, an agent and a monitor see the same GPUs; nothing runs in the background, and what a process set
// stays when it is gone.
//
//   PERSEUS_ASSIGN_OR_RETURN(Node node, Node::create("/dev/shm/node", spec));
//   node.lock_clock(0, 900, 900);                                         // as the driver does it
//   PERSEUS_ASSIGN_OR_RETURN(auto done, node.run(0, {.duration = Seconds{0.5}}));  // half a second at the
//   top clock done.energy;                                                          // what it drew
//   node.observe(0)->sm_clock;
//
// Time is CLOCK_MONOTONIC times the node's scale, from 0 at creation; or, with manual time, what
// advance_time() says. A process that is killed anywhere leaves every GPU's state whole and locks nobody out.
// All functions may be called by several threads and processes at a time; none blocks but run(), wait() and
// what the faults "slow" and "hang" delay.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/simgpu/fault.h"
#include "perseus/simgpu/spec.h"

namespace perseus::simgpu {

/// The environment variable that names the state file.
inline constexpr const char* kEnvironment = "PERSEUS_SIM";

/// What the driver answers to a call.
enum class Answer : std::uint8_t {
  kOk,
  kInvalidArgument,  ///< a clock outside the supported range, a lower bound above the upper one, no such GPU
  kNotSupported,     ///< MIG, a virtual GPU, no energy counter
  kNoPermission,
  kLost,
  kStale,    ///< the driver was reloaded since the caller started it
  kAbsent,   ///< the driver is not loaded, or the node was destroyed
  kTimeout,  ///< another process has held the GPU's lock for seconds: it is stopped inside a call
};
/// "ok", "invalid_argument", ...
[[nodiscard]] std::string_view answer_name(Answer answer);

/// What a GPU is.
struct Identity {
  std::uint32_t index = 0;
  std::string uuid;        ///< "GPU-xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx", from the seed
  std::string pci_bus_id;  ///< "00000000:07:00.0"
  std::string name;
};

/// One GPU at one moment, as it is: faults do not hide it.
struct Observation {
  std::int64_t time_ns = 0;  ///< simulated
  core::Megahertz sm_clock;
  std::optional<core::Megahertz> locked;      ///< upper bound of the clock lock, as the driver was told
  std::optional<core::Megahertz> locked_low;  ///< lower bound
  std::optional<core::Megahertz> application_clock;
  std::optional<core::Megahertz> memory_lock;
  core::Watts power;          ///< at this moment
  core::Watts average_power;  ///< over the last second that has ended, in steps of 0.1 s
  core::Joules energy;        ///< since creation, to this moment
  core::Joules counter;       ///< what the energy counter shows: whole millijoules, as of its last update
  std::uint32_t counter_restarts = 0;
  core::Celsius temperature;
  std::uint32_t reasons = 0;  ///< NVML's clocks event reasons
  double utilization = 0;     ///< share of the last second that has ended with work, 0 to 1
  core::Watts power_limit;    ///< as set
  core::Watts enforced_power_limit;
  bool persistence = true;
  std::vector<Fault> faults;
  std::uint64_t works_waiting = 0;  ///< the running one included
};

/// A computation. Its time at clock f is duration x ((1 - memory_bound) f_top / f + memory_bound).
struct Work {
  core::Seconds duration;   ///< at the top clock; 0 to 1e6 s
  double memory_bound = 0;  ///< share of the time at the top clock that does not scale with the clock, 0 to 1
  double utilization = 1;   ///< of the SMs' dynamic power, 0 to 1
  double memory_utilization = 0;  ///< of the memory's power, 0 to 1
};

/// What became of a computation.
struct Completion {
  std::int64_t begin_ns = 0, end_ns = 0;  ///< simulated
  core::Seconds time;
  core::Joules energy;  ///< of the whole GPU meanwhile
};

/// A process with a context on a GPU.
struct Process {
  pid_t pid = 0;
  std::uint64_t memory_bytes = 0;
};

/// What a setting call was.
enum class SettingCall : std::uint8_t {
  kLockClock,
  kResetClock,
  kLockMemoryClock,
  kResetMemoryClock,
  kApplicationClocks,
  kResetApplicationClocks,
  kPowerLimit,
  kPersistence,
};
[[nodiscard]] std::string_view setting_name(SettingCall call);

/// One setting call that has returned.
struct HistoryEntry {
  std::int64_t real_ns = 0;  ///< CLOCK_MONOTONIC when it took effect or was refused
  std::int64_t time_ns = 0;  ///< the same in simulated time
  pid_t pid = 0;
  SettingCall call = SettingCall::kLockClock;
  core::Megahertz low, high;  ///< as asked for; 0 where the call has none
  double value = 0;           ///< watts of kPowerLimit, 0 or 1 of kPersistence
  Answer answer = Answer::kOk;
};

/// A state file that this process has mapped. Movable; the mapping ends with it.
class Node {
 public:
  /// Makes the file. kBusy if `path` exists; kIo if it cannot be made; else as validate().
  [[nodiscard]] static core::Result<Node> create(const std::string& path, const NodeSpec& spec);
  /// kNotFound: no such file; kInvalidInput: it is no state file, is cut off, or is of an earlier boot;
  /// kUnsupported: of another version of Perseus; kPermission.
  [[nodiscard]] static core::Result<Node> open(const std::string& path);
  /// open() of the file that $PERSEUS_SIM names; kNotFound if it names none.
  [[nodiscard]] static core::Result<Node> open_environment();
  /// Removes the file. Whoever has it open sees a driver that is not loaded. Errors as open().
  [[nodiscard]] static core::Status destroy(const std::string& path);

  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  Node(Node&&) noexcept;
  Node& operator=(Node&&) noexcept;
  ~Node();

  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] std::uint32_t gpu_count() const;
  [[nodiscard]] std::uint64_t seed() const;
  [[nodiscard]] double time_scale() const;
  [[nodiscard]] bool manual_time() const;
  [[nodiscard]] std::string driver_version() const;
  /// `gpu` must be below gpu_count() here and everywhere; otherwise kInvalidInput, or
  /// Answer::kInvalidArgument.
  [[nodiscard]] core::Result<Identity> identity(std::uint32_t gpu) const;
  /// What the GPU was made of, times rounded to nanoseconds.
  [[nodiscard]] core::Result<GpuSpec> spec(std::uint32_t gpu) const;

  /// Simulated nanoseconds since creation.
  [[nodiscard]] std::int64_t now_ns() const;
  /// Moves a manual clock; no effect with real time. `by` >= 0.
  void advance_time(core::Seconds by);

  /// kTimeout if a stopped process holds the GPU's lock for 5 s.
  [[nodiscard]] core::Result<Observation> observe(std::uint32_t gpu) const;

  // As the driver does it: subject to faults, recorded in the history.
  /// Bounds in MHz within the supported range; between two steps the lower one counts (assumed).
  Answer lock_clock(std::uint32_t gpu, std::uint32_t low_mhz, std::uint32_t high_mhz);
  Answer reset_clock(std::uint32_t gpu);
  /// Recorded, without effect on the physics.
  Answer lock_memory_clock(std::uint32_t gpu, std::uint32_t low_mhz, std::uint32_t high_mhz);
  Answer reset_memory_clock(std::uint32_t gpu);
  /// An upper bound of the clock where no lock is.
  Answer set_application_clocks(std::uint32_t gpu, std::uint32_t memory_mhz, std::uint32_t mhz);
  Answer reset_application_clocks(std::uint32_t gpu);
  Answer set_power_limit(std::uint32_t gpu, core::Watts limit);
  Answer set_persistence(std::uint32_t gpu, bool on);

  /// What stands before every other call of a driver: waits as the faults say and answers kLost, kStale or
  /// kAbsent. `generation` is what generation() was when the caller started the driver.
  [[nodiscard]] Answer enter_call(std::uint32_t gpu, std::uint64_t generation) const;
  /// Counts driver reloads.
  [[nodiscard]] std::uint64_t generation() const;
  /// Whether the driver is loaded at this moment.
  [[nodiscard]] bool driver_loaded() const;

  /// Sets a fault. kInvalidInput for a value that the fault does not take.
  core::Status inject(std::uint32_t gpu, const Fault& fault);
  core::Status clear_fault(std::uint32_t gpu, FaultKind kind);
  core::Status clear_faults(std::uint32_t gpu);

  /// Puts a computation at the end of the GPU's queue and returns its number. Computations of a GPU run one
  /// after another. The caller's process appears among processes() while it has one queued; the driver drops
  /// those of dead processes. kDeviceLost; kLimit if 1,000 wait.
  [[nodiscard]] core::Result<std::uint64_t> enqueue(std::uint32_t gpu, const Work& work);
  /// The computation's end if it is over by now; nothing if it is not. kDeviceLost if it was dropped;
  /// kNotFound if no such one was queued, or over 1,000 came after it.
  [[nodiscard]] core::Result<std::optional<Completion>> poll(std::uint32_t gpu, std::uint64_t number) const;
  /// Sleeps until it is over. Errors as poll(), and kDeviceLost as soon as the GPU is lost.
  [[nodiscard]] core::Result<Completion> wait(std::uint32_t gpu, std::uint64_t number) const;
  /// enqueue() and wait().
  [[nodiscard]] core::Result<Completion> run(std::uint32_t gpu, const Work& work);

  /// Lists this process among those with a context; a second call changes the memory. kLimit if 32 are.
  core::Status attach_process(std::uint32_t gpu, std::uint64_t memory_bytes);
  core::Status detach_process(std::uint32_t gpu);
  /// Living processes with a context or with a computation in the queue, by pid.
  [[nodiscard]] core::Result<std::vector<Process>> processes(std::uint32_t gpu) const;

  /// Setting calls, oldest first; the last 4,000 are kept.
  [[nodiscard]] core::Result<std::vector<HistoryEntry>> history(std::uint32_t gpu) const;
  /// How many there were since creation.
  [[nodiscard]] core::Result<std::uint64_t> history_count(std::uint32_t gpu) const;

 private:
  class Impl;
  explicit Node(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace perseus::simgpu
