// SPDX-License-Identifier: Apache-2.0
//
// What a user asks for, from a job file or from flags, before anything is resolved.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/units.h"

namespace perseus::core {

/// Where an extra instruction of the profile (data loading, a collective) is put into a schedule.
enum class Position : std::uint8_t {
  kBeforeForward,   ///< ahead of every forward of the stage, one per microbatch
  kAfterForward,    ///< behind every forward
  kBeforeBackward,  ///< ahead of every B or I of the stage
  kAfterBackward,   ///< behind every B, or W where the backward is split
  kStart,           ///< once, first on the stage's rank
  kEnd,             ///< once, last on the stage's rank
};

/// One extra instruction on one stage.
struct Insert {
  std::string instruction;
  std::uint32_t stage = 0;
  Position position = Position::kBeforeForward;
};

/// A job as written. Absent = not given; the command line overrides the file key by key.
struct JobSpec {
  std::optional<std::string> profile;        ///< path of the profile CSV
  std::optional<std::string> schedule;       ///< name of a schedule
  std::optional<std::string> schedule_file;  ///< path of a schedule CSV, instead of a name
  std::optional<std::uint32_t> microbatches;
  std::optional<std::uint32_t> virtual_stages;
  std::optional<std::uint32_t> group_size;  ///< microbatch group of interleaved-1f1b; default pp
  std::optional<std::uint32_t> pipeline, tensor, data;
  std::optional<Watts> blocking_power;                    ///< of every rank
  std::map<std::uint32_t, Watts> blocking_power_of_rank;  ///< instead, rank by rank; complete
  std::optional<Seconds> p2p_lag;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Seconds> edge_lag;  ///< (from rank, to rank)
  std::vector<Insert> inserts;
  std::optional<std::string> fit;  ///< "none" or "convex"
};

}  // namespace perseus::core
