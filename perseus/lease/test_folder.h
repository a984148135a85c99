// SPDX-License-Identifier: Apache-2.0
//
// What the tests of this room share: a folder that goes with the test, and small readers of it.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "perseus/lease/state_directory.h"
#include "tests/support/temporary_folder.h"

namespace perseus::lease {

inline constexpr const char* kBoot = "0f5c5a1e-93a8-4a4b-9d2f-5f3a5b7c9d11";
inline constexpr const char* kEarlierBoot = "1a2b3c4d-93a8-4a4b-9d2f-5f3a5b7c9d11";

class TestFolder : public tests::TemporaryFolder {
 public:
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
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      std::string name = entry.path().filename().string();
      if (name != "lock" && !name.ends_with(".lock")) out.push_back(std::move(name));
    }
    std::ranges::sort(out);
    return out;
  }
  [[nodiscard]] core::Result<StateDirectory> open(Hold hold = Hold::kAgent, const char* boot = kBoot) const {
    return StateDirectory::open({.path = path(), .hold = hold, .boot_id = boot});
  }
};

}  // namespace perseus::lease
