// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/json_out.h"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace perseus::report {
namespace {

std::string json_string(std::string_view text) {
  return JsonOut().text(text).take();
}

TEST(JsonOut, NestsAndSeparates) {
  JsonOut out;
  out.begin_object().key("a").begin_array().number(1).number(2U).begin_object().end_object().end_array();
  out.key("b").boolean(true).key("c").null().key("d").text("x").end_object();
  EXPECT_EQ(out.take(), R"({"a":[1,2,{}],"b":true,"c":null,"d":"x"})");
}

TEST(JsonOut, NumbersReadBackAsTheSameDouble) {
  for (const double value :
       {0.1, 1.0 / 3, 1e-9, 5e-324, 1.7976931348623157e308, -0.0, 123456789.123456789, 2.0}) {
    EXPECT_EQ(std::strtod(JsonOut().number(value).take().c_str(), nullptr), value);
  }
  EXPECT_EQ(JsonOut().number(0.1).take(), "0.1");
}

TEST(JsonOut, NumbersThatJsonLacksAreNull) {
  EXPECT_EQ(JsonOut().number(std::numeric_limits<double>::infinity()).take(), "null");
  EXPECT_EQ(JsonOut().number(std::numeric_limits<double>::quiet_NaN()).take(), "null");
}

TEST(JsonOut, LargestIntegersKeepAllDigits) {
  EXPECT_EQ(JsonOut().number(std::numeric_limits<std::uint64_t>::max()).take(), "18446744073709551615");
  EXPECT_EQ(JsonOut().number(std::numeric_limits<std::int64_t>::min()).take(), "-9223372036854775808");
}

TEST(JsonOut, NoTextClosesAScriptElement) {
  EXPECT_EQ(json_string("</script><!--"), R"("\u003c/script\u003e\u003c!--")");
  EXPECT_EQ(json_string("a & b"), R"("a \u0026 b")");
}

TEST(JsonOut, QuotesBackslashesAndControlCharacters) {
  EXPECT_EQ(json_string("\"\\\n\t\r\x01\x7f"), R"("\"\\\n\t\u000d\u0001\u007f")");
  EXPECT_EQ(json_string(std::string_view("a\0b", 3)), R"("a\u0000b")");
}

TEST(JsonOut, LineSeparatorsAreEscaped) {
  EXPECT_EQ(json_string("a\u2028b\u2029c\u2027"), "\"a\\u2028b\\u2029c\u2027\"");
}

TEST(JsonOut, KeysAreEscapedToo) {
  EXPECT_EQ(JsonOut().begin_object().key("<\"").number(1).end_object().take(), R"({"\u003c\"":1})");
}

TEST(ValidUtf8, KeepsWellFormedText) {
  const std::string text = "T\u2098\u1d62\u2099 µ − \U0001F600";
  EXPECT_EQ(valid_utf8(text), text);
}

TEST(ValidUtf8, ReplacesEveryBrokenByte) {
  EXPECT_EQ(valid_utf8("a\xff"), "a\ufffd");
  EXPECT_EQ(valid_utf8("\xC0\xAF"), "\ufffd\ufffd");            // overlong
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), "\ufffd\ufffd\ufffd");  // surrogate
  EXPECT_EQ(valid_utf8("\xF4\x90\x80\x80").size(), 12U);        // above U+10FFFF
  EXPECT_EQ(valid_utf8("\xE2\x82"), "\ufffd\ufffd");            // cut short
  EXPECT_EQ(valid_utf8("\xE2\x28\xA1"), "\ufffd(\ufffd");
}

TEST(ValidUtf8, BrokenBytesStillGiveParsableJson) {
  std::string bytes;
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  EXPECT_EQ(boost::json::parse(json_string(bytes)).as_string().size(), valid_utf8(bytes).size());
}

TEST(EscapeHtml, EscapesWhatMarkupIsMadeOf) {
  EXPECT_EQ(escape_html("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
  EXPECT_EQ(escape_html("a\x01\nb\xff"), "a  b\ufffd");
}

TEST(Base64, AgreesWithRfc4648) {
  const auto encode = [](std::string_view text) {
    return base64(std::vector<std::uint8_t>(text.begin(), text.end()));
  };
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foo"), "Zm9v");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64(std::vector<std::uint8_t>{0xFB, 0xFF}), "+/8=");
}

}  // namespace
}  // namespace perseus::report
