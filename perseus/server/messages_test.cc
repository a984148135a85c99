// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/messages.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perseus/server/test_jobs.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::Seconds;
using testing::HasSubstr;

TEST(Names, what_could_be_a_path_or_needs_escaping_is_no_name) {
  for (const char* good : {"a", "gpt3-175b.run+2_x", "7"}) EXPECT_TRUE(check_name(good, "job")) << good;
  const std::string too_long(129, 'a');
  for (const char* bad :
       {"", ".", "..", "../x", "a/b", "a b", "-x", "+x", "a\n", "ä", too_long.c_str(), "a%2f"}) {
    EXPECT_FALSE(check_name(bad, "job")) << bad;
  }
  EXPECT_EQ(check_name("../x", "job").error().message(),
            "\"../x\" is no name of a job: 1 to 128 of A-Z a-z 0-9 . _ + -, a letter or digit first");
}

TEST(Names, ranks_have_one_spelling) {
  EXPECT_EQ(*parse_rank("1.30.0"), (RankId{1, 30, 0}));
  EXPECT_EQ(to_text({1, 30, 0}), "1.30.0");
  for (const char* bad :
       {"", "1", "1.2", "1.2.3.4", "01.2.3", "1.-2.3", "1.2.", ".1.2", "1.2.3 ", "4294967296.0.0"}) {
    EXPECT_FALSE(parse_rank(bad)) << bad;
  }
}

TEST(Registration, a_named_schedule_and_its_orders_have_the_same_fence) {
  const auto named = parse_registration(registration_body(3, 2, 2, 2));
  ASSERT_TRUE(named) << named.error().text();
  EXPECT_EQ(named->incarnation, 3U);
  EXPECT_EQ(named->blocking_power.size(), 2U);
  const auto orders =
      parse_registration(R"({"incarnation":3,"parallel":{"pipeline":2,"data":2},"blocking_power_w":[85,85],)"
                         R"("orders":[["0F0","0F1","0B0","0B1"],["1F0","1B0","1F1","1B1"]]})");
  ASSERT_TRUE(orders) << orders.error().text();
  EXPECT_EQ(*fence_of(*named), *fence_of(*orders));
}

/// What a body is refused with.
std::string refusal(const std::string& body) {
  const auto parsed = parse_registration(body);
  return parsed ? "accepted" : parsed.error().text();
}

TEST(Registration, refusals_name_the_place_and_the_limit) {
  const std::string head = R"({"incarnation":1,"parallel":{"pipeline":2},"blocking_power_w":85,)";
  EXPECT_EQ(refusal(head + R"("orders":[["0F0"]],"pipeline":{"schedule":"1f1b","microbatches":1}})"),
            "body: has either 'pipeline' (a named schedule) or 'orders' (the order as built)");
  EXPECT_EQ(refusal(head + R"("orders":[["0F0,0B0"],["1F0"]]})"), "body:1:77: \"0F0,0B0\" is no computation");
  EXPECT_EQ(refusal(head + R"("orders":[["0F0","0B0"]]})"),
            "body: 'orders' has 1 ranks and 'parallel.pipeline' says 2");
  EXPECT_EQ(refusal(head + R"("fit":"best","orders":[]})"), "body:1:72: \"best\" is neither none nor convex");
  EXPECT_EQ(refusal(head + R"("p2p_lag_s":-1,"orders":[]})"),
            "body:1:78: -1 s is neither 0 nor within 1e-09 to 1000000 s");
  EXPECT_THAT(refusal(head + R"("orders":[["0F0","0B0"],["1B0","1F0"]]})"), HasSubstr("1B0"));
  EXPECT_THAT(refusal(R"({"incarnation":0)"), HasSubstr("body:1:16"));
  EXPECT_THAT(refusal(head + R"("pipeline":{"schedule":"1f1b","microbatches":131072}})"),
              HasSubstr("at least 524288 computations; the limit is 131072"));
  EXPECT_THAT(refusal(R"({"incarnation":1,"parallel":{"pipeline":60000,"data":60000},"blocking_power_w":85,)"
                      R"("pipeline":{"schedule":"gpipe","microbatches":1}})"),
              HasSubstr("3600000000 ranks; the limit is 65536"));
  EXPECT_THAT(refusal(std::string(5U << 20U, ' ')), HasSubstr("limit"));
  EXPECT_THAT(refusal(R"({"incarnation":1,"blocking_power_w":1e308,"parallel":{"pipeline":1}})"),
              HasSubstr("1e+308 W is outside 0 to 1000000 W"));
}

