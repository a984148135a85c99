// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/generate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "perseus/core/profile.h"
#include "perseus/schedule/orders.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::ErrorCode;
using core::fail;
using core::Result;
using core::Status;

using RankOrder = std::vector<Computation> (*)(const Shape&, std::uint32_t rank);

/// Forwards that a rank runs while the first microbatch goes on to the last stage and back.
std::uint64_t hops_to_last(const Shape& shape, std::uint32_t rank) {
  return shape.pipeline - 1 - rank;
}

std::uint64_t other_chunks(const Shape& shape) {
  return std::uint64_t{shape.virtual_stages - 1} * shape.group_size;
}

std::vector<Computation> gpipe(const Shape& shape, std::uint32_t rank) {
  return one_forward_one_backward(shape, rank, {.warmup = shape.microbatches});
}

std::vector<Computation> plain_1f1b(const Shape& shape, std::uint32_t rank) {
  return one_forward_one_backward(shape, rank, {.warmup = hops_to_last(shape, rank)});
}

std::vector<Computation> interleaved_1f1b(const Shape& shape, std::uint32_t rank) {
  return one_forward_one_backward(shape, rank,
                                  {.warmup = other_chunks(shape) + 2 * hops_to_last(shape, rank)});
}

std::vector<Computation> early_recompute_1f1b(const Shape& shape, std::uint32_t rank) {
  return one_forward_one_backward(shape, rank,
                                  {.warmup = hops_to_last(shape, rank), .style = BackwardStyle::kRecompute});
}

/// zb-h1 and, with several chunks, interleaved-zero-bubble. A rank that warms up with fewer forwards may put
/// off as many weight gradients instead: each rank then holds the activations of as many microbatches as the
/// first.
std::vector<Computation> zero_bubble(const Shape& shape, std::uint32_t rank) {
  return one_forward_one_backward(shape, rank,
                                  {.warmup = other_chunks(shape) + hops_to_last(shape, rank),
                                   .style = BackwardStyle::kSplit,
                                   .weight_delay = rank});
}

struct Generator {
  KnownSchedule known;
  RankOrder order = nullptr;
  std::uint32_t per_microbatch = 2;         ///< computations of one microbatch on one stage, at most
  bool in_rounds = false;                   ///< microbatches pass through the chunks in equal groups
  std::uint32_t microbatches_per_rank = 0;  ///< the fewest microbatches are this many times the ranks
};

constexpr std::array kGenerators = {
    Generator{
        .known = {.name = "gpipe", .summary = "all forwards, then all backwards", .torch_name = "GPipe"},
        .order = gpipe},
    Generator{.known = {.name = "1f1b",
                        .summary = "one forward, one backward by turns (PipeDream-flush)",
                        .torch_name = "1F1B"},
              .order = plain_1f1b},
    Generator{.known = {.name = "interleaved-1f1b",
                        .summary = "1f1b over several model stages per rank (Megatron-Core's order)",
                        .default_virtual_stages = 2,
                        .any_virtual_stages = true,
                        .takes_group_size = true,
                        .torch_name = "Interleaved1F1B"},
              .order = interleaved_1f1b,
              .in_rounds = true},
    Generator{.known = {.name = "early-recompute-1f1b",
                        .summary = "1f1b with each activation recomputation ahead of its backward"},
              .order = early_recompute_1f1b,
              .per_microbatch = 3},
    Generator{
        .known =
            {.name = "zb-h1",
             .summary =
                 "split backward, weight gradients fill bubbles at 1f1b's peak memory (arXiv 2401.10241)"},
        .order = zero_bubble,
        .per_microbatch = 3},
    Generator{.known = {.name = "interleaved-zero-bubble",
                        .summary = "zb-h1 over several model stages per rank",
                        .default_virtual_stages = 2,
                        .any_virtual_stages = true,
                        .torch_name = "InterleavedZeroBubble"},
              .order = zero_bubble,
              .per_microbatch = 3,
              .in_rounds = true},
    Generator{.known = {.name = "zbv",
                        .summary = "zero bubble, the model folded into a V over the ranks (arXiv 2401.10241)",
                        .default_virtual_stages = 2,
                        .torch_name = "ZBVZeroBubble"},
              .order = zero_bubble_v,
              .per_microbatch = 3},
    Generator{.known = {.name = "dualpipev",
                        .summary = "DualPipe folded into a V: forwards overlapped with backwards",
                        .default_virtual_stages = 2,
                        .torch_name = "DualPipeV"},
              .order = dual_pipe_v,
              .per_microbatch = 3,
              .microbatches_per_rank = 2},
    Generator{.known = {.name = "looped-bfs",
                        .summary = "all microbatches through chunk after chunk (arXiv 2211.05953)",
                        .default_virtual_stages = 2,
                        .any_virtual_stages = true,
                        .torch_name = "LoopedBFS"},
              .order = looped_breadth_first},
};

constexpr auto kKnown = [] {
  std::array<KnownSchedule, kGenerators.size()> known{};
  for (std::size_t i = 0; i < known.size(); ++i) known[i] = kGenerators[i].known;
  return known;
}();

