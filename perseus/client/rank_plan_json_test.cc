// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/rank_plan_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "perseus/client/test_rank_plan.h"
#include "perseus/format/files.h"
#include "tests/support/property.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::Kind;
using core::Megahertz;
using core::Seconds;

/// What a running server printed: tests/data/rank_plan.
std::string recorded(const std::string& name) {
  const auto text =
      format::read_file(std::string(PERSEUS_SOURCE_DIR) + "/tests/data/rank_plan/" + name + ".json", 1 << 20);
  EXPECT_TRUE(text) << text.error().text();
  return text.value_or("");
}

/// A recorded text without the one member that a rank drops.
std::string without_plan_sha256(std::string text) {
  const std::size_t at = text.find("\"plan_sha256\"");
  if (at != std::string::npos) text.erase(at, std::string(R"("plan_sha256":"",)").size() + 64);
  return text;
}

const std::string kFence(64, 'a');

RankPlan small_plan() {
  RankPlan plan{.job = "gpt",
                .incarnation = 1,
                .schedule_sha256 = kFence,
                .revision = 5,
                .generation = 2,
                .reason = "fastest",
                .from_step = 12,
                .ttl = Seconds(300),
                .promised_time = Seconds(0.47)};
  plan.operations = {{{Kind::kForward, 0, 0}, "", Megahertz(1410), Seconds(0.03)},
                     {{Kind::kOther, 0, 3}, "load", std::nullopt, Seconds(0.002)},
                     {{Kind::kForwardBackward, 1, 2, 3, 4}, "", Megahertz(900), Seconds(0.1)}};
  return plan;
}

std::string refusal(const std::string& body) {
  const auto plan = parse_rank_plan(body);
  return plan ? "accepted" : plan.error().text();
}

/// The small plan's text with one part replaced by another.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = rank_plan_text(small_plan());
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(RankPlanJson, what_a_server_printed_is_read_and_written_the_same) {
  for (const char* name : {"agreed", "prepared", "baseline", "brief"}) {
    const std::string text = recorded(name);
    const auto received = parse_rank_plan(text);
    ASSERT_TRUE(received) << name << ": " << received.error().text();
    EXPECT_EQ(received->complete, std::string(name) != "brief") << name;
    EXPECT_EQ(rank_plan_text(received->plan, !received->complete), without_plan_sha256(text)) << name;
  }
}

TEST(RankPlanJson, members_mean_what_the_description_says) {
  const auto received = parse_rank_plan(recorded("prepared"));
  ASSERT_TRUE(received);
  const RankPlan& plan = received->plan;
  EXPECT_EQ(plan.job, "gpt");
  EXPECT_EQ(plan.revision, 4U);
  EXPECT_EQ(plan.generation, 2U);
  EXPECT_EQ(plan.reason, "straggler");
  EXPECT_FALSE(plan.from_step);
  EXPECT_EQ(plan.ttl, Seconds(300));
  EXPECT_EQ(plan.promised_time, Seconds(0.5640000000000001));
  ASSERT_EQ(plan.operations.size(), 8U);
  EXPECT_EQ(plan.operations[2].computation, (core::Computation{Kind::kBackward, 0, 0}));
  EXPECT_EQ(plan.operations[2].clock, Megahertz(990));
  EXPECT_EQ(plan.operations[2].expected_time, Seconds(0.085455));
}

TEST(RankPlanJson, what_was_left_out_comes_from_the_plan_that_is_held) {
  const auto prepared = parse_rank_plan(recorded("prepared"));
  const auto brief = parse_rank_plan(recorded("brief"));
  ASSERT_TRUE(prepared && brief);
  const auto whole = complete(*brief, &prepared->plan);
  ASSERT_TRUE(whole) << whole.error().text();
  EXPECT_EQ(whole->from_step, 14U);
  EXPECT_EQ(whole->revision, 5U);
  EXPECT_EQ(whole->operations, prepared->plan.operations);
  EXPECT_EQ(whole->promised_time, prepared->plan.promised_time);
}

