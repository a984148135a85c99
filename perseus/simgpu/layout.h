// SPDX-License-Identifier: Apache-2.0
//
// What the state file of a simulated machine holds. Every process of the machine maps it; this layout is
// private to the room, and its version is checked when a file is opened.
//
// A process may be killed between any two instructions. So each GPU has two copies of its state: a change is
// made in a private copy, written over the one that is not in use, and takes effect by one atomic store of
// `active`. Ring slots are written before the state that makes them count.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "perseus/simgpu/fault.h"

namespace perseus::simgpu {

inline constexpr std::uint64_t kMagic = 0x314D495353525045;  // "EPRSSIM1" in memory
inline constexpr std::uint32_t kLayoutVersion = 1;
inline constexpr std::size_t kMaxGpus = 64;
inline constexpr std::size_t kMaxClocks = 256;
inline constexpr std::size_t kMaxProcesses = 32;    // with a context on one GPU at a time
inline constexpr std::size_t kHistorySlots = 4096;  // of setting calls on one GPU
inline constexpr std::size_t kWorkSlots = 1024;     // waiting or finished computations of one GPU
inline constexpr std::size_t kTickSlots = 16;
inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t kTickNs = 100'000'000;  // energy and busy time are kept at these instants
inline constexpr std::int64_t kWindowTicks = 10;      // what averages are taken over: 1 s

/// What does not change after creation.
struct ClockRow {
  std::uint32_t mhz;
  std::uint32_t reserved;
  double dynamic_w;
  double static_w;
};
struct GpuConstants {
  std::array<char, 96> name;
  std::array<char, 96> uuid;
  std::array<char, 32> pci_bus_id;
  std::uint32_t pci_bus, pci_device_id;
  std::uint32_t clock_count;
  std::uint32_t memory_mhz;
  std::array<ClockRow, kMaxClocks> clocks;
  double idle_w, memory_w, power_limit_w, least_power_limit_w;
  double ambient_c, resistance_k_per_w, time_constant_s, reference_c, leakage_w_per_k, throttle_c,
      hysteresis_k;
  double latency_median_s, latency_sigma_targets, latency_sigma_switches, latency_least_s, latency_most_s;
  std::int64_t counter_period_ns, counter_phase_ns, idle_after_ns;
  std::uint64_t memory_bytes;
  std::uint64_t seed;  // of this GPU
  std::uint32_t architecture, capability_major, capability_minor;
  std::uint32_t power_usage_is_average;
};

/// A process with a context on the GPU. `start` is its start time in the kernel's ticks since boot, so that a
/// pid that is used again is not taken for it.
struct ProcessRow {
  std::int32_t pid;  // 0: free
  std::uint32_t reserved;
  std::uint64_t start;
  std::uint64_t memory_bytes;
};

/// All that changes. Holds at `base_ns`; what comes after follows from the formulas until the next event.
struct DeviceState {
  std::int64_t base_ns;
  double energy_j;  // since creation
  double busy_s;    // time with work, since creation
  double temperature_c;
  double counter_zero_j;  // energy_j when the counter last started from 0
  double counter_j;       // energy_j at the counter's last update
  std::uint32_t counter_restarts;
  std::uint32_t lock_min_mhz, lock_max_mhz;  // as the driver was told; 0: none
  std::uint32_t application_mhz;             // 0: none
  std::uint32_t memory_lock_mhz;             // 0: none
  std::uint32_t persistence;
  double power_limit_w;
  std::uint32_t limit;    // row of the highest clock that settings allow at this moment
  std::uint32_t pending;  // row that arrives at pending_ns
  std::int64_t pending_ns;
  std::uint64_t switches;    // that were asked for
  std::uint64_t head, tail;  // works head..tail-1 wait or run
  double remaining_s;        // of the work at head, in seconds at the top clock
  std::int64_t idle_ns;      // when the clock goes down; kNever while there is work or where it is down
  std::uint32_t idle;        // the clock is down
  std::uint32_t thermal;     // the driver holds the clock down because of heat
  std::int64_t tick;         // of the last entry of the two rings
  std::array<double, kTickSlots> tick_energy_j;
  std::array<double, kTickSlots> tick_busy_s;
  std::array<ProcessRow, kMaxProcesses> processes;
  std::uint64_t history_count;
  std::uint32_t fault_bits;  // of the lasting faults
  std::uint32_t reserved;
  std::array<double, kLastingFaults> fault_values;
  std::int64_t checked_real_ns;  // when dead processes were last looked for
};

/// One computation: asked for, and once `end_ns` is not kNever, finished or dropped.
struct WorkSlot {
  double seconds, memory_bound, utilization, memory_utilization;
  std::int32_t pid;
  std::uint32_t dropped;
  std::uint64_t start;  // of the process
  std::int64_t begin_ns, end_ns;
  double begin_energy_j, end_energy_j;
};

struct HistorySlot {
  std::int64_t real_ns, simulated_ns;
  std::int32_t pid;
  std::uint32_t call, result;
  std::uint32_t low_mhz, high_mhz;
  std::uint32_t reserved;
  double value;
};

struct DeviceShared {
  pthread_mutex_t mutex;
  std::atomic<std::uint32_t> active;
  std::atomic<std::uint32_t> event;  // counts changes; waiters sleep on it
  GpuConstants constants;
  std::array<DeviceState, 2> states;
  std::array<HistorySlot, kHistorySlots> history;
  std::array<WorkSlot, kWorkSlots> works;
};

struct NodeShared {
  std::atomic<std::uint64_t> magic;  // written last
  std::uint32_t version;
  std::uint32_t gpu_count;
  std::uint64_t bytes;  // of the whole file
  std::uint64_t seed;
  double time_scale;
  std::uint32_t manual_time;
  std::uint32_t reserved;
  std::int64_t origin_ns;                     // CLOCK_MONOTONIC at simulated time 0
  std::atomic<std::int64_t> manual_ns;        // the time where it is manual
  std::atomic<std::uint64_t> generation;      // of the driver: counts reloads
  std::atomic<std::int64_t> absent_until_ns;  // the driver is not loaded before this
  std::atomic<std::uint32_t> destroyed;
  std::uint32_t reserved2;
  std::array<char, 40> boot_id;
  std::array<char, 80> driver_version;
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<std::int64_t>::is_always_lock_free);
inline constexpr std::size_t kDevicesOffset = 4096;
static_assert(sizeof(NodeShared) <= kDevicesOffset);
[[nodiscard]] constexpr std::size_t file_bytes(std::size_t gpus) {
  return kDevicesOffset + gpus * sizeof(DeviceShared);
}

}  // namespace perseus::simgpu
