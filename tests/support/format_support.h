// SPDX-License-Identifier: Apache-2.0
//
// What the tests of format/ share: a small job, and files under tests/data.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/format/files.h"

namespace perseus::format::testing {

/// tests/data/FOLDER of the source tree.
std::filesystem::path data_folder(std::string_view folder);

inline std::string data_file(std::string_view folder, std::string_view name) {
  auto bytes = read_file((data_folder(folder) / name).string(), std::size_t{1} << 20);
  EXPECT_TRUE(bytes) << bytes.error().text();
  return bytes.value_or("");
}

/// A hostile file and the whole text of its refusal.
struct Refusal {
  std::string_view file;
  std::string_view text;
};

/// Each file of tests/data/FOLDER is refused with exactly its text, and none is forgotten.
template <class Parse>
void expect_refusals(std::string_view folder, std::span<const Refusal> refusals, Parse&& parse) {
  for (const auto& [file, text] : refusals) {
    const auto parsed = parse(data_file(folder, file), std::string(file));
    ASSERT_FALSE(parsed) << file << " was accepted";
    EXPECT_EQ(parsed.error().text(), text);
  }
  for (const auto& entry : std::filesystem::directory_iterator(data_folder(folder))) {
    const std::string name = entry.path().filename().string();
    EXPECT_NE(std::ranges::find(refusals, name, &Refusal::file), refusals.end()) << name << " is in no test";
  }
}

inline core::Option option(std::uint32_t mhz, double time, double energy,
                           std::vector<std::string> knobs = {}) {
  core::Option out;
  out.clock = core::Megahertz(mhz);
  out.time = core::Seconds(time);
  out.energy = core::Joules(energy);
  out.knobs = std::move(knobs);
  return out;
}

/// Two ranks, two microbatches, 1F1B, with a `load` before the first forward; the knob `cfg` tells two
/// options of stage 1's forward apart.
inline core::Problem small_problem() {
  using core::Kind;
  core::Schedule schedule;
  schedule.name = "1f1b";
  schedule.microbatches = 2;
  schedule.instructions = {"load"};
  schedule.ranks = {
      {{Kind::kOther, 0, 0},
       {Kind::kForward, 0, 0},
       {Kind::kForward, 0, 1},
       {Kind::kBackward, 0, 0},
       {Kind::kBackward, 0, 1}},
      {{Kind::kForward, 1, 0}, {Kind::kBackward, 1, 0}, {Kind::kForward, 1, 1}, {Kind::kBackward, 1, 1}}};
  core::ProblemInputs inputs;
  inputs.profile.knob_names = {"cfg"};
  inputs.profile.entries = {
      {0, "backward", {}, {option(1410, 0.2, 40, {""}), option(900, 0.25, 30, {""})}},
      {0, "forward", {}, {option(1410, 0.1, 20, {""}), option(900, 0.125, 15, {""})}},
      {0, "load", {}, {option(1410, 0.01, 1, {""})}},
      {1, "backward", {}, {option(1410, 0.2, 40, {""})}},
      {1, "forward", {}, {option(1410, 0.1, 20, {"a"}), option(1410, 0.11, 18, {"b,c"})}},
  };
  inputs.blocking_power = {core::Watts(80), core::Watts(80)};
  inputs.parallel = {.tensor = 8, .data = 2};
  auto pipeline = core::Pipeline::build(std::move(schedule));
  EXPECT_TRUE(pipeline) << pipeline.error().text();
  auto problem = core::Problem::build(*std::move(pipeline), std::move(inputs));
  EXPECT_TRUE(problem) << problem.error().text();
  return *std::move(problem);
}

/// A plan for small_problem() with a certificate; its claims are of the right form, not true.
inline core::Plan small_plan(const core::Problem& problem) {
  core::Plan plan;
  plan.choice = {0, 1, 0, 0, 1, 1, 0, 0, 0};
  plan.target_time = core::Seconds(1.25);
  plan.time = core::Seconds(1.2);
  plan.energy = core::Joules(100.5);
  plan.lower_bound = core::Joules(100.25);
  plan.gap = 0.0024937655860349127;
  core::Certificate certificate{-30, 7, std::vector<std::int64_t>(problem.size(), 7), {{0, 7}, {2, 3}}};
  plan.certificate = std::move(certificate);
  return plan;
}

}  // namespace perseus::format::testing
