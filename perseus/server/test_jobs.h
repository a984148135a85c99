// SPDX-License-Identifier: Apache-2.0
//
// Small jobs for the tests of this room.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>

#include "perseus/server/messages.h"
#include "perseus/server/planning.h"

namespace perseus::server {

/// A registration of 1f1b over `pipeline` ranks and `data` pipelines.
inline std::string registration_body(std::uint64_t incarnation = 1, std::uint32_t pipeline = 2,
                                     std::uint32_t data = 2, std::uint32_t microbatches = 4) {
  return fmt::format(R"({{"incarnation":{},"parallel":{{"pipeline":{},"tensor":1,"data":{}}},)"
                     R"("blocking_power_w":85,"pipeline":{{"schedule":"1f1b","microbatches":{}}}}})",
                     incarnation, pipeline, data, microbatches);
}

inline Registration registration(std::uint64_t incarnation = 1, std::uint32_t pipeline = 2,
                                 std::uint32_t data = 2, std::uint32_t microbatches = 4) {
  auto parsed = parse_registration(registration_body(incarnation, pipeline, data, microbatches));
  EXPECT_TRUE(parsed) << parsed.error().text();
  return *std::move(parsed);
}

/// Forward and backward of `stages` stages at four clocks; later stages are slower. `scale` stretches all
/// times.
inline std::string profile_csv(std::uint32_t stages = 2, double scale = 1) {
  std::string out = "stage,instruction,frequency,time,energy\n";
  for (std::uint32_t stage = 0; stage < stages; ++stage) {
    for (const bool forward : {true, false}) {
      const double time = scale * (forward ? 0.03 + 0.005 * stage : 0.06 + 0.01 * stage);
      for (const int clock : {1410, 1200, 990, 780}) {
        out += fmt::format("{},{},{},{:.6f},{:.4f}\n", stage, forward ? "forward" : "backward", clock,
                           time * 1410 / clock, 300 * time * std::pow(clock / 1410.0, 1.5));
      }
    }
  }
  return out;
}

inline std::shared_ptr<const Solved> solved(const Registration& job, const std::string& csv = profile_csv()) {
  SolveControl control;
  auto answer = solve(job, csv, control);
  EXPECT_TRUE(answer) << answer.error().text();
  return std::make_shared<const Solved>(*std::move(answer));
}

}  // namespace perseus::server
