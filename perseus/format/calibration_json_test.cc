// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/calibration_json.h"

#include <gmock/gmock.h>

#include "perseus/format/files.h"

namespace perseus::format {
namespace {

using core::Megahertz;
using core::Seconds;

Calibration example() {
  Calibration c;
  c.uuid = "GPU-5c3b";
  c.name = "NVIDIA A100-SXM4-80GB";
  c.backend = "nvml";
  c.driver_version = "580.95.05";
  c.measured_at = "2026-11-24T09:30:00Z";
  c.load = "a \"matrix\" loop";
  c.resolution = Seconds{0.00025};
  c.energy_period = ReadingPeriod{Seconds{0.1}, Seconds{0.101}, Seconds{0.001}, 20};
  const SwitchLatency latency{Seconds{0.012}, Seconds{0.02}, Seconds{0.025}};
  c.targets = {
      {.clock = Megahertz{210}, .samples = 0, .unsettled = 5, .throttled = 1, .latency = std::nullopt},
      {.clock = Megahertz{1410}, .samples = 5, .unsettled = 0, .throttled = 0, .latency = latency}};
  c.pairs = {{.from = Megahertz{210}, .to = Megahertz{1410}, .samples = 5, .latency = latency}};
  return c;
}

constexpr std::string_view kExample = R"({
  "format": "perseus-calibration/1",
  "uuid": "GPU-5c3b",
  "name": "NVIDIA A100-SXM4-80GB",
  "backend": "nvml",
  "driver_version": "580.95.05",
  "measured_at": "2026-11-24T09:30:00Z",
  "load": "a \"matrix\" loop",
  "resolution_s": 0.00025,
  "energy_counter": true,
  "energy_period": {"median_s":0.1,"longest_s":0.101,"resolution_s":0.001,"updates":20},
  "power_period": null,
  "targets": [
    {"clock_mhz":210,"samples":0,"unsettled":5,"throttled":1,"latency":null},
    {"clock_mhz":1410,"samples":5,"unsettled":0,"throttled":0,"latency":{"median_s":0.012,"p95_s":0.02,"longest_s":0.025}}
  ],
  "pairs": [
    {"from_mhz":210,"to_mhz":1410,"samples":5,"latency":{"median_s":0.012,"p95_s":0.02,"longest_s":0.025}}
  ]
}
)";

TEST(CalibrationJson, WritesWhatItReads) {
  EXPECT_EQ(write_calibration_json(example()), kExample);
  const auto read = parse_calibration_json(kExample, "c.json");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(*read, example());
}

// schema/calibration.schema.json is held against this file by tests/python/test_schemas.py.
TEST(CalibrationJson, SampleFileIsTheExample) {
  const auto bytes =
      read_file(std::string(PERSEUS_SOURCE_DIR) + "/tests/data/calibration_json/small.json", 1 << 20);
  ASSERT_TRUE(bytes) << bytes.error().text();
  EXPECT_EQ(*bytes, kExample);
}

/// What is said of the example with one part replaced.
std::string refusal(std::string_view part, std::string_view by) {
  std::string text(kExample);
  const auto place = text.find(part);
  EXPECT_NE(place, std::string::npos) << part;
  text.replace(place, part.size(), by);
  const auto read = parse_calibration_json(text, "c.json");
  return read ? "accepted" : read.error().text();
}

TEST(CalibrationJson, RefusesWhatIsNoCalibration) {
  EXPECT_EQ(refusal("calibration/1", "calibration/2"),
            "c.json:2:13: the format 'perseus-calibration/2' is not 'perseus-calibration/1'");
  EXPECT_EQ(refusal("0.00025", "-1"), "c.json:9:19: -1 s is not from 0 to 3600 s");
  EXPECT_EQ(refusal("0.00025", "1e9"), "c.json:9:19: 1000000000 s is not from 0 to 3600 s");
  EXPECT_EQ(refusal("\"median_s\":0.1,", "\"median_s\":0.2,"), "c.json:11:20: median_s is above longest_s");
  EXPECT_EQ(refusal("\"p95_s\":0.02,", "\"p95_s\":0.002,"),
            "c.json:15:73: median_s, p95_s and longest_s do not ascend");
  EXPECT_EQ(refusal("\"clock_mhz\":1410", "\"clock_mhz\":210"),
            "c.json:15:5: 210 MHz does not follow 210 MHz: clocks ascend");
  EXPECT_EQ(refusal("\"samples\":0", "\"samples\":1"),
            "c.json:14:5: a latency of 1 samples must not be null");
  EXPECT_EQ(refusal("\"samples\":5", "\"samples\":0"), "c.json:15:5: a latency of 0 samples must be null");
  EXPECT_EQ(refusal("\"to_mhz\":1410", "\"to_mhz\":210"),
            "c.json:18:5: a switch goes from one clock to another");
  EXPECT_NE(refusal("\"clock_mhz\":210", "\"clock_mhz\":0"), "accepted");
  EXPECT_NE(refusal("\"clock_mhz\":210", "\"clock_mhz\":1e3"), "accepted");
  EXPECT_NE(refusal("\"power_period\": null,", ""), "accepted");
  EXPECT_NE(refusal("\"load\"", "\"lode\""), "accepted");
  EXPECT_NE(refusal("]\n}", "]\n} x"), "accepted");
}

TEST(CalibrationJson, PairsAscend) {
  Calibration c = example();
  c.pairs.push_back(c.pairs[0]);
  EXPECT_EQ(parse_calibration_json(write_calibration_json(c), "c.json").error().text(),
            "c.json:19:5: pairs ascend by from_mhz, then by to_mhz");
  c.pairs.clear();
  c.targets.clear();
  EXPECT_EQ(parse_calibration_json(write_calibration_json(c), "c.json").value(), c);
}

}  // namespace
}  // namespace perseus::format
