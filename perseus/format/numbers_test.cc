// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/numbers.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace perseus::format {
namespace {

TEST(Numbers, LookAsAPersonWouldWriteThem) {
  EXPECT_EQ(number_text(0.1234), "0.1234");
  EXPECT_EQ(number_text(85), "85");
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(-2.5), "-2.5");
  EXPECT_EQ(number_text(0.0001), "0.0001");
  EXPECT_EQ(number_text(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(number_text(1e-9), "1e-09");
  EXPECT_EQ(number_text(1798.1348593212274), "1798.1348593212274");
  EXPECT_EQ(number_text(1e22), "1e+22");
}

TEST(Numbers, JsonHasNoInfinity) {
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "null");
  EXPECT_EQ(number_text(std::numeric_limits<double>::quiet_NaN()), "null");
}

TEST(Numbers, EveryFiniteDoubleReadsBackTheSame) {
  std::mt19937_64 random(20231206);
  for (int i = 0; i < 200'000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    const auto back = parse_number(number_text(value));
    ASSERT_TRUE(back);
    ASSERT_EQ(std::bit_cast<std::uint64_t>(*back), std::bit_cast<std::uint64_t>(value)) << number_text(value);
  }
}

TEST(Numbers, ANumberFillsItsFieldAndIsFiniteDecimal) {
  for (const auto* text : {"", " 1", "1 ", "+1", "0x10", "1e", "1.5.2", "nan", "inf", "-inf", "infinity",
                           "1e999", "-1e999", "1e-999", "1_000", "1,5", "one", "--1", "."}) {
    EXPECT_FALSE(parse_number(text)) << text;
  }
  EXPECT_EQ(parse_number("1e3"), 1000.0);
  EXPECT_EQ(parse_number("-.5"), -0.5);
  EXPECT_EQ(parse_number("5."), 5.0);
}

TEST(Numbers, AnIntegerFitsItsType) {
  EXPECT_EQ(parse_integer<std::uint32_t>("4294967295"), 4294967295U);
  EXPECT_FALSE(parse_integer<std::uint32_t>("4294967296"));
  EXPECT_FALSE(parse_integer<std::uint32_t>("-1"));
  EXPECT_FALSE(parse_integer<std::uint32_t>("1.0"));
  EXPECT_FALSE(parse_integer<std::uint32_t>(""));
  EXPECT_EQ(parse_integer<std::int64_t>("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
}

}  // namespace
}  // namespace perseus::format
