// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/plan_json.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <limits>

#include "perseus/format/sha256.h"
#include "tests/support/format_support.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

// Each file of tests/data/plan_json/refused with its refusal.
constexpr testing::Refusal kRefusals[] = {
    {"empty.json", "empty.json:1:1: the text ends where an object must stand"},
    {"list.json", "list.json:1:1: \"[\" where an object must stand"},
    {"cut.json", "cut.json:11:1: a string that is never closed"},
    {"behind.json", "behind.json:41:2: \"x\" where the end of the text must stand"},
    {"trailing_comma.json", "trailing_comma.json:1:29: \"}\" where a string must stand"},
    {"format.json", "format.json:2:11: format is \"perseus-plan/2\"; this version reads \"perseus-plan/1\""},
    {"missing.json", "missing.json:1:1: member \"energy_j\" is missing"},
    {"unknown.json", "unknown.json:41:1: unknown member \"time_ms\"; did you mean time_s?"},
    {"twice.json", "twice.json:17:1: member \"pp\" is there twice"},
    {"time_text.json", "time_text.json:5:11: \"\\\"1.2\\\"\" where a number must stand"},
    {"time_negative.json",
     "time_negative.json:5:11: a time of -1 s; it must be 0, or 1e-09 to 16000000000000 s"},
    {"time_tiny.json", "time_tiny.json:3:18: a time of 1e-12 s; it must be 0, or 1e-09 to 16000000000000 s"},
    {"nan.json", "nan.json:6:13: \"NaN\" where a number must stand"},
    {"infinite.json", "infinite.json:6:13: \"1e999\" is outside the range of a double"},
    {"leading_zero.json", "leading_zero.json:6:14: \"100.5\" where a comma or '}' must stand"},
    {"plus.json", "plus.json:6:13: \"+1\" where a number must stand"},
    {"power.json", "power.json:9:21: blocking power is -1 W; it must be 0 to 1000000 W"},
    {"powers.json", "powers.json:9:21: blocking_power_w has 2 numbers; pp is 1"},
    {"digest.json",
     "digest.json:11:20: \"000000000000000000000000000000000000000000000000000000000000...\" is no SHA-256 "
     "in 64 lower-case hexadecimal digits"},
    {"pp.json", "pp.json:19:10: ranks has 1 lists; pp is 2"},
    {"fraction.json", "fraction.json:16:17: \"1.0\" where a whole number from 1 to 16777216 must stand"},
    {"fit.json", "fit.json:17:8: fit is \"cubic\"; it must be \"none\" or \"convex\""},
    {"kind.json",
     "kind.json:22:9: kind: instruction is \"X\", the letter of a kind; write its name, such as forward, "
     "backward, backward_input, backward_weight, forward_backward or recompute"},
    {"clock_zero.json", "clock_zero.json:25:14: \"0\" where a whole number from 1 to 100000 must stand"},
    {"pair.json", "pair.json:21:1: an FB without stage_b and microbatch_b"},
    {"no_pair.json", "no_pair.json:21:1: stage_b or microbatch_b in a computation that is no FB"},
    {"knob_twice.json", "knob_twice.json:28:26: knob \"a\" is there twice"},
    {"knob_number.json", "knob_number.json:29:6: \"1\" where a string must stand"},
    {"unit.json", "unit.json:19:11: unit_w is 0.3; it must be a power of two from 2^-1022 to 2^1023"},
    {"flow_negative.json",
     "flow_negative.json:22:1: \"-1\" where a whole number from 0 to 9223372036854775807 must stand"},
    {"flow_overflow.json",
     "flow_overflow.json:20:10: \"9223372036854775808\" where a whole number from 0 to 9223372036854775807 "
     "must stand"},
    {"edge_short.json", "edge_short.json:23:1: an edge of 2 numbers; it has 3: from, to, flow"},
    {"edge_long.json", "edge_long.json:26:3: more than 3 elements of an array, the limit"},
    {"edge_zero.json",
     "edge_zero.json:26:1: \"0\" where a whole number from 1 to 9223372036854775807 must stand"},
    {"nested.json",
     "nested.json:1:1: \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...\" where an object "
     "must stand"},
    {"nested_ranks.json",
     "nested_ranks.json:1:13: \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...\" where an "
     "object must stand"},
    {"control.json", "control.json:1:16: a control character in a string"},
    {"escape.json", "escape.json:1:16: \"\\x\" is no escape of JSON"},
    {"surrogate.json", "surrogate.json:1:15: half of a surrogate pair"},
    {"low_surrogate.json", "low_surrogate.json:1:15: half of a surrogate pair"},
    {"short_escape.json", "short_escape.json:1:17: \\u without four hexadecimal digits"},
    {"escaped_nul.json", "escaped_nul.json:1:15: a NUL character in a string"},
    {"long_string.json", "long_string.json:1:14: a string of more than 4096 bytes, the limit"},
    {"open_string.json", "open_string.json:1:14: a string that is never closed"},
    {"utf8.json", "utf8.json:1:15: byte 0xff is not UTF-8 text; the plan must be"}};

