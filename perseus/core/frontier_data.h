// SPDX-License-Identifier: Apache-2.0
//
// The durable form of a frontier: what solver/ makes, format/ stores, and solver/ resumes from. All corners
// of C(T), and every now and then the whole state of the search (a checkpoint), from which a plan for any
// target between two checkpoints follows by a short walk.
#pragma once

#include <cstdint>
#include <vector>

namespace perseus::core {

/// Numbers of one exact frontier. Units: ticks of 2^time_exponent s, flows of 2^power_exponent W. A plain
/// value; nothing here is validated (solver::Frontier::from_data does).
struct FrontierData {
  /// One corner of C(T).
  struct Corner {
    std::int64_t time = 0;   ///< ticks
    std::int64_t slope = 0;  ///< -dC/dT just below `time`; of the last corner (T_min): just above it
    friend bool operator==(const Corner&, const Corner&) = default;
  };
  /// One optimum of the solver's contracted network.
  struct Checkpoint {
    std::vector<std::int64_t> node_time;  ///< ticks, per node
    std::vector<std::int64_t> arc_flow;   ///< per arc
    std::vector<bool> sink_side;          ///< per node: which side of a minimum cut it is on
    friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
  };

  std::int32_t time_exponent = 0;
  std::int32_t power_exponent = 0;
  bool to_t_max = false;                ///< the corners reach from T_min to T_max; else to T*
  std::int64_t t_star = 0;              ///< ticks
  std::int64_t t_max = 0;               ///< ticks
  std::vector<Corner> corners;          ///< from slow to fast; the last is T_min
  std::vector<Checkpoint> checkpoints;  ///< from slow to fast; the first at or above the first corner
  friend bool operator==(const FrontierData&, const FrontierData&) = default;
};

}  // namespace perseus::core
