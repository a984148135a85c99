// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/bloat.h"

#include <gtest/gtest.h>

#include "perseus/baseline/test_problems.h"

namespace perseus::baseline {
namespace {

using core::Joules;
using core::Seconds;

/// One microbatch; stage 0 has a forward of 1 or 2 s, and everything else is fixed.
core::Problem one_choice() {
  return problem(2, 2,
                 {entry(0, "backward", {{1000, 1, 10}}), entry(0, "forward", {{1000, 1, 10}, {500, 2, 4}}),
                  entry(1, "backward", {{1000, 2, 20}}), entry(1, "forward", {{1000, 2, 20}})},
                 1);
}

TEST(Bloat, IntrinsicIsTheSavingAtEqualTime) {
  // All-max: 1 + 2 (2 + 2) + 1 = 10 s. The second forward of stage 0 has time until 3 s: 500 MHz costs
  // nothing.
  const auto p = one_choice();
  core::Choice plan = core::fastest_choice(p);
  plan[1] = 1;
  const BloatBreakdown b = bloat(p, plan);
  EXPECT_EQ(b.all_max, Joules(120 + 20 - 12));
  EXPECT_EQ(b.intrinsic, Joules(6 + 1)) << "6 J of work, and a second less of waiting at 1 W";
  EXPECT_DOUBLE_EQ(b.intrinsic_share(), 7.0 / 128);
  EXPECT_FALSE(b.straggler.has_value());
}

TEST(Bloat, ExtrinsicIsWhatAStragglerAdds) {
  const auto p = one_choice();
  core::Choice fastest = core::fastest_choice(p);
  fastest[1] = 1;
  core::Choice slow = fastest;
  slow[0] = 1;
  const BloatBreakdown b = bloat(p, fastest, StragglerPlan{slow, Seconds(12)});
  ASSERT_TRUE(b.straggler.has_value());
  EXPECT_EQ(b.straggler->sync_time, Seconds(12));
  EXPECT_EQ(b.straggler->all_max, Joules(128 + 4));
  EXPECT_EQ(b.straggler->extrinsic, Joules(7));
  EXPECT_DOUBLE_EQ(b.extrinsic_share(), 7.0 / 132);
  EXPECT_DOUBLE_EQ(b.straggler_intrinsic_share(), 7.0 / 132);
}

}  // namespace
}  // namespace perseus::baseline