TEST(PlanJson, RefusesHostileFilesWithTheirPlace) {
  testing::expect_refusals("plan_json/refused", kRefusals, [](std::string_view bytes, std::string source) {
    return parse_plan_json(bytes, std::move(source));
  });
}

TEST(PlanJson, IsTheGoldenFile) {
  const core::Problem problem = testing::small_problem();
  EXPECT_EQ(write_plan_json(problem, testing::small_plan(problem)).value(),
            testing::data_file("plan_json", "small.json"));
}

TEST(PlanJson, AnotherReaderSeesTheSame) {
  const core::Problem problem = testing::small_problem();
  const std::string text = write_plan_json(problem, testing::small_plan(problem)).value();
  const auto object = boost::json::parse(text).as_object();
  std::string names;
  for (const auto& member : object) names += std::string(member.key()) + ' ';
  EXPECT_EQ(names,
            "format target_time_s sync_time_s time_s energy_j lower_bound_j gap blocking_power_w schedule "
            "schedule_sha256 pp tp dp virtual_stages microbatches fit certificate ranks ");
  EXPECT_TRUE(object.at("sync_time_s").is_null());
  EXPECT_EQ(object.at("blocking_power_w").as_int64(), 80);
  EXPECT_EQ(object.at("ranks").at(1).at(0).at("knobs").at("cfg").as_string(), "b,c");
  EXPECT_EQ(object.at("certificate").at("edges").at(1).at(2).as_int64(), 3);
}

void expect_same(const core::Plan& a, const core::Plan& b) {
  EXPECT_EQ(a.choice, b.choice);
  EXPECT_EQ(a.target_time, b.target_time);
  EXPECT_EQ(a.sync_time, b.sync_time);
  EXPECT_EQ(a.time, b.time);
  EXPECT_EQ(a.energy, b.energy);
  EXPECT_EQ(a.lower_bound, b.lower_bound);
  EXPECT_EQ(a.gap, b.gap);
  EXPECT_EQ(a.fit, b.fit);
  ASSERT_EQ(a.certificate.has_value(), b.certificate.has_value());
  if (!a.certificate) return;
  EXPECT_EQ(a.certificate->unit_exponent, b.certificate->unit_exponent);
  EXPECT_EQ(a.certificate->value, b.certificate->value);
  EXPECT_EQ(a.certificate->computation, b.certificate->computation);
  ASSERT_EQ(a.certificate->edges.size(), b.certificate->edges.size());
  for (std::size_t i = 0; i < a.certificate->edges.size(); ++i) {
    EXPECT_EQ(a.certificate->edges[i].edge, b.certificate->edges[i].edge);
    EXPECT_EQ(a.certificate->edges[i].flow, b.certificate->edges[i].flow);
  }
}

ParsedPlan parse(std::string_view text) {
  auto parsed = parse_plan_json(text, "plan.json");
  EXPECT_TRUE(parsed) << parsed.error().text();
  return parsed.value_or(ParsedPlan{});
}

