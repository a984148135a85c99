// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/zeus.h"

#include <gtest/gtest.h>

#include "perseus/format/plan_csv.h"
#include "tests/support/format_support.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

// Each file of tests/data/zeus/refused with its refusal.
constexpr testing::Refusal kRefusals[] = {
    {"empty.py", "empty.py:1:1: the file ends where '[' must stand"},
    {"call.py", "call.py:1:15: \"__import__('os'\" where a whole number of MHz from 0 to 100000 must stand"},
    {"import.py", "import.py:1:1: \"import\" where '[' must stand"},
    {"sum.py", "sum.py:1:20: \"+\" where ')' must stand"},
    {"float.py", "float.py:1:19: \".0\" where ')' must stand"},
    {"octal.py", "octal.py:1:15: \"010\" where a whole number of MHz from 0 to 100000 must stand"},
    {"negative.py", "negative.py:1:15: \"-1\" where a whole number of MHz from 0 to 100000 must stand"},
    {"too_fast.py", "too_fast.py:1:15: \"100001\" where a whole number of MHz from 0 to 100000 must stand"},
    {"bare_name.py", "bare_name.py:1:4: \"forward\" where an instruction in quotes must stand"},
    {"no_name.py", "no_name.py:1:4: an instruction without a name"},
    {"open_string.py", "open_string.py:1:4: a string that is never closed"},
    {"escape.py", "escape.py:1:8: an escape of other than a quote or a backslash"},
    {"long_name.py", "long_name.py:1:4: an instruction of more than 64 bytes, the limit"},
    {"list_for_tuple.py", "list_for_tuple.py:1:3: \"['forward'\" where '(' must stand"},
    {"flat.py", "flat.py:1:2: \"('forward'\" where '[' must stand"},
    {"triple.py", "triple.py:1:19: \",\" where ')' must stand"},
    {"two_commas.py", "two_commas.py:1:21: \",\" where '(' must stand"},
    {"no_comma.py", "no_comma.py:1:21: \"('backward'\" where a comma or ']' must stand"},
    {"open_list.py", "open_list.py:1:21: the file ends where a comma or ']' must stand"},
    {"second_value.py", "second_value.py:2:1: \"[\" where the end of the file must stand"},
    {"nested.py",
     "nested.py:1:3: \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...\" where '(' must "
     "stand"},
    {"nul.py", "nul.py:1:3: byte 0x00 is not UTF-8 text; the Zeus schedule must be"},
    {"two_costs.py", "two_costs.py:2:1: 2 lines of costs; there are 3 or none"},
    {"bad_cost.py",
     "bad_cost.py:3:1: \"# Iteration 1 total cost: high\" where \"# Iteration N total cost: X\" must stand"},
    {"other_iteration.py", "other_iteration.py:3:1: costs of iteration 2 beside those of iteration 1"}};

TEST(Zeus, RefusesHostileFilesWithTheirPlace) {
  testing::expect_refusals("zeus/refused", kRefusals, [](std::string_view bytes, std::string source) {
    return parse_zeus_schedule(bytes, std::move(source));
  });
}

TEST(Zeus, WritesAPlanAsZeusDoes) {
  const core::Problem problem = testing::small_problem();
  EXPECT_EQ(write_zeus_schedule(problem, testing::small_plan(problem), 12, core::Joules(1.5)),
            "[\n[('load', 1410), ('forward', 900), ('forward', 1410), ('backward', 1410), ('backward', "
            "900)],\n[('forward', 1410), ('backward', 1410), ('forward', 1410), ('backward', 1410)],\n]\n# "
            "Iteration 12 cost change: 1.5\n"
            // 1 + 15 + 20 + 40 + 30 + 18 + 40 + 20 + 40 J less 80 W for 0.01 + 0.125 + 0.1 + 0.2 + 0.25 +
            // 0.11 + 0.2
            // + 0.1 + 0.2 s, and 160 W for 1.2 s.
            "# Iteration 12 total cost: 120.4\n# Iteration 12 total cost with P2P: 312.4\n");
}

