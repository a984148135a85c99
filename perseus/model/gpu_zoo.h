// SPDX-License-Identifier: Apache-2.0
//
// The GPUs that can be modelled: what their data sheets say, and what we assume about their power.
//
//   PERSEUS_ASSIGN_OR_RETURN(const GpuModel* gpu, find_gpu("a100-sxm-80g"));
//   supported_clocks(*gpu).front();  // 1410 MHz
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/model/figure.h"

namespace perseus::model {

/// One product. docs/model.md says how the figures act together; GpuField lists them with their meaning.
struct GpuModel {
  std::string_view name;
  std::string_view title;  ///< the vendor's name

  Figure clock_min, clock_max, clock_step;  ///< MHz
  Figure streaming_multiprocessors;
  Figure flop_per_clock;    ///< dense BF16 tensor FLOP of one SM in one clock
  Figure datasheet_flops;   ///< FLOP/s, what MFU is counted against
  Figure memory_bandwidth;  ///< B/s
  Figure power_limit;       ///< W
  Figure static_power;      ///< W: leakage, memory refresh, board; whatever the load
  Figure memory_power;      ///< W more at full memory bandwidth
  Figure dynamic_per_mhz;   ///< W/MHz of fully loaded SMs at the knee's voltage
  Figure knee_clock;        ///< MHz: up to here the voltage is at its floor
  Figure top_voltage;       ///< voltage at clock_max over that at the knee
  Figure gemm_efficiency;   ///< share of the clock's peak that a large GEMM reaches
  Figure attention_efficiency;
  Figure pair_bandwidth;     ///< B/s of all-reduce bus bandwidth between two GPUs
  Figure group_bandwidth;    ///< the same among more than two in one node
  Figure network_bandwidth;  ///< B/s that one GPU has to another node
  Figure blocking_power;     ///< W while waiting for a peer
};

/// One row of the documentation: a member with its name there.
struct GpuField {
  std::string_view name;
  Figure GpuModel::* member = nullptr;
};

/// All products, sorted by name. Static storage; thread-safe.
[[nodiscard]] std::span<const GpuModel> gpus();
/// All figures of a product in the order of the documentation.
[[nodiscard]] std::span<const GpuField> gpu_fields();

/// The product of that name; static storage, never null. Unknown: kInvalidInput with the nearest name and all
/// names.
core::Result<const GpuModel*> find_gpu(std::string_view name);

/// Every clock that the product supports, from the fastest down.
[[nodiscard]] std::vector<core::Megahertz> supported_clocks(const GpuModel& gpu);

/// Power of one GPU that waits for a peer inside a communication call; for `--blocking-power`.
[[nodiscard]] core::Watts blocking_power(const GpuModel& gpu);

}  // namespace perseus::model