TEST(PlanJson, APlanComesBackFromItsFile) {
  const core::Problem problem = testing::small_problem();
  core::Plan plan = testing::small_plan(problem);
  const auto round_trip = [&] {
    auto bound = bind_plan(problem, parse(write_plan_json(problem, plan).value()));
    EXPECT_TRUE(bound) << bound.error().text();
    expect_same(plan, bound.value_or(core::Plan{}));
  };
  round_trip();
  plan.sync_time = core::Seconds(1.5);
  plan.certificate.reset();
  plan.fit = "convex";
  plan.lower_bound = core::Joules(0);
  plan.gap = std::numeric_limits<double>::infinity();
  round_trip();
}

core::Plan arbitrary_plan(const core::Problem& problem, std::uint64_t seed) {
  tests::SplitMix random(seed);
  const auto real = [&] { return static_cast<double>(random.next() >> 11) / 1e13; };
  core::Plan plan;
  plan.choice = tests::random_choice(problem, seed);
  plan.target_time = core::Seconds(real() + 1e-6);
  if (random.next() % 2 == 0) plan.sync_time = core::Seconds(real() + 1e-6);
  plan.time = core::Seconds(real() + 1e-6);
  plan.energy = core::Joules(real());
  plan.lower_bound = core::Joules(real() - 400);
  plan.gap = real();
  core::Certificate certificate;
  certificate.unit_exponent = static_cast<std::int32_t>(random.next() % 2046) - 1022;
  certificate.value = static_cast<std::int64_t>(random.next() >> 1);
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    certificate.computation.push_back(static_cast<std::int64_t>(random.next() >> 1));
  }
  for (core::EdgeId e = 0; e < problem.pipeline().edges().size(); ++e) {
    if (random.next() % 2 == 0)
      certificate.edges.push_back({e, static_cast<std::int64_t>(random.next() >> 1) | 1});
  }
  if (random.next() % 4 != 0) plan.certificate = std::move(certificate);
  return plan;
}

TEST(PlanJson, EveryPlanComesBackFromItsFile) {
  tests::check_property([](const tests::ProblemRecipe& recipe) {
    const core::Problem problem = tests::make_problem(recipe);
    const core::Plan plan = arbitrary_plan(problem, recipe.seed);
    const auto described = describe_plan(problem, plan);
    RC_ASSERT(described.has_value());
    const auto parsed = parse_plan_json(write_plan_json(*described), "plan.json");
    if (!parsed) RC_FAIL(parsed.error().text());
    RC_ASSERT(*parsed == *described);
    const auto bound = bind_plan(problem, *parsed);
    if (!bound) RC_FAIL(bound.error().text());
    // Options alike in clock, knobs, time and energy are one and the same choice.
    const auto again = describe_plan(problem, *bound);
    RC_ASSERT(*again == *described);
  });
}

std::string bind_error(const ParsedPlan& plan, core::ErrorCode code) {
  const auto bound = bind_plan(testing::small_problem(), plan);
  EXPECT_FALSE(bound);
  if (bound) return {};
  EXPECT_EQ(core::info(bound.error().code()).name, core::info(code).name);
  return bound.error().text();
}

ParsedPlan small() {
  const core::Problem problem = testing::small_problem();
  return describe_plan(problem, testing::small_plan(problem)).value();
}

TEST(BindPlan, RefusesOtherDegrees) {
  ParsedPlan plan = small();
  plan.tensor = 4;
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput), "the plan was made for tp 4; the job has 8");
  plan = small();
  plan.ranks.emplace_back();
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput), "the plan was made for pp 3; the job has 2");
  plan = small();
  plan.microbatches = 3;
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the plan was made for microbatches 3; the job has 2");
}

TEST(BindPlan, NamesTheFirstComputationThatDiffers) {
  ParsedPlan plan = small();
  std::swap(plan.ranks[1][1], plan.ranks[1][2]);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "rank 1, position 1: the plan has 1F1, the job's schedule 1B0");
  plan = small();
  plan.ranks[0][0].instruction = "prefetch";
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "rank 0, position 0: the plan has 0prefetch0, the job's schedule 0load0");
  plan = small();
  plan.ranks[0].pop_back();
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "rank 0: the plan has 4 computations, the job's schedule 5; 0B1 is the first too few");
  plan = small();
  plan.ranks[1].push_back(plan.ranks[1][0]);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "rank 1: the plan has 5 computations, the job's schedule 4; 1F0 is the first too many");
}

