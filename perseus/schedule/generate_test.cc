// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "perseus/core/pipeline.h"
#include "perseus/core/profile.h"
#include "perseus/schedule/unit_time.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::ErrorCode;
using core::Kind;
using core::Pipeline;
using core::Schedule;
using testing::ElementsAre;

Schedule make(const Request& request) {
  auto schedule = generate(request);
  EXPECT_TRUE(schedule.has_value()) << schedule.error().text();
  return schedule.value_or(Schedule{});
}

std::string cells(const Schedule& schedule, std::uint32_t rank) {
  std::string text;
  for (const Computation& c : schedule.ranks.at(rank)) {
    text += (text.empty() ? "" : " ") + core::to_string(schedule, c);
  }
  return text;
}

/// Most microbatches of one rank (times its stages) between a forward and the end of its backward.
std::int64_t peak_in_flight(const std::vector<Computation>& order) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> split;
  for (const Computation& c : order) {
    if (c.kind == Kind::kBackwardWeight) split.emplace(c.stage, c.microbatch);
  }
  std::int64_t now = 0;
  std::int64_t peak = 0;
  for (const Computation& c : order) {
    if (c.kind == Kind::kForward) peak = std::max(peak, ++now);
    if (c.kind == Kind::kBackward || c.kind == Kind::kBackwardWeight) --now;
  }
  EXPECT_EQ(now, 0);
  return peak;
}

std::vector<Request> grid() {
  std::vector<Request> requests;
  for (const KnownSchedule& known : known_schedules()) {
    for (std::uint32_t p = 1; p <= 8; ++p) {
      for (std::uint32_t m = 1; m <= 20; ++m) {
        for (std::uint32_t v = 1; v <= 4; ++v) {
          if (!known.any_virtual_stages && v != known.default_virtual_stages) continue;
          requests.push_back(
              {.name = std::string(known.name), .pipeline = p, .microbatches = m, .virtual_stages = v});
        }
      }
    }
  }
  return requests;
}

TEST(Generate, EveryScheduleCanRun) {
  std::map<std::string, int> made;
  for (const Request& request : grid()) {
    auto schedule = generate(request);
    if (!schedule) continue;
    EXPECT_EQ(schedule->name, request.name);
    EXPECT_EQ(schedule->pipeline(), request.pipeline);
    EXPECT_EQ(schedule->microbatches, request.microbatches);
    EXPECT_EQ(schedule->virtual_stages, request.virtual_stages);
    const auto pipeline = Pipeline::build(*std::move(schedule));
    EXPECT_TRUE(pipeline.has_value())
        << request.name << " pp=" << request.pipeline << " m=" << request.microbatches
        << " v=" << request.virtual_stages << ": " << pipeline.error().text();
    ++made[request.name];
  }
  // 8 rank counts, 20 microbatch counts, 1 or 4 virtual stage counts; refusals as PyTorch's (see the recorded
  // orders).
  const std::map<std::string, int> expected = {
      {"1f1b", 160},
      {"dualpipev", 96},
      {"early-recompute-1f1b", 160},
      {"gpipe", 160},
      {"interleaved-1f1b", 4 * 121},
      {"interleaved-zero-bubble", 4 * 121},
      {"looped-bfs", 4 * 160},
      {"zb-h1", 160},
      {"zbv", 160},
  };
  EXPECT_EQ(made, expected);
}

TEST(Generate, GroupsOfMicrobatchesCanRun) {
  int made = 0;
  for (std::uint32_t p = 1; p <= 6; ++p) {
    for (std::uint32_t m = 1; m <= 20; ++m) {
      for (std::uint32_t g = 1; g <= m + 1; ++g) {
        for (std::uint32_t v = 1; v <= 3; ++v) {
          auto schedule = generate({.name = "interleaved-1f1b",
                                    .pipeline = p,
                                    .microbatches = m,
                                    .virtual_stages = v,
                                    .group_size = g});
          const bool one_group = g == m;
          const bool fits = g >= p && g <= m && (m % g == 0 || m % g >= p);
          ASSERT_EQ(schedule.has_value(), one_group || fits) << "pp=" << p << " m=" << m << " g=" << g;
          if (!schedule) continue;
          const auto pipeline = Pipeline::build(*std::move(schedule));
          EXPECT_TRUE(pipeline.has_value())
              << "pp=" << p << " m=" << m << " g=" << g << pipeline.error().text();
          ++made;
        }
      }
    }
  }
  EXPECT_GT(made, 1000);
}