TEST(RankPlanJson, nothing_is_completed_from_another_plan) {
  const auto brief = parse_rank_plan(recorded("brief"));
  const auto agreed = parse_rank_plan(recorded("agreed"));
  ASSERT_TRUE(brief && agreed);
  EXPECT_EQ(complete(*brief, nullptr).error().text(),
            "answer: generation 2 came without operations, and this rank has none");
  EXPECT_EQ(complete(*brief, &agreed->plan).error().text(),
            "answer: generation 2 came without operations, and this rank has generation 1");
  RankPlan other = parse_rank_plan(recorded("prepared"))->plan;
  other.incarnation = 2;
  EXPECT_FALSE(complete(*brief, &other));
  other.incarnation = 1;
  other.schedule_sha256 = kFence;
  EXPECT_FALSE(complete(*brief, &other));
}

TEST(RankPlanJson, windows_of_a_sweep) {
  RankPlan plan = small_plan();
  plan.reason = "profile";
  plan.operations.clear();
  plan.promised_time.reset();
  plan.windows = {{4, 1, {{Kind::kForward, 0, Megahertz(1410)}, {Kind::kBackward, 0, Megahertz(1200)}}},
                  {1, 0, {}}};
  const auto received = parse_rank_plan(rank_plan_text(plan));
  ASSERT_TRUE(received) << received.error().text();
  EXPECT_TRUE(received->complete);
  EXPECT_EQ(received->plan, plan);
  const std::string text = rank_plan_text(plan);
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string bad = text;
    return refusal(bad.replace(bad.find(from), from.size(), to));
  };
  EXPECT_THAT(refused("\"skip\":1", "\"skip\":4"), testing::EndsWith("skips 4 of 4 steps"));
  EXPECT_THAT(refused("\"steps\":4", "\"steps\":0"),
              testing::EndsWith("\"0\" where a whole number from 1 to 1000000 must stand"));
  EXPECT_THAT(refused("\"kind\":\"F\"", "\"kind\":\"load\""), testing::EndsWith("\"load\" is no kind"));
  EXPECT_THAT(refused("\"clock_mhz\":1410", "\"clock_mhz\":0"),
              testing::EndsWith("\"0\" where a whole number from 1 to 100000 must stand"));
  EXPECT_THAT(refused("\"baseline\":false", "\"baseline\":false,\"promised_time_s\":1"),
              testing::EndsWith("windows come with neither operations nor a promised time"));
}

TEST(RankPlanJson, knobs_are_dropped) {
  const auto received =
      parse_rank_plan(changed("1410,0.03]", R"(1410,0.03,{"attention_configs":"norm_0-none-12-1024"}])"));
  ASSERT_TRUE(received) << received.error().text();
  EXPECT_EQ(received->plan, small_plan());
}

