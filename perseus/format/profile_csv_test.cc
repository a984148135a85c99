// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/profile_csv.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>

#include "tests/support/format_support.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Each file of tests/data/profile_csv/refused with its refusal.
constexpr testing::Refusal kRefusals[] = {
    {"empty.csv", "empty.csv: the profile is empty"},
    {"blank_lines.csv", "blank_lines.csv: the profile is empty"},
    {"header_only.csv", "header_only.csv: the profile has a header but no measurement"},
    {"missing_column.csv",
     "missing_column.csv:1:1: column energy is missing; a profile has the columns stage, instruction, "
     "frequency, time and energy"},
    {"misspelt_column.csv",
     "misspelt_column.csv:1:1: column frequency is missing; a profile has the columns stage, instruction, "
     "frequency, time and energy; is \"frequncy\" meant?"},
    {"column_twice.csv", "column_twice.csv:1:41: column \"time\" is there twice, as columns 4 and 6"},
    {"pandas_index.csv",
     "pandas_index.csv:1:1: column 1 has no name; pandas writes its index so, unless told index=False"},
    {"blank_in_name.csv", "blank_in_name.csv:1:7: column name \" instruction\" has blanks around it"},
    {"too_few_fields.csv", "too_few_fields.csv:3:1: 4 fields in a row; the header has 5"},
    {"too_many_fields.csv", "too_many_fields.csv:2:1: 6 fields in a row; the header has 5"},
    {"time_word.csv", "time_word.csv:2:16: time is \"abc\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_nan.csv", "time_nan.csv:2:16: time is \"nan\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_inf.csv", "time_inf.csv:2:16: time is \"inf\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_hex.csv", "time_hex.csv:2:16: time is \"0x1p-5\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_zero.csv", "time_zero.csv:2:16: time is \"0\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_negative.csv",
     "time_negative.csv:2:16: time is \"-0.03\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_short.csv",
     "time_short.csv:2:16: time is \"1e-10\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_long.csv",
     "time_long.csv:2:16: time is \"1000001\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_overflow.csv",
     "time_overflow.csv:2:16: time is \"1e999\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_empty.csv", "time_empty.csv:2:16: time is \"\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_blank.csv",
     "time_blank.csv:2:16: time is \" 0.03\"; it must be a number of s from 1e-09 to 1000000"},
    {"time_unit.csv", "time_unit.csv:2:16: time is \"30ms\"; it must be a number of s from 1e-09 to 1000000"},
    {"energy_negative.csv",
     "energy_negative.csv:2:21: energy is \"-1\"; it must be a number of J from 0 to 1000000000"},
    {"energy_large.csv",
     "energy_large.csv:2:21: energy is \"1e10\"; it must be a number of J from 0 to 1000000000"},
    {"energy_nan.csv",
     "energy_nan.csv:2:21: energy is \"NaN\"; it must be a number of J from 0 to 1000000000"},
    {"clock_zero.csv",
     "clock_zero.csv:2:11: frequency is \"0\"; it must be a whole number of MHz from 1 to 100000"},
    {"clock_fraction.csv",
     "clock_fraction.csv:2:11: frequency is \"1410.5\"; it must be a whole number of MHz from 1 to 100000"},
    {"clock_negative.csv",
     "clock_negative.csv:2:11: frequency is \"-1\"; it must be a whole number of MHz from 1 to 100000"},
    {"clock_large.csv",
     "clock_large.csv:2:11: frequency is \"100001\"; it must be a whole number of MHz from 1 to 100000"},
    {"clock_empty.csv",
     "clock_empty.csv:2:11: frequency is \"\"; it must be a whole number of MHz from 1 to 100000"},
    {"stage_negative.csv",
     "stage_negative.csv:2:1: stage is \"-1\"; it must be a whole number from 0 to 16777215"},
    {"stage_word.csv",
     "stage_word.csv:2:1: stage is \"first\"; it must be a whole number from 0 to 16777215"},
    {"stage_large.csv",
     "stage_large.csv:2:1: stage is \"16777216\"; it must be a whole number from 0 to 16777215"},
    {"instruction_empty.csv",
     "instruction_empty.csv:2:3: instruction is \"\"; it must be 1 to 64 ASCII letters, digits, '_', '-' or "
     "'.' and start with a letter or '_'"},
    {"instruction_letter.csv",
     "instruction_letter.csv:2:3: instruction is \"B\", the letter of a kind; write its name, such as "
     "forward, backward, backward_input, backward_weight, forward_backward or recompute"},
    {"contradiction.csv",
     "contradiction.csv:3:1: stage 0, forward at 1410 MHz is measured twice with different values: 0.031 s, "
     "9 J here and 0.03 s, 9 J in line 2; a `samples` column would make them samples, rank columns would "
     "tell ranks apart"},
    {"pair_without_stage_b.csv",
     "pair_without_stage_b.csv:2:1: forward_backward without stage_b, the stage of its backward half"},
    {"stage_b_of_forward.csv",
     "stage_b_of_forward.csv:2:1: stage_b is 1 for forward; only forward_backward has one"},
    {"samples_zero.csv",
     "samples_zero.csv:2:23: samples is \"0\"; it must be a whole number from 1 to 1000000000"},
    {"samples_sum.csv",
     "samples_sum.csv:2:1: stage 0, forward at 1410 MHz has 5000000000 samples of one rank; the limit is "
     "4294967295"},
    {"std_negative.csv",
     "std_negative.csv:2:23: time_std is \"-0.001\"; it must be a number of s from 0 to 1000000"},
    {"rank_word.csv", "rank_word.csv:2:1: rank is \"x\"; it must be a whole number from 0 to 16777215"},
    {"two_chunks.csv",
     "two_chunks.csv:3:1: stage 0 has chunk 1 here and 0 in line 2; `stage` counts model stages, 0 to pp * "
     "virtual_stages - 1, each on one rank"},
    {"two_pp_ranks.csv",
     "two_pp_ranks.csv:3:1: stage 0 has pp_rank 1 here and 0 in line 2; `stage` counts model stages, 0 to pp "
     "* virtual_stages - 1, each on one rank"},
    {"nul.csv", "nul.csv:3:10: byte 0x00 is not UTF-8 text; the profile must be"},
    {"latin1.csv", "latin1.csv:1:43: byte 0xf6 is not UTF-8 text; the profile must be"},
    {"utf16.csv", "utf16.csv:1:1: byte 0xff is not UTF-8 text; the profile must be"},
    {"open_quote.csv", "open_quote.csv:2:3: a quoted field that is never closed"},
    {"quote_inside.csv",
     "quote_inside.csv:2:6: a quote inside an unquoted field; quote the whole field and double the quote"},
    {"after_quote.csv", "after_quote.csv:2:12: text after the closing quote of a field"},
    {"lone_cr.csv", "lone_cr.csv:1:40: a carriage return without a line feed"},
    {"long_field.csv", "long_field.csv:2:3: a field of 4097 bytes; the limit is 4096"},
    {"many_columns.csv", "many_columns.csv:1:267: more than 64 fields in a row, the limit"}};

