// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/fault.h"

#include <gmock/gmock.h>

namespace perseus::simgpu {
namespace {

std::string refusal(std::string_view text) {
  const auto fault = parse_fault(text);
  return fault ? "accepted" : fault.error().message();
}

TEST(Fault, TableIsInTheOrderOfTheEnum) {
  ASSERT_EQ(fault_table().size(), kFaultKinds);
  for (std::size_t i = 0; i < kFaultKinds; ++i) EXPECT_EQ(fault_table()[i].kind, static_cast<FaultKind>(i));
}

TEST(Fault, TextAndValueGoBothWays) {
  for (const char* text : {"lost", "permission", "permission=users", "slow=0.25", "hang", "hang=all", "stuck",
                           "throttle", "throttle=900", "power_cap=250", "mig", "vgpu", "no_energy_counter",
                           "reload", "reload=2", "counter_restart"}) {
    const auto fault = parse_fault(text);
    ASSERT_TRUE(fault) << text;
    EXPECT_EQ(fault_text(*fault), text);
  }
}

TEST(Fault, RefusalsNameTheFaultAndWhatIsAllowed) {
  EXPECT_EQ(refusal("explode"),
            "unknown fault \"explode\"; faults: lost permission slow hang stuck throttle power_cap mig vgpu "
            "no_energy_counter reload counter_restart");
  EXPECT_EQ(refusal("slow"), "fault slow needs a value: slow=SECONDS");
  EXPECT_EQ(refusal("power_cap"), "fault power_cap needs a value: power_cap=WATTS");
  EXPECT_EQ(refusal("slow=nan"), "fault slow: value \"nan\" is not a number from 1e-06 to 3600");
  EXPECT_EQ(refusal("slow=1s"), "fault slow: value \"1s\" is not a number from 1e-06 to 3600");
  EXPECT_EQ(refusal("slow="), "fault slow: value \"\" is not a number from 1e-06 to 3600");
  EXPECT_EQ(refusal("power_cap=1e308"), "fault power_cap: value \"1e308\" is not a number from 1 to 100000");
  EXPECT_EQ(refusal("lost=1"), "fault lost takes no value, got \"1\"");
  EXPECT_EQ(refusal("hang=some"), "fault hang: value \"some\" is not \"all\"");
}

TEST(Fault, WhatHappensOnceCannotBeCleared) {
  EXPECT_EQ(parse_fault_name("stuck").value(), FaultKind::kStuck);
  EXPECT_EQ(parse_fault_name("reload").error().message(), "fault reload happens once and cannot be cleared");
}

}  // namespace
}  // namespace perseus::simgpu