TEST(RankPlanJson, refusals_name_place_value_and_limit) {
  const std::string place = "answer:1:";
  EXPECT_EQ(refusal(""), "answer:1:1: the text ends where an object must stand");
  EXPECT_EQ(refusal("[]"), "answer:1:1: \"[\" where an object must stand");
  EXPECT_EQ(refusal("{}"), "answer:1:1: member \"job\" is missing");
  EXPECT_EQ(refusal("\n {\"jobs\":1}"), "answer:2:3: unknown member \"jobs\"; did you mean job?");
  EXPECT_THAT(refusal(changed("\"gpt\"", "\"../gpt\"")),
              testing::StartsWith("answer:1:8: \"../gpt\" is no name of a job"));
  EXPECT_EQ(refusal(changed("\"incarnation\":1", "\"incarnation\":0")),
            "answer:1:28: \"0\" where a whole number from 1 to 9007199254740991 must stand");
  EXPECT_THAT(refusal(changed(kFence, "A" + kFence.substr(1))),
              testing::EndsWith("is not 64 lower-case hexadecimal digits"));
  EXPECT_EQ(refusal(changed("\"revision\":5", "\"revision\":4")),
            "answer:1:1: revision 4 does not fit generation 2 with a step");
  EXPECT_EQ(refusal(changed("\"from_step\":12", "\"from_step\":null")),
            "answer:1:1: revision 5 does not fit generation 2 without a step");
  EXPECT_THAT(refusal(changed("\"ttl_s\":300", "\"ttl_s\":-1")),
              testing::EndsWith("-1 s is outside 0 to 1000000 s"));
  EXPECT_THAT(refusal(changed("\"ttl_s\":300", "\"ttl_s\":1e999")),
              testing::EndsWith("\"1e999\" is outside the range of a double"));
  EXPECT_THAT(refusal(changed("\"fastest\"", "\"a\\u0007\"")),
              testing::EndsWith("the reason is not printable or longer than 256 bytes"));
  EXPECT_EQ(refusal(changed("\"baseline\":false", "\"baseline\":true")),
            "answer:1:1: the baseline has neither operations, windows nor a promised time");
  EXPECT_EQ(refusal(changed("\"operations\"", "\"windows\":[],\"operations\"")),
            "answer:1:1: windows come with neither operations nor a promised time");
  EXPECT_THAT(refusal(rank_plan_text(small_plan()) + "x"),
              testing::HasSubstr("\"x\" where the end of the text must stand"));
  EXPECT_THAT(refusal("{\"job\":\"\xff\"}"), testing::HasSubstr("UTF-8"));
}

TEST(RankPlanJson, operations_are_held_to_their_shape) {
  const auto refused = [](const std::string& operation) {
    return refusal(changed("[\"F\",0,0,1410,0.03]", operation));
  };
  EXPECT_THAT(refused("[]"), testing::EndsWith("an operation of 0 elements; it has 5 or 6"));
  EXPECT_THAT(refused("[\"F\",0,0,1410]"), testing::EndsWith("an operation of 4 elements; it has 5 or 6"));
  EXPECT_THAT(refused("[\"FB\",0,0,1410,0.1,0]"),
              testing::EndsWith("an operation of 6 elements; it has 7 or 8"));
  EXPECT_THAT(refused("[\"F\",0,0,1410,0.1,7]"), testing::HasSubstr("where an object must stand"));
  EXPECT_THAT(refused("[\"F\",0,0,1410,0.1,{},{}]"),
              testing::EndsWith("an operation of more than 6 elements"));
  EXPECT_THAT(refused("[\"X\",0,0,1410,0.1]"), testing::HasSubstr("\"X\""));
  EXPECT_THAT(refused("[\"F\",-1,0,1410,0.1]"),
              testing::EndsWith("\"-1\" where a whole number from 0 to 16777215 must stand"));
  EXPECT_THAT(refused("[\"F\",0,0,100001,0.1]"),
              testing::EndsWith("\"100001\" where a whole number from 1 to 100000 must stand"));
  EXPECT_THAT(refused("[\"F\",0,0,1410,-0.1]"), testing::EndsWith("-0.1 s is outside 0 to 1000000 s"));
  EXPECT_THAT(refused("[\"F\",0,0,1410,0.1,{\"a\":[[[[]]]]}]"),
              testing::HasSubstr("where a string must stand"));
}

TEST(RankPlanJson, applied) {
  const auto applied = parse_applied(R"({"applied":true,"revision":5,"rank_ttl_s":30})");
  ASSERT_TRUE(applied);
  EXPECT_TRUE(applied->applied);
  EXPECT_EQ(applied->revision, 5U);
  EXPECT_EQ(applied->rank_ttl, Seconds(30));
  EXPECT_EQ(parse_applied(R"({"applied":true,"revision":5,"rank_ttl_s":0})").error().text(),
            "answer:1:43: a rank that may never be silent");
  EXPECT_EQ(parse_applied(R"({"applied":true})").error().text(),
            "answer:1:1: member \"revision\" is missing");
  EXPECT_EQ(parse_applied(std::string(5000, ' ')).error().code(), ErrorCode::kLimit);
}

