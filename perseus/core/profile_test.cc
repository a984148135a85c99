// SPDX-License-Identifier: Apache-2.0
#include "perseus/core/profile.h"

#include <gtest/gtest.h>

namespace perseus::core {
namespace {

TEST(Profile, FindsEntriesByStageInstructionAndSecondStage) {
  const Profile profile{.entries = {{0, "backward", {}, {}},
                                    {0, "forward", {}, {}},
                                    {0, "forward_backward", 1u, {}},
                                    {0, "forward_backward", 3u, {}},
                                    {2, "forward", {}, {}}}};
  EXPECT_EQ(profile.find(0, "backward"), &profile.entries[0]);
  EXPECT_EQ(profile.find(2, "forward"), &profile.entries[4]);
  EXPECT_EQ(profile.find(0, "forward_backward", 3), &profile.entries[3]);
  EXPECT_EQ(profile.find(0, "forward_backward", 2), nullptr);
  EXPECT_EQ(profile.find(0, "forward_backward"), nullptr);
  EXPECT_EQ(profile.find(1, "forward"), nullptr);
  EXPECT_EQ(profile.find(2, "load"), nullptr);
  EXPECT_EQ(Profile().find(0, "forward"), nullptr);
}

}  // namespace
}  // namespace perseus::core