Result<Generator> find(const std::string& name) {
  const auto* found = std::ranges::find(kGenerators, name, [](const Generator& g) { return g.known.name; });
  if (found != kGenerators.end()) return *found;
  std::vector<std::string_view> names;
  names.reserve(kKnown.size());
  for (const KnownSchedule& k : kKnown) names.push_back(k.name);
  return fail(ErrorCode::kInvalidInput,
              fmt::format("schedule '{}' is unknown; known are {}", name, fmt::join(names, ", ")));
}

/// Grouping of the interleaved schedules where none is asked for: as many rounds of at least `pipeline`
/// microbatches as there can be, all of one size.
Result<std::uint32_t> default_group_size(std::string_view name, const Shape& shape) {
  const std::uint32_t rounds = std::max(1U, shape.microbatches / shape.pipeline);
  if (shape.microbatches % rounds == 0) return shape.microbatches / rounds;
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} with {} ranks runs {} microbatches in {} rounds, which must divide them", name,
                          shape.pipeline, shape.microbatches, rounds));
}

Status check_group_size(const Shape& shape, std::uint32_t group) {
  if (group > shape.microbatches) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("group size {} is more than the {} microbatches", group, shape.microbatches));
  }
  if (group < shape.pipeline && group != shape.microbatches) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("group size {} is less than the {} ranks: later chunks would "
                            "wait for the first",
                            group, shape.pipeline));
  }
  const std::uint32_t last = shape.microbatches % group;
  if (last != 0 && last < shape.pipeline) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format(
            "group size {} leaves a last group of {} microbatches; it must divide the {} microbatches "
            "or leave at least {} (the ranks)",
            group, last, shape.microbatches, shape.pipeline));
  }
  return {};
}

Status check_virtual_stages(const KnownSchedule& known, std::uint32_t asked) {
  if (known.any_virtual_stages || asked == 0 || asked == known.default_virtual_stages) return {};
  return fail(ErrorCode::kInvalidInput, fmt::format("virtual stages {}: {} has exactly {}", asked, known.name,
                                                    known.default_virtual_stages));
}

Status check_count(const Generator& generator, const Shape& shape) {
  // Each factor is bounded before the next product, so 64 bits hold them all.
  std::uint64_t count = generator.per_microbatch;
  for (const std::uint64_t factor : {shape.pipeline, shape.virtual_stages, shape.microbatches}) {
    if (factor > core::kMaxComputations / count) {
      return fail(
          ErrorCode::kLimit,
          fmt::format(
              "{} with pp {}, virtual stages {}, microbatches {} has more than {} computations, the limit",
              generator.known.name, shape.pipeline, shape.virtual_stages, shape.microbatches,
              core::kMaxComputations));
    }
    count *= factor;
  }
  return {};
}

Result<Shape> check(const Generator& generator, const Request& request) {
  const KnownSchedule& known = generator.known;
  if (request.pipeline == 0) return fail(ErrorCode::kInvalidInput, "0 pipeline ranks; at least 1 is needed");
  if (request.microbatches == 0)
    return fail(ErrorCode::kInvalidInput, "0 microbatches; at least 1 is needed");
  PERSEUS_RETURN_IF_ERROR(check_virtual_stages(known, request.virtual_stages));
  Shape shape{
      .pipeline = request.pipeline,
      .microbatches = request.microbatches,
      .virtual_stages = request.virtual_stages == 0 ? known.default_virtual_stages : request.virtual_stages,
      .group_size = request.microbatches};
  PERSEUS_RETURN_IF_ERROR(check_count(generator, shape));
  if (request.group_size != 0) {
    if (!known.takes_group_size) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("group size {}: {} takes none", request.group_size, known.name));
    }
    PERSEUS_RETURN_IF_ERROR(check_group_size(shape, request.group_size));
    shape.group_size = request.group_size;
  } else if (generator.in_rounds) {
    PERSEUS_ASSIGN_OR_RETURN(shape.group_size, default_group_size(known.name, shape));
  }
  const std::uint64_t fewest = std::uint64_t{generator.microbatches_per_rank} * shape.pipeline;
  if (shape.microbatches < fewest) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} microbatches: {} with {} ranks needs at least {} ({} per rank)", shape.microbatches,
                    known.name, shape.pipeline, fewest, generator.microbatches_per_rank));
  }
  return shape;
}

}  // namespace

std::span<const KnownSchedule> known_schedules() {
  return kKnown;
}

const KnownSchedule* find_schedule(std::string_view name) {
  const auto* found = std::ranges::find(kKnown, name, &KnownSchedule::name);
  return found == kKnown.end() ? nullptr : found;
}

Result<core::Schedule> generate(const Request& request) {
  PERSEUS_ASSIGN_OR_RETURN(const Generator generator, find(request.name));
  PERSEUS_ASSIGN_OR_RETURN(const Shape shape, check(generator, request));
  core::Schedule schedule;
  schedule.name = request.name;
  schedule.microbatches = shape.microbatches;
  schedule.virtual_stages = shape.virtual_stages;
  schedule.ranks.reserve(shape.pipeline);
  for (std::uint32_t rank = 0; rank < shape.pipeline; ++rank) {
    schedule.ranks.push_back(generator.order(shape, rank));
  }
  return schedule;
}

}  // namespace perseus::schedule
