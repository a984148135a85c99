// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/render.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "perseus/schedule/generate.h"

namespace perseus::schedule {
namespace {

core::Schedule make(const Request& request) {
  return generate(request).value();
}

std::size_t widest_row(const std::string& text) {
  std::size_t widest = 0;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("rank ")) widest = std::max(widest, line.size());
  }
  return widest;
}

TEST(RenderText, ATimelineOfUnits) {
  EXPECT_EQ(render_text(make({.name = "1f1b", .pipeline = 2, .microbatches = 3})),
            "1f1b: 2 ranks, 2 stages, 3 microbatches, 12 computations\n"
            "unit times F=1 B=2: 12 units, ranks idle 25.0 % of the time ('.' = idle)\n"
            "\n"
            "rank 0 | 0F0 0F1 .   .   0B0---- 0F2 0B1---- .   0B2----\n"
            "rank 1 | .   1F0 1B0---- 1F1 1B1---- 1F2 1B2---- .   .\n");
}

TEST(RenderText, OverlappedPairsAreShort) {
  EXPECT_EQ(render_text(make({.name = "dualpipev", .pipeline = 1, .microbatches = 3})),
            "dualpipev: 1 rank, 2 stages, 3 microbatches, 10 computations\n"
            "unit times F=1 B=2 I=1 W=1 FB=3: 18 units, ranks idle 0.0 % of the time ('.' = idle)\n"
            "\n"
            "rank 0 | 0F0 1F0 0F1 1B0---- 1F1+0B0---- 0F2+1B1---- 1F2+0B1---- 1B2---- 0I2 0W2\n");
}

TEST(RenderText, WhatIsCutIsSaid) {
  EXPECT_EQ(render_text(make({.name = "1f1b", .pipeline = 2, .microbatches = 3}), {.width = 30}),
            "1f1b: 2 ranks, 2 stages, 3 microbatches, 12 computations\n"
            "unit times F=1 B=2: 12 units, ranks idle 25.0 % of the time ('.' = idle)\n"
            "\n"
            "rank 0 | 0F0 0F1 .   .   0B0\n"
            "rank 1 | .   1F0 1B0---- 1F1\n"
            "\n"
            "cut: units 0 to 4 of 12 are shown; a width of 56 shows all\n");
}

TEST(RenderText, TheWidthThatItNamesShowsAll) {
  const core::Schedule schedule = make({.name = "zbv", .pipeline = 4, .microbatches = 8});
  EXPECT_NE(render_text(schedule).find("cut: units 0 to 37 of 51 are shown; a width of 212 shows all"),
            std::string::npos);
  const std::string whole = render_text(schedule, {.width = 212});
  EXPECT_EQ(whole.find("cut"), std::string::npos);
  EXPECT_EQ(whole, render_text(schedule, {.width = 0}));
  EXPECT_EQ(widest_row(whole), 212U);
}

TEST(RenderText, NoRowIsWiderThanAsked) {
  for (const KnownSchedule& known : known_schedules()) {
    const core::Schedule schedule =
        make({.name = std::string(known.name), .pipeline = 3, .microbatches = 12});
    for (const std::size_t width : {80U, 100U, 133U}) {
      EXPECT_LE(widest_row(render_text(schedule, {.width = width})), width) << known.name;
    }
  }
}

TEST(RenderText, LargeSchedulesAreListed) {
  EXPECT_EQ(
      render_text(make({.name = "1f1b", .pipeline = 2, .microbatches = 3}), {.width = 24, .max_drawn = 11}),
      "1f1b: 2 ranks, 2 stages, 3 microbatches, 12 computations\n"
      "order only: more than 11 computations are not drawn over time\n"
      "\n"
      "rank 0 | 0F0 0F1 0B0 0F2\n"
      "rank 1 | 1F0 1B0 1F1 1B1\n"
      "\n"
      "cut: 4 computations at the rows' ends are not shown\n");
}

TEST(RenderText, AScheduleThatCannotRunIsListedWithTheReason) {
  core::Schedule schedule = make({.name = "1f1b", .pipeline = 1, .microbatches = 1});
  std::ranges::reverse(schedule.ranks[0]);
  EXPECT_EQ(
      render_text(schedule),
      "1f1b: 1 rank, 1 stage, 1 microbatch, 2 computations\n"
      "order only, since this schedule cannot run: 0B0 on rank 0 comes before 0F0, whose result it needs: "
      "deadlock\n"
      "\n"
      "rank 0 | 0B0 0F0\n");
}

TEST(RenderText, OtherUnitTimes) {
  const core::Schedule schedule = make({.name = "zb-h1", .pipeline = 1, .microbatches = 1});
  EXPECT_EQ(render_text(schedule, {.times = {.forward = 2, .backward_input = 3, .backward_weight = 1}}),
            "zb-h1: 1 rank, 1 stage, 1 microbatch, 3 computations\n"
            "unit times F=2 I=3 W=1: 6 units, ranks idle 0.0 % of the time ('.' = idle)\n"
            "\n"
            "rank 0 | 0F0---- 0I0-------- 0W0\n");
}

TEST(UnitRun, AnIdlePipelineHasNoShare) {
  EXPECT_EQ(UnitRun{}.idle_share(4), 0.0);
  EXPECT_EQ((UnitRun{.start = {}, .end = 8, .busy = 12}.idle_share(2)), 0.25);
}

}  // namespace
}  // namespace perseus::schedule
