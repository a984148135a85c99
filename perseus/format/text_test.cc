// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/text.h"

#include <gtest/gtest.h>

#include <array>

#include "perseus/format/sha256.h"

namespace perseus::format {
namespace {

TEST(Quoted, ShowsUntrustedTextOnOneLine) {
  using std::string_view_literals::operator""sv;
  EXPECT_EQ(quoted("plain"sv), R"("plain")");
  EXPECT_EQ(quoted("a\n\t\"\\\x01\x7f"sv), R"("a\n\t\"\\\u0001\u007f")");
  EXPECT_EQ(quoted("\xc3\xa9\xff"sv), "\"\xc3\xa9\\xff\"");
  EXPECT_EQ(quoted(std::string(100, 'x')), '"' + std::string(60, 'x') + "...\"");
}

TEST(CsvField, IsQuotedOnlyWhereItMustBe) {
  const auto field = [](std::string_view text) {
    std::string out;
    append_csv_field(out, text);
    return out;
  };
  EXPECT_EQ(field("norm_0-none-12-1024"), "norm_0-none-12-1024");
  EXPECT_EQ(field("a,b"), "\"a,b\"");
  EXPECT_EQ(field("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(field("two\nlines"), "\"two\nlines\"");
}

TEST(Utf8, FindsWhatIsNotText) {
  using std::string_view_literals::operator""sv;
  EXPECT_FALSE(find_bad_byte("ASCII, \xc3\xa9, \xe2\x82\xac, \xf0\x9f\x98\x80"));
  EXPECT_EQ(find_bad_byte("ab\0c"sv), 2U);
  EXPECT_EQ(find_bad_byte("a\x80"), 1U);             // continuation without a lead
  EXPECT_EQ(find_bad_byte("\xc3"), 0U);              // cut short
  EXPECT_EQ(find_bad_byte("\xc0\xaf"), 0U);          // overlong
  EXPECT_EQ(find_bad_byte("\xe0\x80\xaf"), 0U);      // overlong
  EXPECT_EQ(find_bad_byte("\xed\xa0\x80"), 0U);      // surrogate
  EXPECT_EQ(find_bad_byte("\xf4\x90\x80\x80"), 0U);  // above U+10FFFF
  EXPECT_EQ(find_bad_byte("\xf0\x82\x82\xac"), 0U);  // overlong
  EXPECT_EQ(find_bad_byte("\xff"), 0U);
}

TEST(Printable, RefusesWhatWouldForgeALineOfALog) {
  EXPECT_TRUE(is_printable("", 0));
  EXPECT_TRUE(is_printable("gpt3 \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 32));
  EXPECT_TRUE(is_printable("\xe2\x80\x93 \xe2\x80\xaf \xe2\x81\xa5 \xe2\x81\xaa", 32));  // beside the marks
  EXPECT_FALSE(is_printable("12345", 4));
  for (const char* text :
       {"a\nb", "\x1b[31m", "\x7f", "\xc2\x85", "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
        "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x81\xa9", "\xff", "\xe2\x80"}) {
    EXPECT_FALSE(is_printable(text, 32)) << quoted(std::string_view(text));
    EXPECT_TRUE(is_printable(printable(text, 32), 32));
  }
}

TEST(Printable, ReplacesAndCuts) {
  EXPECT_EQ(printable("plain", 32), "plain");
  EXPECT_EQ(printable("a\nb\xe2\x80\xae"
                      "c\xff",
                      32),
            "a?b?c?");
  EXPECT_EQ(printable("ab\xc3\xa9", 3), "ab");  // no half characters
  EXPECT_EQ(printable("abcd", 3), "abc");
}

TEST(OriginOf, CountsLinesAndBytesFromOne) {
  const auto at = [](std::size_t offset) {
    return core::Error(core::ErrorCode::kIo, "x", origin_of("ab\ncd", offset, "f")).text();
  };
  EXPECT_EQ(at(0), "f:1:1: x");
  EXPECT_EQ(at(2), "f:1:3: x");
  EXPECT_EQ(at(3), "f:2:1: x");
  EXPECT_EQ(at(5), "f:2:3: x");
}

TEST(Suggestion, NeedsANearName) {
  constexpr std::array<std::string_view, 3> kNames = {"microbatches", "schedule", "fit"};
  EXPECT_EQ(suggestion("microbatch", kNames), "; did you mean microbatches?");
  EXPECT_EQ(suggestion("shcedule", kNames), "; did you mean schedule?");
  EXPECT_EQ(suggestion("schedules", kNames), "; did you mean schedule?");
  EXPECT_EQ(suggestion("fti", kNames), "; did you mean fit?");
  EXPECT_EQ(suggestion("pp", kNames), "");
  EXPECT_EQ(suggestion(std::string(5000, 'f'), kNames), "");
}

TEST(InstructionName, IsOneWordThatIsNoKindLetter) {
  for (const auto* name : {"forward", "load", "all_reduce", "data-loading.v2", "_x", "allreduce2", "f"}) {
    EXPECT_TRUE(check_instruction_name(name, {})) << name;
  }
  for (const auto* name : {"", "2load", "a b", "a,b", "-x", "load\n", "f\xc3\xb6rward"}) {
    EXPECT_FALSE(check_instruction_name(name, {})) << name;
  }
  EXPECT_FALSE(check_instruction_name(std::string(65, 'x'), {}));
  for (const auto* letter : {"F", "B", "I", "W", "FB", "R", "X"}) {
    EXPECT_FALSE(check_instruction_name(letter, {})) << letter;
  }
  EXPECT_EQ(
      check_instruction_name("B", {"p.csv", 2, 3}).error().text(),
      "p.csv:2:3: instruction is \"B\", the letter of a kind; write its name, such as forward, backward, "
      "backward_input, backward_weight, forward_backward or recompute");
}

// FIPS 180-4's own examples.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256_hex("abc").value(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("").value(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").value(),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

}  // namespace
}  // namespace perseus::format