TEST(RankPlanJson, words_of_a_refusal_are_fit_for_a_log) {
  EXPECT_EQ(refusal_words(R"({"error":{"code":"busy","message":"incarnation 1 is over"}})"),
            "incarnation 1 is over");
  EXPECT_EQ(refusal_words("<html>\n"), "\"<html>\\n\"");
  EXPECT_EQ(refusal_words(""), "nothing more");
  EXPECT_LE(refusal_words(R"({"message":")" + std::string(3000, 'x') + "\"}").size(), 300U);
}

rc::Gen<PlannedOperation> operations() {
  return rc::gen::exec([] {
    PlannedOperation out;
    core::Computation& c = out.computation;
    c.kind = *tests::pick({Kind::kForward, Kind::kBackward, Kind::kBackwardInput, Kind::kBackwardWeight,
                           Kind::kForwardBackward, Kind::kRecompute, Kind::kOther});
    c.stage = *rc::gen::inRange<std::uint32_t>(0, 1U << 24U);
    c.microbatch = *rc::gen::inRange<std::uint32_t>(0, 1U << 24U);
    if (c.kind == Kind::kForwardBackward) {
      c.stage_b = *rc::gen::inRange<std::uint32_t>(0, 1U << 24U);
      c.microbatch_b = *rc::gen::inRange<std::uint32_t>(0, 1U << 24U);
    }
    if (c.kind == Kind::kOther) out.instruction = *tests::pick<std::string>({"load", "all_reduce", "_x.y-z"});
    if (*rc::gen::arbitrary<bool>()) out.clock = Megahertz(*rc::gen::inRange(1U, 100'001U));
    out.expected_time = Seconds(*rc::gen::inRange<std::uint32_t>(0, 1U << 30U) * 1e-6);
    return out;
  });
}

rc::Gen<ProfileWindow> windows() {
  return rc::gen::exec([] {
    ProfileWindow out;
    out.steps = *rc::gen::inRange(1U, 1'000'001U);
    out.skip = *rc::gen::inRange(0U, out.steps);
    out.clocks = *rc::gen::container<std::vector<KindClock>>(rc::gen::exec([] {
      return KindClock{*tests::pick({Kind::kForward, Kind::kBackward, Kind::kRecompute}),
                       *rc::gen::inRange<std::uint32_t>(0, 1U << 24U),
                       Megahertz(*rc::gen::inRange(1U, 100'001U))};
    }));
    return out;
  });
}

TEST(RankPlanJson, a_plan_is_the_same_after_being_printed_and_read) {
  tests::check_property([] {
    RankPlan plan = small_plan();
    plan.operations.clear();
    plan.promised_time.reset();
    plan.incarnation = *rc::gen::inRange<std::uint64_t>(1, (std::uint64_t{1} << 53U) - 1);
    plan.generation = *rc::gen::inRange<std::uint64_t>(1, std::uint64_t{1} << 52U);
    plan.from_step.reset();
    if (*rc::gen::arbitrary<bool>()) plan.from_step = *rc::gen::inRange<std::uint64_t>(0, 1U << 30U);
    plan.revision = 2 * plan.generation + (plan.from_step ? 1 : 0);
    const int shape = *rc::gen::inRange(0, 3);
    plan.baseline = shape == 0;
    if (shape == 1) plan.operations = *rc::gen::container<std::vector<PlannedOperation>>(operations());
    if (shape == 1) plan.promised_time = Seconds(*rc::gen::inRange(0, 1 << 20) * 1e-4);
    if (shape == 2)
      plan.windows = *rc::gen::nonEmpty(rc::gen::container<std::vector<ProfileWindow>>(windows()));
    const auto received = parse_rank_plan(rank_plan_text(plan));
    RC_ASSERT(received.has_value());
    RC_ASSERT(received->complete);
    RC_ASSERT(received->plan == plan);
    // Left out and put in again it is the same.
    auto brief = parse_rank_plan(rank_plan_text(plan, true));
    RC_ASSERT(brief.has_value());
    RC_ASSERT(complete(*std::move(brief), &plan).value() == plan);
  });
}

}  // namespace
}  // namespace perseus::client
