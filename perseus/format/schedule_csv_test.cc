// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/schedule_csv.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/pipeline.h"
#include "perseus/core/profile.h"
#include "perseus/format/schedule_json.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

using core::Computation;
using core::ErrorCode;
using core::Kind;
using core::Schedule;

ParsedSchedule parse(std::string_view bytes) {
  auto parsed = parse_schedule_csv(bytes, "s.csv");
  EXPECT_TRUE(parsed.has_value()) << parsed.error().text();
  return parsed ? *std::move(parsed) : ParsedSchedule{};
}

std::string refusal(std::string_view bytes, ErrorCode code = ErrorCode::kInvalidInput) {
  const auto parsed = parse_schedule_csv(bytes, "s.csv");
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code(), code);
  return parsed.error().text();
}

TEST(ScheduleCsv, EveryKindOfCell) {
  const ParsedSchedule parsed = parse("0F0,0B0,0I1,0W1,0R10,(0F7;1B3)OVERLAP_F_B,1all-reduce2,1load0\n");
  const Schedule& schedule = parsed.schedule;
  EXPECT_EQ(schedule.name, "s.csv");
  EXPECT_EQ(schedule.microbatches, 11U);
  EXPECT_EQ(schedule.virtual_stages, 2U);
  EXPECT_EQ(schedule.instructions, (std::vector<std::string>{"all-reduce", "load"}));
  EXPECT_TRUE(parsed.warnings.empty());
  const std::vector<Computation> expected = {
      {.kind = Kind::kForward},
      {.kind = Kind::kBackward},
      {.kind = Kind::kBackwardInput, .microbatch = 1},
      {.kind = Kind::kBackwardWeight, .microbatch = 1},
      {.kind = Kind::kRecompute, .microbatch = 10},
      {.kind = Kind::kForwardBackward, .microbatch = 7, .stage_b = 1, .microbatch_b = 3},
      {.kind = Kind::kOther, .stage = 1, .microbatch = 2},
      {.kind = Kind::kOther, .stage = 1, .instruction = 1},
  };
  ASSERT_EQ(schedule.ranks.size(), 1U);
  EXPECT_EQ(schedule.ranks[0], expected);
}

