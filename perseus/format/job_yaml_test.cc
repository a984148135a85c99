// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/job_yaml.h"

#include <gtest/gtest.h>

#include "tests/support/format_support.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

// Each file of tests/data/job_yaml/refused with its refusal.
constexpr testing::Refusal kRefusals[] = {
    {"empty.yaml", "empty.yaml: the job file is empty"},
    {"comment_only.yaml", "comment_only.yaml: the job file is empty"},
    {"list.yaml",
     "list.yaml:1:1: the job is a list; it must be a map with the keys profile, pipeline, parallel, "
     "blocking_power_w, p2p_lag_s, inserts, fit"},
    {"unknown_key.yaml", "unknown_key.yaml:2:1: unknown key \"speed\" in the job"},
    {"misspelt_key.yaml",
     "misspelt_key.yaml:1:28: unknown key \"microbatch\" in pipeline; did you mean microbatches?"},
    {"misplaced_key.yaml",
     "misplaced_key.yaml:1:1: unknown key \"microbatches\" in the job; it belongs under pipeline"},
    {"key_twice.yaml", "key_twice.yaml:3:1: key \"fit\" is there twice"},
    {"quoted_number.yaml",
     "quoted_number.yaml:2:17: microbatches is the text \"8\"; it must be a whole number from 1 to 16777216"},
    {"zero_microbatches.yaml",
     "zero_microbatches.yaml:1:26: microbatches is \"0\"; it must be a whole number from 1 to 16777216"},
    {"fraction.yaml",
     "fraction.yaml:1:22: pipeline is \"8.0\"; it must be a whole number from 1 to 16777216"},
    {"hex.yaml", "hex.yaml:1:20: tensor is \"0x8\"; it must be a whole number from 1 to 16777216"},
    {"empty_value.yaml", "empty_value.yaml:2:1: profile is empty; it must be a text of one line"},
    {"map_for_text.yaml", "map_for_text.yaml:1:10: profile is a map; it must be a text of one line"},
    {"two_lines.yaml",
     "two_lines.yaml:1:10: profile is the text \"a\\nb\\n\"; it must be a text of one line"},
    {"two_schedules.yaml", "two_schedules.yaml:1:11: both schedule and schedule_file are given; give one"},
    {"power_nan.yaml",
     "power_nan.yaml:1:19: blocking_power_w is \".nan\"; it must be a number of W from 0 to 1000000"},
    {"power_inf.yaml",
     "power_inf.yaml:1:19: blocking_power_w is \"inf\"; it must be a number of W from 0 to 1000000"},
    {"power_negative.yaml",
     "power_negative.yaml:1:19: blocking_power_w is \"-1\"; it must be a number of W from 0 to 1000000"},
    {"power_list.yaml",
     "power_list.yaml:1:19: blocking_power_w is a list; it must be a number of W from 0 to 1000000"},
    {"power_gap.yaml", "power_gap.yaml:1:19: blocking_power_w has no rank 1"},
    {"power_no_rank.yaml", "power_no_rank.yaml:1:19: blocking_power_w has no rank 0"},
    {"power_bad_rank.yaml",
     "power_bad_rank.yaml:1:27: \"01\" in blocking_power_w is no rank; ranks are whole numbers from 0 to "
     "16777215"},
    {"power_of_rank.yaml",
     "power_of_rank.yaml:1:30: blocking_power_w of rank 1 is \"high\"; it must be a number of W from 0 to "
     "1000000"},
    {"lag_short.yaml",
     "lag_short.yaml:1:12: p2p_lag_s is \"1e-10\"; it must be 0, or a number of s from 1e-09 to 1000000"},
    {"lag_pair.yaml",
     "lag_pair.yaml:1:25: \"0-1\" in p2p_lag_s is neither default nor two ranks such as \"0->1\""},
    {"lag_self.yaml",
     "lag_self.yaml:1:13: \"1->1\" in p2p_lag_s is neither default nor two ranks such as \"0->1\""},
    {"lag_of_pair.yaml",
     "lag_of_pair.yaml:1:21: p2p_lag_s of \"0->1\" is \"-1e-3\"; it must be 0, or a number of s from 1e-09 "
     "to 1000000"},
    {"fit_word.yaml",
     "fit_word.yaml:1:6: fit is \"convx\"; it must be one of none, convex; did you mean convex?"},
    {"insert_map.yaml",
     "insert_map.yaml:1:10: inserts is a map; it must be a list of maps with the keys instruction, stage, "
     "position"},
    {"insert_incomplete.yaml", "insert_incomplete.yaml:2:5: an insert without position"},
    {"insert_forward.yaml",
     "insert_forward.yaml:2:19: instruction is \"forward\"; it must be an extra one; the schedule itself "
     "places this one"},
    {"insert_position.yaml",
     "insert_position.yaml:2:45: position is \"before_foward\"; it must be one of before_forward, "
     "after_forward, before_backward, after_backward, start, end; did you mean before_forward?"},
    {"anchor.yaml", "anchor.yaml:1:6: an anchor; none is allowed"},
    {"alias_bomb.yaml", "alias_bomb.yaml:1:4: an anchor; none is allowed"},
    {"tag.yaml", "tag.yaml:1:6: tag \"tag:yaml.org,2002:python/object\"; none is allowed"},
    {"two_documents.yaml", "two_documents.yaml:2:1: a second document; one is allowed"},
    {"nested.yaml", "nested.yaml:1:1: a key that is no word"},
    {"nested_closed.yaml", "nested_closed.yaml:1:9: more than 8 levels of nesting, the limit"},
    {"nested_blocks.yaml", "nested_blocks.yaml:1:17: more than 8 levels of nesting, the limit"},
    {"map_as_key.yaml", "map_as_key.yaml:1:3: a key that is no word"},
    {"empty_key.yaml", "empty_key.yaml:1:1: an empty key"},
    {"syntax.yaml", "syntax.yaml:2:4: not YAML: end of map flow not found"},
    {"tab.yaml", "tab.yaml:2:10: not YAML: illegal map value"},
    {"nul.yaml", "nul.yaml:1:10: byte 0x00 is not UTF-8 text; the job file must be"},
    {"latin1.yaml", "latin1.yaml:1:12: byte 0xf6 is not UTF-8 text; the job file must be"}};