TEST(ProfileCsv, RefusesHostileFilesWithTheirPlace) {
  testing::expect_refusals("profile_csv/refused", kRefusals, [](std::string_view bytes, std::string source) {
    return parse_profile_csv(bytes, std::move(source));
  });
}

ParsedProfile parse(std::string_view text) {
  auto parsed = parse_profile_csv(text, "p.csv");
  EXPECT_TRUE(parsed) << parsed.error().text();
  return parsed ? *std::move(parsed) : ParsedProfile{};
}

std::vector<std::string> warnings(std::string_view text) {
  std::vector<std::string> out;
  for (const core::Warning& w : parse(text).warnings) out.push_back(w.text());
  return out;
}

TEST(ProfileCsv, ReadsZeusColumnsInAnyOrder) {
  const auto [profile, warned] = parse(
      "energy,frequency,time,stage,instruction\n9.5,1410,0.03,1,forward\n\n8,1200,0.035,1,forward\r\n7,900,0."
      "045,1,forward\n1.5,1410,1e-3,0,load");
  EXPECT_THAT(warned, IsEmpty());
  ASSERT_EQ(profile.entries.size(), 2U);
  EXPECT_EQ(profile.entries[0].instruction, "load");
  EXPECT_EQ(profile.entries[0].options[0].time, core::Seconds(0.001));
  const core::ProfileEntry& forward = *profile.find(1, "forward");
  ASSERT_EQ(forward.options.size(), 3U);
  EXPECT_EQ(forward.options[0].clock, core::Megahertz(1410));
  EXPECT_EQ(forward.options[0].energy, core::Joules(9.5));
  EXPECT_EQ(forward.options[2].clock, core::Megahertz(900));
  EXPECT_EQ(forward.options[0].samples, 1U);
  EXPECT_FALSE(forward.options[0].time_std);
}

