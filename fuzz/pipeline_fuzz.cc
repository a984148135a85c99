// SPDX-License-Identifier: Apache-2.0
//
// Any schedule at all into Pipeline::build: it must refuse it with a message or return a DAG whose
// topological order is one. Bytes: pp, virtual stages, microbatches, then six bytes per computation (rank,
// kind, stage, microbatch, stage_b, microbatch_b).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "perseus/core/pipeline.h"
#include "perseus/core/schedule.h"

namespace {

using perseus::core::ComputationId;
using perseus::core::Edge;
using perseus::core::Kind;
using perseus::core::Pipeline;
using perseus::core::Schedule;

constexpr std::size_t kHeader = 3;      // bytes
constexpr std::size_t kRecord = 6;      // bytes per computation
constexpr std::uint8_t kKinds = 7;      // values of Kind
constexpr std::uint8_t kMaxDegree = 8;  // keeps one run short; larger schedules are no different

Schedule decode(const std::uint8_t* data, std::size_t size) {
  Schedule schedule;
  schedule.name = "fuzz";
  schedule.ranks.resize(data[0] % (kMaxDegree + 1));
  schedule.virtual_stages = data[1] % (kMaxDegree + 1);
  schedule.microbatches = data[2];
  schedule.instructions = {"load"};
  for (std::size_t at = kHeader; at + kRecord <= size && !schedule.ranks.empty(); at += kRecord) {
    const std::uint8_t* record = data + at;
    schedule.ranks[record[0] % schedule.ranks.size()].push_back(
        {.kind = static_cast<Kind>(record[1] % kKinds),
         .stage = record[2],
         .microbatch = record[3],
         .stage_b = record[4],
         .microbatch_b = record[5]});
  }
  return schedule;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const Pipeline& pipeline) {
  std::vector<std::uint32_t> position(pipeline.size(), pipeline.size());
  std::uint32_t next = 0;
  for (const ComputationId i : pipeline.topological_order()) {
    require(i < pipeline.size() && position[i] == pipeline.size());
    position[i] = next++;
  }
  require(next == pipeline.size());
  for (const Edge& edge : pipeline.edges()) {
    require(position[edge.from] < position[edge.to]);
    require(edge.cross_rank == (pipeline.rank_of(edge.from) != pipeline.rank_of(edge.to)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHeader) return 0;
  const auto pipeline = Pipeline::build(decode(data, size));
  if (pipeline) {
    check(*pipeline);
  } else {
    require(!pipeline.error().message().empty());
  }
  return 0;
}