TEST(BindPlan, RefusesAFenceThatIsNotTheOrdersOwn) {
  ParsedPlan plan = small();
  const std::string truth = plan.schedule_sha256;
  plan.schedule_sha256 = std::string(64, '0');
  EXPECT_EQ(
      bind_error(plan, core::ErrorCode::kClaimFalse),
      "schedule_sha256 is " + std::string(64, '0') + "; the plan's own orders and degrees give " + truth);
}

TEST(BindPlan, RefusesOtherBlockingPower) {
  ParsedPlan plan = small();
  plan.blocking_power[1] = core::Watts(85.5);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the plan was made for a blocking power of 85.5 W on rank 1; the job has 80 W");
}

TEST(BindPlan, RefusesAnOptionThatTheProfileDoesNotHave) {
  ParsedPlan plan = small();
  plan.ranks[0][1].clock = core::Megahertz(1000);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "0F0 on rank 0: the profile has no option with 1000 MHz, cfg ");
  plan = small();
  plan.ranks[1][0].knobs = {{"cfg", "z"}};
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "1F0 on rank 1: the profile has no option with 1410 MHz, cfg z");
  plan = small();
  plan.ranks[1][0].knobs.clear();
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "1F0 on rank 1: the profile has no option with 1410 MHz");
}

TEST(BindPlan, AClaimAboutAnOptionMustBeTheProfiles) {
  ParsedPlan plan = small();
  plan.ranks[0][1].time = core::Seconds(0.12);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kClaimFalse),
            "0F0 on rank 0 with 900 MHz, cfg : the plan says 0.12 s and 15 J, the profile 0.125 s and 15 J");
}

TEST(BindPlan, KeepsFalseTotalsForTheChecker) {
  ParsedPlan plan = small();
  plan.energy = core::Joules(1);
  plan.gap = -5;
  const auto bound = bind_plan(testing::small_problem(), plan);
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->energy, core::Joules(1));
  EXPECT_EQ(bound->gap, -5);
}

TEST(BindCertificate, RefusesFlowsOfAnotherJob) {
  ParsedPlan plan = small();
  plan.certificate->computation.pop_back();
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the certificate has flows of 8 computations; the job has 9");
  plan = small();
  plan.certificate->edges.push_back({0, 8, 1});
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the certificate's edge from 0 to 8 does not exist in the job");
  plan = small();
  plan.certificate->edges.push_back({4'000'000, 8, 1});
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the certificate's edge from 4000000 to 8 does not exist in the job");
  plan = small();
  plan.certificate->edges.push_back(plan.certificate->edges[0]);
  EXPECT_EQ(bind_error(plan, core::ErrorCode::kInvalidInput),
            "the certificate's edge from 0 to 1 is there twice");
}

TEST(CertificateJson, ComesBackFromItsFile) {
  const ParsedPlan plan = small();
  const CertificateFile file{plan.schedule_sha256, plan.target_time, *plan.certificate};
  const std::string text = write_certificate_json(file);
  EXPECT_EQ(text, "{\"format\":\"perseus-certificate/1\",\"schedule_sha256\":\"" + plan.schedule_sha256 +
                      "\",\"target_time_s\":1.25,\"certificate\":{\"unit_w\":9.313225746154785e-10,\"value\":"
                      "7,\"computations\":[7,7,7,7,7,7,7,7,7],\"edges\":[[0,1,7],[1,5,3]]}}\n");
  const auto back = parse_certificate_json(text, "c.json");
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(*back, file);
}

TEST(CertificateJson, RefusesOtherFiles) {
  const auto error = [](std::string_view text) {
    return parse_certificate_json(text, "c.json").error().text();
  };
  EXPECT_EQ(error("{\"format\":\"perseus-plan/1\"}"),
            "c.json:1:11: format is \"perseus-plan/1\"; this version reads \"perseus-certificate/1\"");
  EXPECT_EQ(error("{}"), "c.json:1:1: member \"format\" is missing");
}

}  // namespace
}  // namespace perseus::format