TEST(ProfileCsv, SkipsAByteOrderMark) {
  EXPECT_EQ(parse("\xEF\xBB\xBFstage,instruction,frequency,time,energy\n0,forward,1410,0.03,9\n")
                .profile.entries.size(),
            1U);
}

TEST(ProfileCsv, OtherColumnsAreKnobs) {
  const std::string text =
      "stage,instruction,frequency,time,energy,attention_configs,\"mlp, "
      "\"\"x\"\"\"\n0,forward,1410,0.03,9,norm_0-none-12-1024,\n0,forward,1410,0.031,8.5,,\"a,"
      "\"\"b\"\"\nc\"\n0,forward,1200,0.04,8,,\n";
  const auto parsed = parse(text);
  EXPECT_THAT(parsed.profile.knob_names, ElementsAre("attention_configs", "mlp, \"x\""));
  const auto& options = parsed.profile.entries[0].options;
  ASSERT_EQ(options.size(), 3U);
  EXPECT_THAT(options[0].knobs, ElementsAre("norm_0-none-12-1024", ""));
  EXPECT_THAT(options[1].knobs, ElementsAre("", "a,\"b\"\nc"));
  EXPECT_EQ(write_profile_csv(parsed.profile), text);
}

TEST(ProfileCsv, TheSlowestRankSetsTheTimeAndAllTheEnergy) {
  const auto parsed = parse(
      "rank,dp_rank,pp_rank,tp_rank,stage,instruction,frequency,time,energy,time_std,energy_std\n0,0,0,0,0,"
      "forward,1410,0.030,9,0.001,0.3\n1,0,0,1,0,forward,1410,0.032,10,0.002,0.4\n1,0,0,1,0,forward,1410,0."
      "032,10,0.002,0.4\n2,1,0,0,0,forward,1410,0.031,11,0.003,1.2\n");
  const core::Option& option = parsed.profile.entries.at(0).options.at(0);
  EXPECT_EQ(option.time, core::Seconds(0.032));
  EXPECT_EQ(option.time_std, core::Seconds(0.002));
  EXPECT_EQ(option.energy, core::Joules(10)) << "the identical row of rank 1 counts once";
  EXPECT_DOUBLE_EQ(option.energy_std->value(), 1.3 / 3);  // sqrt(0.3^2 + 0.4^2 + 1.2^2) / 3
  EXPECT_EQ(option.samples, 1U);
}

TEST(ProfileCsv, WithASamplesColumnRowsOfOneRankArePooled) {
  const auto parsed = parse(
      "stage,instruction,frequency,time,energy,samples,time_std,energy_std\n0,forward,1410,1,10,3,0.5,\n0,"
      "forward,1410,2,20,1,,\n0,forward,1410,2,20,,,\n");
  const core::Option& option = parsed.profile.entries.at(0).options.at(0);
  EXPECT_EQ(option.samples, 5U);
  EXPECT_DOUBLE_EQ(option.time.value(), 1.4);
  EXPECT_DOUBLE_EQ(option.energy.value(), 14);
  // Within: 2 * 0.25. Between: 3 * 0.4^2 + 2 * 0.6^2. Over n - 1 = 4.
  EXPECT_DOUBLE_EQ(option.time_std->value(), std::sqrt((0.5 + 0.48 + 0.72) / 4));
  EXPECT_FALSE(option.energy_std) << "a row of three samples does not tell its spread";
}

TEST(ProfileCsv, PoolingEqualSamplesChangesNothing) {
  std::string text = "stage,instruction,frequency,time,energy,samples\n";
  for (int i = 0; i < 7; ++i) text += "0,forward,1410,0.1,0.3,1\n";
  const core::Option option = parse(text).profile.entries.at(0).options.at(0);
  EXPECT_EQ(option.time, core::Seconds(0.1));
  EXPECT_EQ(option.energy, core::Joules(0.3));
  EXPECT_EQ(option.time_std, core::Seconds(0));
  EXPECT_EQ(option.samples, 7U);
}

