// SPDX-License-Identifier: Apache-2.0
//
// What the tests of this room share: a folder that goes with the test, and small readers of it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "perseus/lease/state_directory.h"

namespace perseus::lease {

inline constexpr const char* kBoot = "0f5c5a1e-93a8-4a4b-9d2f-5f3a5b7c9d11";
inline constexpr const char* kEarlierBoot = "1a2b3c4d-93a8-4a4b-9d2f-5f3a5b7c9d11";

/// /tmp/perseus-lease-XXXXXX (mode 0700), removed at the end.
class TestFolder {
 public:
  TestFolder() {
    std::string name = "/tmp/perseus-lease-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  ~TestFolder() { std::filesystem::remove_all(path_); }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + '/' + name; }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(file(name), std::ios::binary) << bytes;
  }
  /// Names of all files but lock files, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      std::string name = entry.path().filename().string();
      if (name != "lock" && !name.ends_with(".lock")) out.push_back(std::move(name));
    }
    std::ranges::sort(out);
    return out;
  }
  [[nodiscard]] core::Result<StateDirectory> open(Hold hold = Hold::kAgent, const char* boot = kBoot) const {
    return StateDirectory::open({.path = path_, .hold = hold, .boot_id = boot});
  }

 private:
  std::string path_;
};

}  // namespace perseus::lease