TEST(Registration, blocking_power_is_one_or_one_for_each_rank) {
  EXPECT_THAT(refusal(R"({"incarnation":1,"parallel":{"pipeline":2},"blocking_power_w":[85],)"
                      R"("pipeline":{"schedule":"1f1b","microbatches":2}})"),
              HasSubstr("'blocking_power_w' has 1 values for 2 pipeline ranks"));
}

TEST(Messages, a_hello_is_read_whole) {
  const auto hello = parse_rank_hello(fmt::format(
      R"({{"incarnation":2,"sequence":7,"rank":"1.3.0","gpu_uuid":"GPU-1","clocks_mhz":[1410,210],)"
      R"("schedule_sha256":"{}","step":12}})",
      std::string(64, 'a')));
  ASSERT_TRUE(hello) << hello.error().text();
  EXPECT_EQ(hello->rank, (RankId{1, 3, 0}));
  EXPECT_EQ(hello->stamp.sequence, 7U);
  EXPECT_EQ(hello->clocks.size(), 2U);
  EXPECT_EQ(hello->step, 12U);
}

TEST(Messages, nonsense_numbers_are_refused) {
  const auto measure = [](const char* time) {
    const auto parsed = parse_measurement(fmt::format(
        R"({{"incarnation":1,"sequence":1,"generation":1,"step":1,"iteration_time_s":{}}})", time));
    return parsed ? "accepted" : parsed.error().message();
  };
  EXPECT_EQ(measure("0.5"), "accepted");
  EXPECT_EQ(measure("-1"), "-1 s is outside 1e-09 to 1000000 s");
  EXPECT_EQ(measure("1e308"), "1e+308 s is outside 1e-09 to 1000000 s");
  EXPECT_NE(measure("NaN"), "accepted");
  EXPECT_NE(measure("1e999"), "accepted");
  EXPECT_NE(measure("\"1\""), "accepted");
}

TEST(Messages, deep_nesting_costs_nothing) {
  const auto parsed = parse_renewal(std::string(60'000, '['));
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalidInput);
}

TEST(Notices, have_one_target_one_measure_and_one_end) {
  const auto refusal_of = [](const std::string& members) {
    const auto parsed = parse_straggler_notice("{\"cause\":\"x\"" + members + "}", "gpt");
    return parsed ? "accepted" : parsed.error().text();
  };
  EXPECT_EQ(refusal_of(R"(,"pipeline":1,"slowdown":1.5)"), "accepted");
  EXPECT_EQ(refusal_of(R"(,"job":"gpt","rank":"0.1.0","slowdown":1.5,"ttl_s":30)"), "accepted");
  EXPECT_EQ(refusal_of(R"(,"slowdown":1.5)"), "body: names either 'pipeline' or 'rank'");
  EXPECT_EQ(refusal_of(R"(,"pipeline":1)"), "body: has either 'slowdown' or 'iteration_time_s'");
  EXPECT_EQ(refusal_of(R"(,"rank":"0.1.0","iteration_time_s":2)"),
            "body: 'iteration_time_s' is of a pipeline; a rank has a 'slowdown'");
  EXPECT_EQ(refusal_of(R"(,"pipeline":1,"slowdown":0.9)"), "body:1:38: 0.9 is outside 1 to 1000");
  EXPECT_EQ(refusal_of(R"(,"pipeline":1,"slowdown":2,"ttl_s":3,"until":"2026-11-24T14:00:00Z")"),
            "body: has 'ttl_s' or 'until', not both");
  EXPECT_EQ(refusal_of(R"(,"job":"other","pipeline":1,"slowdown":2)"),
            "body:1:20: \"other\" is not the job of this path");
  EXPECT_EQ(
      refusal_of(R"(,"id":"../x","pipeline":1,"slowdown":2)"),
      "body:1:19: \"../x\" is no name of a notice: 1 to 128 of A-Z a-z 0-9 . _ + -, a letter or digit first");
}

TEST(Notices, moments_are_utc) {
  EXPECT_EQ(*parse_utc("1970-01-02T00:00:01Z"), 86'401'000);
  EXPECT_EQ(*parse_utc("2026-11-24T14:00:00.25Z"), 1'795'528'800'250);
  for (const char* bad : {"", "Z", "2026-11-24T14:00:00", "2026-02-30T00:00:00Z", "2026-11-24T24:00:00Z",
                          "2026-11-24 14:00:00Z", "2026-11-24T14:00:00.Z", "2026-11-24T14:00:00.1e5Z",
                          "2026-11-24T14:00:00+01:00"}) {
    EXPECT_FALSE(parse_utc(bad)) << bad;
  }
}

}  // namespace
}  // namespace perseus::server