TEST(ProfileCsv, WarnsOfADominatedMeasurement) {
  EXPECT_THAT(warnings("stage,instruction,frequency,time,energy\n0,forward,1410,0.0301,9.5\n0,forward,1350,0."
                       "0300,9\n0,forward,1200,0.035,8\n0,forward,900,0.045,7\n"),
              ElementsAre("p.csv:2: stage 0, forward at 1410 MHz (0.0301 s, 9.5 J) is slower and hungrier "
                          "than at 1350 MHz (0.03 s, 9 J)"));
}

TEST(ProfileCsv, WarnsOfAComputationWithFewOptions) {
  EXPECT_THAT(warnings("stage,instruction,frequency,time,energy\n0,forward,1410,0.030,9\n0,forward,1350,0."
                       "030,9\n0,forward,1200,0.035,8\n0,load,1410,0.001,1\n1,backward,1410,0.001,1\n"),
              ElementsAre("p.csv:2: stage 0, forward has 2 useful options (no other is both as fast and as "
                          "thrifty); fewer than 3 leave little to plan",
                          "p.csv:6: stage 1, backward has 1 useful option (no other is both as fast and as "
                          "thrifty); fewer than 3 leave little to plan"));
}

TEST(ProfileCsv, WarnsOfATimeThatRisesWithTheClock) {
  const std::string text =
      "stage,instruction,frequency,time,energy\n0,forward,1410,0.0310,6\n0,forward,1350,0.0303,7\n0,forward,"
      "1300,0.0300,8\n0,forward,900,0.04,6.5\n";
  EXPECT_THAT(
      warnings(text),
      ElementsAre("p.csv:2: stage 0, forward at 1410 MHz (0.031 s, 6 J) is more than 2% slower than at 1300 "
                  "MHz (0.03 s, 8 J), a lower clock: did the GPU throttle while it was profiled?"));
  EXPECT_THAT(parse_profile_csv(text, "p.csv", {.throttle_tolerance = 0.05})->warnings, IsEmpty());
}

TEST(ProfileCsv, CountsWarningsBeyondTheirLimit) {
  std::string text = "stage,instruction,frequency,time,energy\n";
  for (int stage = 0; stage < 5; ++stage) text += fmt::format("{},forward,1410,0.03,9\n", stage);
  const auto parsed = parse_profile_csv(text, "p.csv", {.max_warnings = 3});
  ASSERT_EQ(parsed->warnings.size(), 4U);
  EXPECT_EQ(parsed->warnings.back().text(), "p.csv: 2 more warnings about this profile");
}

TEST(ProfileCsv, RefusesMoreBytesThanItsLimit) {
  const auto parsed = parse_profile_csv(std::string(kMaxProfileBytes + 1, 'x'), "p.csv");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), core::ErrorCode::kLimit);
  EXPECT_EQ(parsed.error().text(), "p.csv: the profile has 268435457 bytes; the limit is 268435456");
}

