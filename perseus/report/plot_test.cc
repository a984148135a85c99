// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/plot.h"

#include <gmock/gmock.h>

#include <string>
#include <string_view>

#include "perseus/report/palette.h"
#include "perseus/report/testing.h"

namespace perseus::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::must;

TEST(Ticks, AreRoundAndInside) {
  EXPECT_THAT(ticks(0, 1, 5).values, ElementsAre(0, 0.2, 0.4, 0.6000000000000001, 0.8, 1));
  EXPECT_EQ(ticks(0, 1, 5).decimals, 1);
  EXPECT_THAT(ticks(3.3, 4.9, 3).values, ElementsAre(3.5, 4, 4.5));
  EXPECT_EQ(ticks(1200, 5200, 4).decimals, 0);
  EXPECT_THAT(ticks(-0.5, 0.5, 2).values, ElementsAre(-0.5, 0, 0.5));
}

TEST(SignedPercent, ShowsSignAndOneDecimal) {
  EXPECT_EQ(signed_percent(-0.1234), "\u221212.3 %");
  EXPECT_EQ(signed_percent(0.0567), "+5.7 %");
  EXPECT_EQ(signed_percent(-0.0004), "0.0 %");
}

TEST(FourDigits, KeepTheirZeros) {
  EXPECT_EQ(four_digits(28.5), "28.50");
  EXPECT_EQ(four_digits(0.0012344), "0.001234");
  EXPECT_EQ(four_digits(12345.6), "12346");
}

TEST(EnergyUnit, SuitsTheLargest) {
  EXPECT_EQ(energy_unit(core::Joules(999)).name, "J");
  EXPECT_EQ(energy_unit(core::Joules(1000)).name, "kJ");
  EXPECT_EQ(energy_unit(core::Joules(2.5e6)).name, "MJ");
  EXPECT_EQ(energy_unit(core::Joules(3e9)).name, "GJ");
}

TEST(Scale, NeverHasZeroWidth) {
  const double same[] = {5, 5};
  const Scale scale = padded_scale(same, 0.1, 0, 100);
  EXPECT_LT(scale.low, scale.high);
  EXPECT_DOUBLE_EQ(scale(5), 50);
}

double luminance(Color c) {
  return 0.2126 * c.red + 0.7152 * c.green + 0.0722 * c.blue;
}

TEST(Palette, RampsGetSteadilyLighter) {
  for (const ColorBy by : {ColorBy::kClock, ColorBy::kPower}) {
    double before = -1;
    for (const Color stop : ramp_stops(by)) {
      EXPECT_GT(luminance(stop), before);
      before = luminance(stop);
    }
  }
}

TEST(Palette, OklchGivesKnownColours) {
  EXPECT_EQ(oklch(1, 0, 0), (Color{255, 255, 255}));
  EXPECT_EQ(oklch(0, 0, 0), (Color{0, 0, 0}));
  // sRGB red is OKLCH(0.62796, 0.25768, 29.234).
  EXPECT_EQ(hex(oklch(0.62796, 0.25768, 29.234)), "#ff0000");
  EXPECT_EQ(ramp(ColorBy::kClock, -3), ramp(ColorBy::kClock, 0));
}

/// Every element is closed, and in order: enough of XML for what the canvas writes.
bool is_balanced(std::string_view xml) {
  std::vector<std::string> open;
  for (std::size_t at = xml.find('<'); at != std::string_view::npos; at = xml.find('<', at + 1)) {
    const std::string_view tag = xml.substr(at, xml.find('>', at) - at + 1);
    const std::string name(tag.substr(1, tag.find_first_of(" />", 2) - 1));
    if (tag.ends_with("/>")) continue;
    if (tag[1] != '/') {
      open.push_back(name);
    } else if (open.empty() || "/" + open.back() != tag.substr(1, tag.size() - 2)) {
      return false;
    } else {
      open.pop_back();
    }
  }
  return open.empty();
}

TEST(Svg, IsWellFormedAndEscapesTexts) {
  ReportInputs inputs = testing::sample_inputs();
  inputs.title = "A & B <script>\"x\"\x01";
  for (const std::string& svg : {must(write_frontier_svg(inputs)), must(write_timeline_svg(inputs, 0))}) {
    EXPECT_TRUE(is_balanced(svg));
    EXPECT_THAT(svg, HasSubstr("A &amp; B &lt;script&gt;&quot;x&quot; "));
    EXPECT_EQ(svg.find("<script"), std::string::npos);
  }
}

TEST(Svg, FrontierNamesItsEvidenceAndBaselines) {
  const std::string svg = must(write_frontier_svg(testing::sample_inputs()));
  for (const char* text :
       {"all-max", "best single clock", "EnvPipe", "T_min", "T*", "(predicted)", "proven bound"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
}

TEST(Png, HasTwicePixelsOfTheSvg) {
  const std::string png = must(write_frontier_png(testing::sample_inputs()));
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t k = 0; k < 4; ++k) value = value << 8 | static_cast<unsigned char>(png[at + k]);
    return value;
  };
  ASSERT_EQ(png.substr(12, 4), "IHDR");
  EXPECT_EQ(number(16), 2400U);
  EXPECT_EQ(number(20), 1350U);
}

}  // namespace
}  // namespace perseus::report