TEST(ScheduleCsv, AFileAsPyTorchWritesIt) {
  const ParsedSchedule parsed = parse("0F0,0F1,,,0B0,,0B1\r\n,1F0,1B0,1F1,1B1\r\n");
  EXPECT_EQ(write_schedule_csv(parsed.schedule), "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
  EXPECT_TRUE(core::Pipeline::build(parsed.schedule).has_value());
}

// A stage of a V placement need not be rank + k * ranks.
TEST(ScheduleCsv, StagesFoldedIntoAV) {
  const ParsedSchedule parsed = parse("0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n");
  EXPECT_EQ(parsed.schedule.virtual_stages, 2U);
  EXPECT_TRUE(core::Pipeline::build(parsed.schedule).has_value());
}

TEST(ScheduleCsv, FormsOfTheSameFile) {
  const std::string plain = "0F0,0B0\n1F0,1B0\n";
  for (const std::string_view same : {"0F0,0B0\n1F0,1B0", "0F0,0B0\r\n1F0,1B0\r\n",
                                      "\xEF\xBB\xBF"
                                      "0F0,0B0\n1F0,1B0\n",
                                      " 0F0 ,\t0B0\n1F0, 1B0 \n", "0F0,0B0,,\n,1F0,1B0\n",
                                      "0F0,0B0\n1F0,1B0\n\n \r\n", "00F00,0B0\n1F0,1B0\n"}) {
    EXPECT_EQ(write_schedule_csv(parse(same).schedule), plain) << same;
  }
  EXPECT_EQ(write_schedule_csv(parse("( 0F1 ; 0B0 )OVERLAP_F_B").schedule), "(0F1;0B0)OVERLAP_F_B\n");
}

TEST(ScheduleCsv, CommunicationIsSkippedWithOneWarning) {
  const ParsedSchedule parsed =
      parse("0UNSHARD,0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD,0RESHARD\n1RECV_F0,1F0,1B0,1SEND_B0\n");
  EXPECT_EQ(write_schedule_csv(parsed.schedule), "0F0,0B0\n1F0,1B0\n");
  ASSERT_EQ(parsed.warnings.size(), 1U);
  EXPECT_EQ(
      parsed.warnings[0].text(),
      "s.csv:1:1: 7 communication cells skipped, from 0UNSHARD on: transfers follow from the order of the "
      "computations");
  EXPECT_EQ(
      parse("0F0,0B0,0REDUCE_GRAD\n").warnings.at(0).text(),
      "s.csv:1:9: 1 communication cell skipped, from 0REDUCE_GRAD on: transfers follow from the order of the "
      "computations");
}

TEST(ScheduleCsvRefuses, CellsOutsideTheGrammar) {
  const std::string tail =
      " is no computation: expected a stage, F, B, I or W, and a microbatch, as in 3F0, or a pair as in "
      "(0F7;7B3)OVERLAP_F_B";
  EXPECT_EQ(refusal("0F0,0B0\n1F0, 1F\n"), "s.csv:2:6: cell \"1F\"" + tail);
  for (const std::string cell : {"F0",
                                 "0f0",
                                 "0X0",
                                 "0F0junk",
                                 "0F-1",
                                 "-1F0",
                                 "0F 0",
                                 "0FB0",
                                 "0forward0",
                                 "0SEND_F",
                                 "0UNSHARD0",
                                 "7",
                                 "0SEND_G",
                                 "0OVERLAP_F_B0",
                                 "()OVERLAP_F_B",
                                 "(0F0)OVERLAP_F_B",
                                 "(0F0;0B0)",
                                 "(0F0;0B0)overlap_f_b",
                                 "(0F0;0B0",
                                 "(0F0;0B0)OVERLAP_F_B0",
                                 "# comment",
                                 "rank",
                                 "'0F0'"}) {
    EXPECT_EQ(refusal("0F0,0B0," + cell), "s.csv:1:9: cell \"" + cell + "\"" + tail);
  }
  EXPECT_EQ(refusal("\"0F0\",0B0"), "s.csv:1:1: cell \"\\\"0F0\\\"\"" + tail);
  EXPECT_EQ(refusal("0F0\r0B0"), "s.csv:1:1: cell \"0F0\\r0B0\"" + tail);
}

TEST(ScheduleCsvRefuses, PairsThatAreNoForwardAndFullBackward) {
  for (const std::string cell :
       {"(0B0;0F1)OVERLAP_F_B", "(0F1;0I0)OVERLAP_F_B", "(0F1;0B)OVERLAP_F_B", "(;)OVERLAP_F_B",
        "(0F1;0B0;0W0)OVERLAP_F_B", "(0F1;0F2)OVERLAP_F_B", "(0load1;0B0)OVERLAP_F_B"}) {
    EXPECT_EQ(refusal("0F0\n" + cell), "s.csv:2:1: cell \"" + cell +
                                           "\": an overlapped pair is a forward, then a full backward, as in "
                                           "(0F7;7B3)OVERLAP_F_B");
  }
}

TEST(ScheduleCsvRefuses, EmptyFilesAndLines) {
  for (const std::string_view nothing : {"", "\n", "\xEF\xBB\xBF", " \r\n\t\n"}) {
    EXPECT_EQ(refusal(nothing), "s.csv: the schedule has no computation");
  }
  EXPECT_EQ(refusal("0F0,0B0\n\n1F0,1B0\n"), "s.csv:2: this line, pipeline rank 1, has no computation");
  EXPECT_EQ(refusal("0F0,0B0\n,,\n"), "s.csv:2: this line, pipeline rank 1, has no computation");
  EXPECT_EQ(refusal("0F0,0B0\n1RECV_F0\n"), "s.csv:2: this line, pipeline rank 1, has no computation");
}

TEST(ScheduleCsvRefuses, StagesThatAreMissing) {
  EXPECT_EQ(refusal("0F0,0B0\n2F0,2B0\n"), "s.csv: stage 1 has no cell, but stage 2 has");
  EXPECT_EQ(refusal("0F0,1F0,1B0,0B0\n2F0,2B0\n"),
            "s.csv: 3 stages on 2 ranks (lines): every rank needs as many stages as the others");
  EXPECT_EQ(refusal("0F0\n0B0\n"),
            "s.csv: 1 stages on 2 ranks (lines): every rank needs as many stages as the others");
}

TEST(ScheduleCsvRefuses, NumbersAboveTheLimit) {
  EXPECT_EQ(refusal("0F16777216", ErrorCode::kLimit),
            "s.csv:1:1: cell \"0F16777216\": microbatch 16777216 is above the limit of 16777215");
  EXPECT_EQ(refusal("0F0,99999999999999999999999B0", ErrorCode::kLimit),
            "s.csv:1:5: cell \"99999999999999999999999B0\": stage 99999999999999999999 is above the limit of "
            "16777215");
  EXPECT_EQ(refusal("0F0,0SEND_F99999999", ErrorCode::kLimit),
            "s.csv:1:5: cell \"0SEND_F99999999\": microbatch 99999999 is above the limit of 16777215");
}

TEST(ScheduleCsvRefuses, TextThatIsNoText) {
  EXPECT_EQ(refusal("0F0,\xFF"), "s.csv:1:5: byte 0xff is not UTF-8 text; the schedule must be");
  EXPECT_EQ(refusal(std::string_view("0F0,\0", 5)),
            "s.csv:1:5: byte 0x00 is not UTF-8 text; the schedule must be");
}

/// Any schedule whose cells the grammar can hold, runnable or not; every stage has a cell.
rc::Gen<Schedule> schedules() {
  return rc::gen::exec([] {
    Schedule schedule;
    const auto ranks = *rc::gen::inRange<std::uint32_t>(1, 5);
    schedule.virtual_stages = *rc::gen::inRange<std::uint32_t>(1, 4);
    schedule.name = "s.csv";
    schedule.ranks.resize(ranks);
    const auto stage = rc::gen::inRange<std::uint32_t>(0, ranks * schedule.virtual_stages);
    const auto microbatch = rc::gen::inRange<std::uint32_t>(0, 100);
    const std::vector<std::string> names = {"load", "all-reduce", "_x.y"};
    for (std::uint32_t s = 0; s < schedule.stages(); ++s) schedule.ranks[s % ranks].push_back({.stage = s});
    for (auto& rank : schedule.ranks) {
      for (int extra = *rc::gen::inRange(0, 8); extra > 0; --extra) {
        Computation c{
            .kind = static_cast<Kind>(*rc::gen::inRange(0, 7)), .stage = *stage, .microbatch = *microbatch};
        if (c.kind == Kind::kForwardBackward) {
          c.stage_b = *stage;
          c.microbatch_b = *microbatch;
        }
        if (c.kind == Kind::kOther) {
          const std::string name = *rc::gen::elementOf(names);
          auto& known = schedule.instructions;
          if (std::ranges::find(known, name) == known.end()) known.push_back(name);
          c.instruction = static_cast<std::uint32_t>(std::ranges::find(known, name) - known.begin());
        }
        rank.push_back(c);
      }
    }
    for (const auto& rank : schedule.ranks) {
      for (const Computation& c : rank) {
        schedule.microbatches = std::max({schedule.microbatches, c.microbatch + 1, c.microbatch_b + 1});
      }
    }
    return schedule;
  });
}

TEST(ScheduleCsv, WhatIsWrittenIsReadBack) {
  tests::check_property(
      [] {
        const Schedule schedule = *schedules();
        const auto parsed = parse_schedule_csv(write_schedule_csv(schedule), "s.csv");
        RC_ASSERT(parsed.has_value());
        RC_ASSERT(parsed->schedule.ranks == schedule.ranks);
        RC_ASSERT(parsed->schedule.instructions == schedule.instructions);
        RC_ASSERT(parsed->schedule.microbatches == schedule.microbatches);
        RC_ASSERT(parsed->schedule.virtual_stages == schedule.virtual_stages);
        RC_ASSERT(parsed->warnings.empty());
      },
      300);
}

TEST(ScheduleJson, OneLinePerRank) {
  Schedule schedule = parse("0F0,(0F1;1B0)OVERLAP_F_B,1load0\n2F0,3F0\n").schedule;
  schedule.name = "a \"b\".csv";
  EXPECT_EQ(write_schedule_json(schedule),
            "{\"name\":\"a \\\"b\\\".csv\",\"pp\":2,\"virtual_stages\":2,\"microbatches\":2,\"ranks\":[\n"
            "[\"0F0\",\"(0F1;1B0)OVERLAP_F_B\",\"1load0\"],\n"
            "[\"2F0\",\"3F0\"]]}\n");
}

}  // namespace
}  // namespace perseus::format