TEST(ProfileCsv, TenThousandOptionsOfAComputation) {
  std::string text = "stage,instruction,frequency,time,energy,cfg\n";
  for (int i = 0; i < 10'000; ++i) {
    text += fmt::format("0,forward,{},{},{},{}\n", 200 + i / 10, 1.0 / (1 + i), 1.0 + 0.001 * i, i % 10);
  }
  const auto parsed = parse(text);
  EXPECT_EQ(parsed.profile.entries.at(0).options.size(), 10'000U);
  EXPECT_THAT(parsed.warnings, IsEmpty());
}

TEST(CheckStages, NamesTheStageAndTheLimit) {
  const auto profile = parse(
                           "stage,instruction,frequency,time,energy,stage_b\n7,forward,1410,0.03,9,\n3,"
                           "forward_backward,1410,0.03,9,8\n")
                           .profile;
  EXPECT_TRUE(check_stages(profile, 9));
  EXPECT_EQ(check_stages(profile, 8, {"p.csv"}).error().text(),
            "p.csv: the profile has stage_b 8 (forward_backward); the job's stages (pp * virtual_stages) are "
            "0 to 7");
  EXPECT_EQ(
      check_stages(profile, 7).error().text(),
      "the profile has stage_b 8 (forward_backward); the job's stages (pp * virtual_stages) are 0 to 6");
  EXPECT_EQ(check_stages(parse("stage,instruction,frequency,time,energy\n4,load,1410,0.03,9\n").profile, 4)
                .error()
                .text(),
            "the profile has stage 4 (load); the job's stages (pp * virtual_stages) are 0 to 3");
}

bool same(const core::Option& a, const core::Option& b) {
  return a.clock == b.clock && a.time == b.time && a.energy == b.energy && a.knobs == b.knobs &&
         a.samples == b.samples && a.time_std == b.time_std && a.energy_std == b.energy_std;
}

bool same(const core::Profile& a, const core::Profile& b) {
  const auto same_entries = [](const core::ProfileEntry& x, const core::ProfileEntry& y) {
    return x.stage == y.stage && x.instruction == y.instruction && x.stage_b == y.stage_b &&
           std::ranges::equal(x.options, y.options, [](const auto& p, const auto& q) { return same(p, q); });
  };
  return a.knob_names == b.knob_names && std::ranges::equal(a.entries, b.entries, same_entries);
}

/// Any double of a range, evenly over its orders of magnitude.
double magnitude(double least, double most) {
  const double share = *rc::gen::inRange(0, 1'000'000) / 1e6;
  return std::clamp(std::exp(std::log(least) + share * (std::log(most) - std::log(least))), least, most);
}

core::Option arbitrary_option(std::uint32_t mhz, std::size_t knobs, bool deviations) {
  core::Option option;
  option.clock = core::Megahertz(mhz);
  option.time = core::Seconds(magnitude(1e-9, 1e6));
  option.energy = core::Joules(magnitude(1e-12, 1e9));
  for (std::size_t k = 0; k < knobs; ++k) {
    option.knobs.push_back(*rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab,\"\r\n ;0"))));
  }
  option.samples = *rc::gen::inRange<std::uint32_t>(1, 1000);
  if (deviations && *rc::gen::arbitrary<bool>()) option.time_std = core::Seconds(magnitude(1e-9, 1));
  if (deviations && *rc::gen::arbitrary<bool>()) option.energy_std = core::Joules(magnitude(1e-9, 1));
  return option;
}

TEST(ProfileCsv, WhatIsWrittenIsReadBackTheSame) {
  tests::check_property([] {
    core::Profile profile;
    const auto knobs = *rc::gen::inRange<std::size_t>(0, 3);
    for (std::size_t k = 0; k < knobs; ++k) profile.knob_names.push_back(fmt::format("knob \"{},\"", k));
    const auto stages = *rc::gen::inRange<std::uint32_t>(1, 5);
    const bool deviations = *rc::gen::arbitrary<bool>();
    for (std::uint32_t stage = 0; stage < stages; ++stage) {
      core::ProfileEntry entry;
      entry.stage = stage;
      entry.instruction = *rc::gen::element<std::string>("backward", "forward", "load", "forward_backward");
      if (entry.instruction == "forward_backward") entry.stage_b = *rc::gen::inRange<std::uint32_t>(0, 5);
      auto clock = *rc::gen::inRange<std::uint32_t>(900, 2000);
      for (; clock > 890; clock -= *rc::gen::inRange<std::uint32_t>(1, 400)) {
        entry.options.push_back(arbitrary_option(clock, knobs, deviations));
        if (clock < 400) break;
      }
      profile.entries.push_back(std::move(entry));
    }
    const std::string text = write_profile_csv(profile);
    const auto back = parse_profile_csv(text, "back.csv");
    RC_ASSERT(back.has_value());
    RC_ASSERT(same(profile, back->profile));
    RC_ASSERT(write_profile_csv(back->profile) == text);
    if (knobs > 0) return;  // a knob may hold a line's end
    // Rows, and with them stages, instructions and options, may come in any order.
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line + '\n');
    std::mt19937 random(*rc::gen::arbitrary<std::uint32_t>());
    std::shuffle(lines.begin() + 1, lines.end(), random);
    const std::string mixed = std::accumulate(lines.begin(), lines.end(), std::string());
    const auto again = parse_profile_csv(mixed, "mixed.csv");
    RC_ASSERT(again.has_value());
    RC_ASSERT(same(profile, again->profile));
  });
}

}  // namespace
}  // namespace perseus::format
