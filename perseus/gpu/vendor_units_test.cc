// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/vendor_units.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <regex>

namespace perseus::gpu {
namespace {

using core::Celsius;
using core::Joules;
using core::Megahertz;
using core::Watts;

TEST(VendorUnits, Convert) {
  EXPECT_EQ(from_milliwatts(90'500), Watts{90.5});
  EXPECT_EQ(from_millijoules(1), Joules{0.001});
  EXPECT_EQ(from_microjoules(2e6), Joules{2});
  EXPECT_EQ(from_percent(25), 0.25);
  EXPECT_EQ(from_hertz(1'410'000'000), Megahertz{1410});
  EXPECT_EQ(from_hertz(1'410'499'999), Megahertz{1410});
  EXPECT_EQ(from_hertz(1'410'500'000), Megahertz{1411});
  EXPECT_EQ(from_hertz(0xFFFF'FFFF'FFFF'FFFF), Megahertz{0xFFFF'FFFF});
}

// Two values that releases of AMD SMI return in either of two units.
TEST(VendorUnits, TellUnitsApartByTheirSize) {
  EXPECT_EQ(from_amd_power_cap(750'000'000), Watts{750});
  EXPECT_EQ(from_amd_power_cap(750), Watts{750});
  EXPECT_EQ(from_amd_temperature(55), Celsius{55});
  EXPECT_EQ(from_amd_temperature(55'500), Celsius{55.5});
}

// Units are converted in one file (DESIGN: "NVML's mW/mJ are converted in one file"): no other source of this
// room scales by a power of ten.
TEST(VendorUnits, NoOtherFileScales) {
  const std::regex factor(R"([*/] *(1e-?[0-9]+|0\.0*1\b|1'?000('000)*\b))");
  std::size_t looked_at = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PERSEUS_SOURCE_DIR) + "/perseus/gpu")) {
    const std::string name = entry.path().filename();
    if (name == "vendor_units.h" || name.ends_with("_test.cc")) continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      EXPECT_FALSE(std::regex_search(line, factor)) << name << ": " << line;
    }
    ++looked_at;
  }
  EXPECT_GT(looked_at, 20U);
  EXPECT_TRUE(std::regex_search(std::string("x * 1e-3"), factor)) << "the search itself";
}

}  // namespace
}  // namespace perseus::gpu
