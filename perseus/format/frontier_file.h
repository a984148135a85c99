// SPDX-License-Identifier: Apache-2.0
//
// The compact frontier, frontier.perseus: an exact frontier with the whole job that it belongs to, so that a
// plan for any target needs no other file and no new search.
//
//   PERSEUS_ASSIGN_OR_RETURN(std::string bytes, write_frontier_file(problem, frontier.data(), "none"));
//   PERSEUS_ASSIGN_OR_RETURN(StoredFrontier stored, parse_frontier_file(bytes, "frontier.perseus"));
//   PERSEUS_ASSIGN_OR_RETURN(auto frontier, solver::Frontier::from_data(stored.problem, stored.data));
//
// Layout, version 1, everything little endian:
//   8 bytes   "PERSEUSF"
//   4 bytes   version
//   job       fit; schedule name; schedule as CSV; profile as CSV; tensor, data; blocking power per rank; P2P
//   lag;
//             lags of single rank pairs
//   frontier  exponents, landmarks, corners, checkpoints
//   32 bytes  SHA-256 of all before
// Counts and whole numbers are LEB128 varints (signed ones in zigzag form), texts are a count and that many
// bytes, real numbers are 8 bytes. Corners are differences to the corner before, checkpoints to the
// checkpoint before. A problem is stored by what it was built from, so reading one goes through the same
// checks as a new job.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "perseus/core/frontier_data.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::format {

/// Largest file. 16 x 512 takes some MB; this leaves room for the largest job that fits a machine's memory.
inline constexpr std::size_t kMaxFrontierBytes = std::size_t{1} << 30;
/// Version that this build writes, and the only one that it reads.
inline constexpr std::uint32_t kFrontierVersion = 1;

/// What a file holds. `data` has passed the checksum and nothing else: solver::Frontier::from_data judges it.
struct StoredFrontier {
  core::Problem problem;
  core::FrontierData data;
  std::string
      fit;  ///< the fit that the profile went through ("none", "convex"); the profile is the fitted one
};

/// The file's bytes; equal input gives equal bytes. kInternal if SHA-256 is not to be had, kLimit above
/// kMaxFrontierBytes.
[[nodiscard]] core::Result<std::string> write_frontier_file(const core::Problem& problem,
                                                            const core::FrontierData& data,
                                                            const std::string& fit);

/// Reads a file. Memory stays proportional to the bytes. Refused (kInvalidInput): another kind of file,
/// another version, a checksum that does not fit (cut off or damaged), a job that could not be built. Pure;
/// thread-safe.
[[nodiscard]] core::Result<StoredFrontier> parse_frontier_file(std::string_view bytes,
                                                               const std::string& source);

}  // namespace perseus::format
