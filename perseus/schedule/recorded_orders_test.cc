// SPDX-License-Identifier: Apache-2.0
//
// Our orders against those recorded from PyTorch and lowtime: tests/golden/schedules, whose README tells
// their origin.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "perseus/schedule/generate.h"

namespace perseus::schedule {
namespace {

std::filesystem::path folder() {
  return std::filesystem::path(PERSEUS_SOURCE_DIR) / "tests" / "golden" / "schedules";
}

std::string file_text(const std::filesystem::path& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string csv(const core::Schedule& schedule) {
  std::string text;
  for (const auto& rank : schedule.ranks) {
    for (const core::Computation& c : rank) text += core::to_string(schedule, c) + ',';
    text.back() = '\n';
  }
  return text;
}

std::string sha256(const std::string& text) {
  std::array<unsigned char, 32> digest{};
  unsigned length = digest.size();
  EXPECT_EQ(EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr), 1);
  std::string hex;
  for (const unsigned char byte : digest) {
    hex += "0123456789abcdef"[byte / 16];
    hex += "0123456789abcdef"[byte % 16];
  }
  return hex;
}

std::uint32_t number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  EXPECT_TRUE(error == std::errc() && end == text.data() + text.size()) << text;
  return value;
}

std::vector<std::uint32_t> numbers(const std::string& list) {
  std::vector<std::uint32_t> values;
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) values.push_back(number(item));
  return values;
}

TEST(RecordedOrders, WholeFiles) {
  const std::regex pattern("(.+)-pp([0-9]+)-m([0-9]+)-v([0-9]+)\\.csv");
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    const std::string file = entry.path().filename().string();
    std::smatch match;
    if (!std::regex_match(file, match, pattern)) continue;
    const auto schedule = generate({.name = match[1],
                                    .pipeline = number(match[2]),
                                    .microbatches = number(match[3]),
                                    .virtual_stages = number(match[4])});
    ASSERT_TRUE(schedule.has_value()) << file << ": " << schedule.error().text();
    EXPECT_EQ(csv(*schedule), file_text(entry.path())) << file;
    ++compared;
  }
  EXPECT_EQ(compared, 21);
}

/// One line of orders.sha256.
struct Fence {
  std::string name;
  std::uint32_t pipeline = 0;
  std::uint32_t virtual_stages = 0;
  std::string microbatches;
  std::string digest;
};

/// Compares one fence over the grid's microbatch counts; returns how many schedules that were.
int compare(const Fence& fence, const std::vector<std::uint32_t>& grid) {
  const std::vector<std::uint32_t> accepted = numbers(fence.microbatches);
  std::string text;
  for (const std::uint32_t m : grid) {
    const bool recorded = std::ranges::find(accepted, m) != accepted.end();
    const auto schedule = generate({.name = fence.name,
                                    .pipeline = fence.pipeline,
                                    .microbatches = m,
                                    .virtual_stages = fence.virtual_stages});
    // PyTorch's 1F1B wants as many microbatches as ranks; Megatron-Core's and ours do not.
    const bool wider = fence.name == "1f1b" && m < fence.pipeline;
    EXPECT_EQ(schedule.has_value(), recorded || wider)
        << fence.name << " pp=" << fence.pipeline << " m=" << m << " v=" << fence.virtual_stages;
    if (recorded && schedule) text += csv(*schedule);
  }
  EXPECT_EQ(sha256(text), fence.digest)
      << fence.name << " pp=" << fence.pipeline << " v=" << fence.virtual_stages
      << ": run tests/torch/compare_schedules.py to see where";
  return static_cast<int>(accepted.size());
}

TEST(RecordedOrders, TheWholeGrid) {
  std::ifstream in(folder() / "orders.sha256");
  ASSERT_TRUE(in);
  const std::string grid_mark = "# grid: microbatches ";
  std::vector<std::uint32_t> grid;
  int schedules = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(grid_mark)) grid = numbers(line.substr(grid_mark.size()));
    if (line.starts_with('#')) continue;
    ASSERT_FALSE(grid.empty());
    std::istringstream fields(line);
    Fence fence;
    fields >> fence.name >> fence.pipeline >> fence.virtual_stages >> fence.microbatches >> fence.digest;
    ASSERT_EQ(fence.digest.size(), 64U) << line;
    schedules += compare(fence, grid);
  }
  EXPECT_EQ(schedules, 2604);
}

// Every name of PyTorch's is compared: a new one in the table fails here until its orders are recorded.
TEST(RecordedOrders, EveryNameThatPyTorchHas) {
  const std::string fences = file_text(folder() / "orders.sha256");
  for (const KnownSchedule& known : known_schedules()) {
    const bool recorded = fences.find('\n' + std::string(known.name) + ' ') != std::string::npos;
    EXPECT_EQ(recorded, !known.torch_name.empty()) << known.name;
  }
}

}  // namespace
}  // namespace perseus::schedule