TEST(JobYaml, RefusesHostileFilesWithTheirPlace) {
  testing::expect_refusals("job_yaml/refused", kRefusals, [](std::string_view bytes, std::string source) {
    return parse_job_yaml(bytes, std::move(source));
  });
}

core::JobSpec parse(std::string_view text) {
  auto job = parse_job_yaml(text, "job.yaml");
  EXPECT_TRUE(job) << job.error().text();
  return job.value_or(core::JobSpec{});
}

bool same(const core::JobSpec& a, const core::JobSpec& b) {
  const auto same_inserts = [](const core::Insert& x, const core::Insert& y) {
    return x.instruction == y.instruction && x.stage == y.stage && x.position == y.position;
  };
  return a.profile == b.profile && a.schedule == b.schedule && a.schedule_file == b.schedule_file &&
         a.microbatches == b.microbatches && a.virtual_stages == b.virtual_stages &&
         a.group_size == b.group_size && a.pipeline == b.pipeline && a.tensor == b.tensor &&
         a.data == b.data && a.blocking_power == b.blocking_power &&
         a.blocking_power_of_rank == b.blocking_power_of_rank && a.p2p_lag == b.p2p_lag &&
         a.edge_lag == b.edge_lag && a.fit == b.fit && std::ranges::equal(a.inserts, b.inserts, same_inserts);
}

TEST(JobYaml, ReadsTheExampleOfTheDesign) {
  const core::JobSpec job = parse(
      "profile: gpt3-175b-a100.csv\npipeline: {schedule: 1f1b, microbatches: 128, virtual_stages: "
      "1}\nparallel: {pipeline: 8, tensor: 8, data: 16}\nblocking_power_w: 85          # or a map rank -> "
      "watts; required\np2p_lag_s: 0.0\n");
  EXPECT_EQ(job.profile, "gpt3-175b-a100.csv");
  EXPECT_EQ(job.schedule, "1f1b");
  EXPECT_EQ(job.microbatches, 128U);
  EXPECT_EQ(job.virtual_stages, 1U);
  EXPECT_FALSE(job.group_size);
  EXPECT_EQ(job.pipeline, 8U);
  EXPECT_EQ(job.tensor, 8U);
  EXPECT_EQ(job.data, 16U);
  EXPECT_EQ(job.blocking_power, core::Watts(85));
  EXPECT_EQ(job.p2p_lag, core::Seconds(0));
  EXPECT_TRUE(job.inserts.empty());
  EXPECT_FALSE(job.fit);
}

