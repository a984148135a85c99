// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/result.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace perseus::core {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(ErrorCode::kInvalidInput, "odd", {.source = "--n", .line = 3, .column = 7});
  return n / 2;
}

Result<std::string> quarter_text(int n) {
  PERSEUS_ASSIGN_OR_RETURN(const int once, half(n));
  PERSEUS_ASSIGN_OR_RETURN(const int twice, half(once));
  return std::to_string(twice);
}

Status both_even(int a, int b) {
  PERSEUS_RETURN_IF_ERROR(half(a));
  PERSEUS_RETURN_IF_ERROR(half(b));
  return {};
}

TEST(ErrorTable, HasOneRowPerCodeInTheOrderOfTheEnum) {
  std::set<std::string_view> names;
  for (std::size_t k = 0; k < error_table().size(); ++k) {
    const ErrorInfo& row = error_table()[k];
    EXPECT_EQ(row.code, static_cast<ErrorCode>(k));
    EXPECT_EQ(&info(row.code), &row);
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_GE(row.exit_code, 1);
    EXPECT_LE(row.exit_code, 3);
    EXPECT_TRUE(row.meaning.ends_with('.')) << row.name;
  }
  EXPECT_EQ(error_table().size(), static_cast<std::size_t>(ErrorCode::kInternal) + 1);
  EXPECT_EQ(info(ErrorCode::kUsage).exit_code, 2);
  EXPECT_EQ(info(ErrorCode::kClaimFalse).exit_code, 1);
  EXPECT_EQ(info(ErrorCode::kIo).exit_code, 3);
}

TEST(Error, TextLeavesOutWhatIsNotKnown) {
  const Error error(ErrorCode::kInvalidInput, "time is -1");
  EXPECT_EQ(error.text(), "time is -1");
  EXPECT_EQ(error.at({.source = "p.csv"}).text(), "p.csv: time is -1");
  EXPECT_EQ(error.at({.source = "p.csv", .line = 4}).text(), "p.csv:4: time is -1");
  EXPECT_EQ(error.at({.source = "p.csv", .line = 4, .column = 2}).text(), "p.csv:4:2: time is -1");
  EXPECT_EQ(error.at({.line = 4, .column = 2}).text(), "line 4:2: time is -1");
  EXPECT_EQ(error.at({.source = "p.csv"}).code(), ErrorCode::kInvalidInput);
  EXPECT_EQ((Warning{"slow", {.source = "p.csv", .line = 9}}).text(), "p.csv:9: slow");
}

TEST(Result, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(quarter_text(12), "3");
  EXPECT_EQ(quarter_text(6).error().text(), "--n:3:7: odd");
  EXPECT_TRUE(both_even(2, 4).has_value());
  EXPECT_EQ(both_even(2, 3).error().message(), "odd");
}

}  // namespace
}  // namespace perseus::core