// Megatron-Core's schedule for 2 ranks, 2 chunks, 4 microbatches, groups of 2, checked by hand from its
// schedule table.
TEST(Generate, InterleavedIsMegatrons) {
  const Schedule schedule = make(
      {.name = "interleaved-1f1b", .pipeline = 2, .microbatches = 4, .virtual_stages = 2, .group_size = 2});
  EXPECT_EQ(cells(schedule, 0), "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3");
  EXPECT_EQ(cells(schedule, 1), "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3");
}

// Groups of 3, the last of 2: Megatron-Core allows a smaller last group that still covers the ranks.
TEST(Generate, LastGroupMayBeSmaller) {
  const Schedule schedule = make(
      {.name = "interleaved-1f1b", .pipeline = 2, .microbatches = 5, .virtual_stages = 2, .group_size = 3});
  EXPECT_EQ(cells(schedule, 1),
            "1F0 1F1 1F2 3F0 3B0 3F1 3B1 3F2 3B2 1F3 1B0 1F4 1B1 3F3 1B2 3F4 3B3 3B4 1B3 1B4");
}

TEST(Generate, DefaultsAreTheTables) {
  for (const KnownSchedule& known : known_schedules()) {
    const Schedule schedule = make({.name = std::string(known.name), .pipeline = 2, .microbatches = 4});
    EXPECT_EQ(schedule.virtual_stages, known.default_virtual_stages) << known.name;
    EXPECT_EQ(find_schedule(known.name), &known);
    EXPECT_FALSE(known.summary.empty());
  }
  EXPECT_EQ(find_schedule("1F1B"), nullptr);
}

TEST(Generate, FewerMicrobatchesThanRanks) {
  const Schedule schedule = make({.name = "1f1b", .pipeline = 4, .microbatches = 2});
  EXPECT_EQ(cells(schedule, 0), "0F0 0F1 0B0 0B1");
  EXPECT_EQ(cells(schedule, 2), "2F0 2F1 2B0 2B1");
  EXPECT_EQ(cells(schedule, 3), "3F0 3B0 3F1 3B1");
}

// arXiv 2401.10241, figure 3 (top): ZB-H1 with 4 ranks and 8 microbatches.
TEST(Generate, ZeroBubbleH1IsThePapers) {
  const Schedule schedule = make({.name = "zb-h1", .pipeline = 4, .microbatches = 8});
  EXPECT_EQ(
      cells(schedule, 0),
      "0F0 0F1 0F2 0F3 0I0 0W0 0F4 0I1 0W1 0F5 0I2 0W2 0F6 0I3 0W3 0F7 0I4 0W4 0I5 0W5 0I6 0W6 0I7 0W7");
  EXPECT_EQ(
      cells(schedule, 3),
      "3F0 3I0 3F1 3I1 3F2 3I2 3F3 3I3 3W0 3F4 3I4 3W1 3F5 3I5 3W2 3F6 3I6 3W3 3F7 3I7 3W4 3W5 3W6 3W7");
}

// arXiv 2401.10241, tables 1 and 2: (p-1)(T_F + T_B - T_W) for ZB-H1, where a weight gradient is no longer
// than a forward or an input gradient (it fills their gaps), and (p-1)(T_F + T_B + T_W) for 1F1B.
TEST(Generate, BubblesAreAsPublished) {
  for (const std::uint32_t p : {1U, 2U, 3U, 4U, 8U}) {
    for (const std::uint32_t m : {p, p + 1, 2 * p, 3 * p + 1}) {
      const Pipeline h1 = *Pipeline::build(make({.name = "zb-h1", .pipeline = p, .microbatches = m}));
      const Pipeline plain = *Pipeline::build(make({.name = "1f1b", .pipeline = p, .microbatches = m}));
      for (const auto& [f, b, w] :
           {std::tuple{1U, 1U, 1U}, std::tuple{1U, 2U, 1U}, std::tuple{3U, 2U, 2U}, std::tuple{2U, 3U, 1U}}) {
        const UnitTimes times{.forward = f, .backward = b + w, .backward_input = b, .backward_weight = w};
        const std::uint64_t work = std::uint64_t{m} * (f + b + w);
        EXPECT_EQ(run_in_units(h1, times).end - work, (p - 1) * (f + b - w)) << "pp=" << p << " m=" << m;
        EXPECT_EQ(run_in_units(plain, times).end - work, (p - 1) * (f + b + w)) << "pp=" << p << " m=" << m;
      }
    }
  }
}