TEST(JobYaml, ReadsEveryOtherKey) {
  const core::JobSpec job = parse(
      "pipeline:\n  schedule_file: \"my orders.csv\"\n  group_size: 4\nblocking_power_w: {0: 85, 1: "
      "92.5}\np2p_lag_s: {default: 1e-4, \"0->1\": 2.0e-3, 1->0: 0}\ninserts:\n  - {instruction: load, "
      "stage: 0, position: before_forward}\n  - instruction: all_reduce\n    stage: 1\n    position: "
      "end\nfit: convex\n");
  EXPECT_EQ(job.schedule_file, "my orders.csv");
  EXPECT_EQ(job.group_size, 4U);
  EXPECT_FALSE(job.blocking_power);
  EXPECT_EQ(job.blocking_power_of_rank.at(1), core::Watts(92.5));
  EXPECT_EQ(job.p2p_lag, core::Seconds(1e-4));
  EXPECT_EQ(job.edge_lag.at({0, 1}), core::Seconds(2e-3));
  EXPECT_EQ(job.edge_lag.at({1, 0}), core::Seconds(0));
  ASSERT_EQ(job.inserts.size(), 2U);
  EXPECT_EQ(job.inserts[0].position, core::Position::kBeforeForward);
  EXPECT_EQ(job.inserts[1].instruction, "all_reduce");
  EXPECT_EQ(job.inserts[1].stage, 1U);
  EXPECT_EQ(job.inserts[1].position, core::Position::kEnd);
  EXPECT_EQ(job.fit, "convex");
}

TEST(JobYaml, AnEmptyMapIsAJobThatFlagsComplete) {
  EXPECT_TRUE(same(parse("{}"), core::JobSpec{}));
  EXPECT_EQ(write_job_yaml(core::JobSpec{}), "{}\n");
}

TEST(JobYaml, RefusesMoreBytesThanItsLimit) {
  const auto job = parse_job_yaml(std::string(kMaxJobBytes + 1, '#'), "job.yaml");
  ASSERT_FALSE(job);
  EXPECT_EQ(job.error().code(), core::ErrorCode::kLimit);
  EXPECT_EQ(job.error().text(), "job.yaml: the job file has 262145 bytes; the limit is 262144");
}

core::JobSpec arbitrary_job() {
  const auto maybe = [] { return *rc::gen::arbitrary<bool>(); };
  const auto count = [&] {
    return maybe() ? std::optional(*rc::gen::inRange<std::uint32_t>(1, 1000)) : std::nullopt;
  };
  const auto text = [] {
    return *rc::gen::nonEmpty(
        rc::gen::container<std::string>(rc::gen::elementOf(std::string("a1: #'\"\\{}[]-&*!|>%@`"))));
  };
  core::JobSpec job;
  if (maybe()) job.profile = text();
  if (maybe()) (maybe() ? job.schedule : job.schedule_file) = text();
  job.microbatches = count();
  job.virtual_stages = count();
  job.group_size = count();
  job.pipeline = count();
  job.tensor = count();
  job.data = count();
  const auto ranks = *rc::gen::inRange<std::uint32_t>(0, 4);
  for (std::uint32_t r = 0; r < ranks; ++r) job.blocking_power_of_rank[r] = core::Watts(80.1 * r);
  if (ranks == 0 && maybe()) job.blocking_power = core::Watts(0.1);
  if (maybe()) job.p2p_lag = core::Seconds(1e-9);
  if (maybe()) job.edge_lag[{*rc::gen::inRange<std::uint32_t>(0, 9), 9}] = core::Seconds(0.3);
  if (maybe()) job.inserts.push_back({"load", 3, core::Position::kAfterBackward});
  if (maybe()) job.inserts.push_back({"_x-1", 0, core::Position::kStart});
  if (maybe()) job.fit = "none";
  return job;
}

TEST(JobYaml, WhatIsWrittenIsReadBackTheSame) {
  tests::check_property(
      [] {
        const core::JobSpec job = arbitrary_job();
        const auto back = parse_job_yaml(write_job_yaml(job), "back.yaml");
        if (!back) RC_FAIL(back.error().text() + "\n" + write_job_yaml(job));
        RC_ASSERT(same(job, *back));
      },
      300);
}

}  // namespace
}  // namespace perseus::format