TEST(Zeus, FrequencyZeroIsAnAbsentClock) {
  const auto parsed = parse_zeus_schedule("[[('forward', 0), ('backward', 1410)], []]", "f.py");
  ASSERT_TRUE(parsed);
  ASSERT_EQ(parsed->rows.size(), 2U);
  EXPECT_EQ(parsed->rows[0][0], (ZeusInstruction{"forward", std::nullopt}));
  EXPECT_EQ(parsed->rows[0][1], (ZeusInstruction{"backward", core::Megahertz(1410)}));
  EXPECT_TRUE(parsed->rows[1].empty());
  EXPECT_FALSE(parsed->costs);
  EXPECT_EQ(write_zeus_schedule(*parsed), "[\n[('forward', 0), ('backward', 1410)],\n[],\n]\n");
}

TEST(Zeus, ReadsItsOwnCommentsAndSkipsOthers) {
  const auto parsed = parse_zeus_schedule(
      "# made by hand\n[ # rows\n[(\"it's\", 5,), ],\n]\r\n# Iteration 2328 cost change: "
      "1.0586643526687247\r\n# a remark\n# Iteration 2328 total cost: 1798.1348593212274\n# Iteration 2328 "
      "total cost with P2P: 2566.5348593212275",
      "f.py");
  ASSERT_FALSE(parsed) << "a comma behind the clock is no pair of Zeus";
  EXPECT_EQ(parsed.error().text(), "f.py:3:12: \",\" where ')' must stand");
  const auto good = parse_zeus_schedule(
      "# made by hand\n[ # rows\n[(\"it's\", 5), ],\n]\r\n# Iteration 2328 cost change: "
      "1.0586643526687247\r\n# a remark\n# Iteration 2328 total cost: 1798.1348593212274\n# Iteration 2328 "
      "total cost with P2P: 2566.5348593212275",
      "f.py");
  ASSERT_TRUE(good) << good.error().text();
  EXPECT_EQ(good->rows.at(0).at(0).name, "it's");
  ASSERT_TRUE(good->costs);
  EXPECT_EQ(good->costs->iteration, 2328U);
  EXPECT_EQ(good->costs->change, core::Joules(1.0586643526687247));
  EXPECT_EQ(good->costs->total, core::Joules(1798.1348593212274));
  EXPECT_EQ(good->costs->total_with_p2p, core::Joules(2566.5348593212275));
}

TEST(Zeus, WhatIsWrittenIsReadBackTheSame) {
  tests::check_property([] {
    ZeusSchedule schedule;
    schedule.rows.resize(*rc::gen::inRange<std::size_t>(0, 4));
    for (auto& row : schedule.rows) {
      row.resize(*rc::gen::inRange<std::size_t>(0, 5));
      for (ZeusInstruction& instruction : row) {
        instruction.name = *rc::gen::element<std::string>("forward", "backward", "it's", "a\\b", "\"");
        const auto mhz = *rc::gen::inRange<std::uint32_t>(0, 3);
        if (mhz != 0) instruction.clock = core::Megahertz(mhz * 700);
      }
    }
    if (*rc::gen::arbitrary<bool>()) {
      schedule.costs = ZeusCosts{7, core::Joules(-0.1), core::Joules(1.0 / 3), core::Joules(1e-7)};
    }
    const auto back = parse_zeus_schedule(write_zeus_schedule(schedule), "back.py");
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == schedule);
  });
}

TEST(Zeus, EveryPlanIsReadBack) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const core::Problem problem = tests::make_problem(recipe);
        core::Plan plan;
        plan.choice = tests::random_choice(problem, recipe.seed);
        const std::string text = write_zeus_schedule(problem, plan);
        const auto back = parse_zeus_schedule(text, "back.py");
        RC_ASSERT(back.has_value());
        RC_ASSERT(write_zeus_schedule(*back) == text);
        RC_ASSERT(back->rows.size() == problem.pipeline().schedule().pipeline());
      },
      50);
}

TEST(PlanCsv, OneRowPerComputation) {
  const core::Problem problem = testing::small_problem();
  EXPECT_EQ(
      write_plan_csv(problem, testing::small_plan(problem)),
      "rank,position,kind,stage,microbatch,clock_mhz,time_s,energy_j,cfg\n0,0,load,0,0,1410,0.01,1,\n0,1,F,0,"
      "0,900,0.125,15,\n0,2,F,0,1,1410,0.1,20,\n0,3,B,0,0,1410,0.2,40,\n0,4,B,0,1,900,0.25,30,\n1,0,F,1,0,"
      "1410,0.11,18,\"b,c\"\n1,1,B,1,0,1410,0.2,40,\n1,2,F,1,1,1410,0.1,20,a\n1,3,B,1,1,1410,0.2,40,\n");
}

}  // namespace
}  // namespace perseus::format