// arXiv 2401.10241, section 2.1: ZB-H1 keeps as many microbatches in flight on each rank as 1F1B does on the
// first.
TEST(Generate, PeakMemoryIsAsPublished) {
  for (const std::uint32_t p : {1U, 2U, 4U, 7U}) {
    for (const std::uint32_t m : {1U, 3U, p, 2 * p, 3 * p + 1}) {
      const Schedule plain = make({.name = "1f1b", .pipeline = p, .microbatches = m});
      const Schedule h1 = make({.name = "zb-h1", .pipeline = p, .microbatches = m});
      for (std::uint32_t r = 0; r < p; ++r) {
        EXPECT_EQ(peak_in_flight(plain.ranks[r]), std::min(m, p - r))
            << "pp=" << p << " m=" << m << " rank " << r;
        EXPECT_EQ(peak_in_flight(h1.ranks[r]), std::min(m, p)) << "pp=" << p << " m=" << m << " rank " << r;
      }
    }
  }
}

// arXiv 2401.10241, section 6: with equal times no rank waits between its first and its last computation, and
// each holds at most 2p chunk activations, half a stage of 1F1B's each: 1F1B's peak.
TEST(Generate, ZeroBubbleVHasNoBubble) {
  for (std::uint32_t p = 1; p <= 8; ++p) {
    for (const std::uint32_t m : {2 * p - 1, 2 * p, 3 * p + 1}) {
      const Schedule schedule = make({.name = "zbv", .pipeline = p, .microbatches = m});
      for (const auto& rank : schedule.ranks) EXPECT_LE(peak_in_flight(rank), 2 * p);
      const Pipeline pipeline = *Pipeline::build(schedule);
      const UnitRun run = run_in_units(pipeline);
      for (std::uint32_t r = 0; r < p; ++r) {
        const core::ComputationId last = pipeline.first_of_rank(r + 1) - 1;
        EXPECT_EQ(run.start[last] + 1 - run.start[pipeline.first_of_rank(r)], 6 * m)
            << "pp=" << p << " rank " << r;
      }
    }
  }
}

TEST(Generate, EarlyRecomputeIs1f1bWithRecomputations) {
  for (const std::uint32_t p : {1U, 3U, 4U}) {
    for (const std::uint32_t m : {1U, 4U, 9U}) {
      const Schedule with = make({.name = "early-recompute-1f1b", .pipeline = p, .microbatches = m});
      const Schedule without = make({.name = "1f1b", .pipeline = p, .microbatches = m});
      for (std::uint32_t r = 0; r < p; ++r) {
        std::vector<Computation> expected;
        for (const Computation& c : without.ranks[r]) {
          if (c.kind == Kind::kBackward) expected.push_back({Kind::kRecompute, c.stage, c.microbatch});
          expected.push_back(c);
        }
        EXPECT_EQ(with.ranks[r], expected);
      }
    }
  }
}

// The work must follow the computations, not the ranks' square: 200,000 ranks with one microbatch.
TEST(Generate, ManyRanksFewMicrobatches) {
  const Schedule schedule = make({.name = "zbv", .pipeline = 200'000, .microbatches = 1});
  EXPECT_EQ(cells(schedule, 199'999), "199999F0 200000F0 200000I0 200000W0 199999I0 199999W0");
  EXPECT_EQ(cells(schedule, 0), "0F0 399999F0 399999I0 399999W0 0I0 0W0");
}

std::string refusal(const Request& request, ErrorCode code = ErrorCode::kInvalidInput) {
  const auto schedule = generate(request);
  if (schedule) return "accepted";
  EXPECT_EQ(schedule.error().code(), code);
  return schedule.error().text();
}

TEST(GenerateRefuses, UnknownNames) {
  EXPECT_EQ(
      refusal({.name = "zbh1", .pipeline = 1, .microbatches = 1}),
      "schedule 'zbh1' is unknown; known are gpipe, 1f1b, interleaved-1f1b, early-recompute-1f1b, zb-h1, "
      "interleaved-zero-bubble, zbv, dualpipev, looped-bfs");
}

TEST(GenerateRefuses, ZeroSizes) {
  EXPECT_EQ(refusal({.name = "1f1b", .pipeline = 0, .microbatches = 1}),
            "0 pipeline ranks; at least 1 is needed");
  EXPECT_EQ(refusal({.name = "1f1b", .pipeline = 1, .microbatches = 0}),
            "0 microbatches; at least 1 is needed");
}

TEST(GenerateRefuses, OtherVirtualStagesThanFixed) {
  EXPECT_EQ(refusal({.name = "1f1b", .pipeline = 2, .microbatches = 4, .virtual_stages = 2}),
            "virtual stages 2: 1f1b has exactly 1");
  EXPECT_EQ(refusal({.name = "zbv", .pipeline = 2, .microbatches = 4, .virtual_stages = 1}),
            "virtual stages 1: zbv has exactly 2");
  EXPECT_EQ(refusal({.name = "dualpipev", .pipeline = 2, .microbatches = 4, .virtual_stages = 3}),
            "virtual stages 3: dualpipev has exactly 2");
}

TEST(GenerateRefuses, MicrobatchesThatTheScheduleCannotRun) {
  EXPECT_EQ(refusal({.name = "dualpipev", .pipeline = 4, .microbatches = 7}),
            "7 microbatches: dualpipev with 4 ranks needs at least 8 (2 per rank)");
  EXPECT_EQ(refusal({.name = "interleaved-1f1b", .pipeline = 4, .microbatches = 9}),
            "interleaved-1f1b with 4 ranks runs 9 microbatches in 2 rounds, which must divide them");
  EXPECT_EQ(refusal({.name = "interleaved-zero-bubble", .pipeline = 2, .microbatches = 7}),
            "interleaved-zero-bubble with 2 ranks runs 7 microbatches in 3 rounds, which must divide them");
}

TEST(GenerateRefuses, GroupSizes) {
  const auto with = [](std::uint32_t group, std::uint32_t microbatches = 8,
                       std::string name = "interleaved-1f1b") {
    return refusal(
        {.name = std::move(name), .pipeline = 4, .microbatches = microbatches, .group_size = group});
  };
  EXPECT_EQ(with(9), "group size 9 is more than the 8 microbatches");
  EXPECT_EQ(with(3), "group size 3 is less than the 4 ranks: later chunks would wait for the first");
  EXPECT_EQ(with(5),
            "group size 5 leaves a last group of 3 microbatches; it must divide the 8 microbatches or leave "
            "at least 4 (the ranks)");
  EXPECT_EQ(with(4, 8, "1f1b"), "group size 4: 1f1b takes none");
  EXPECT_EQ(with(4, 8, "interleaved-zero-bubble"), "group size 4: interleaved-zero-bubble takes none");
}

TEST(GenerateRefuses, TooManyComputationsWithoutMakingThem) {
  constexpr std::uint32_t kMost = 4'294'967'295U;
  EXPECT_EQ(
      refusal({.name = "interleaved-1f1b", .pipeline = kMost, .microbatches = kMost, .virtual_stages = kMost},
              ErrorCode::kLimit),
      "interleaved-1f1b with pp 4294967295, virtual stages 4294967295, microbatches 4294967295 has more than "
      "16777216 computations, the limit");
  EXPECT_EQ(refusal({.name = "1f1b", .pipeline = 8, .microbatches = 1'048'577}, ErrorCode::kLimit),
            "1f1b with pp 8, virtual stages 1, microbatches 1048577 has more than 16777216 computations, the "
            "limit");
}

}  // namespace
}  // namespace perseus::schedule
