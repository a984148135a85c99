// SPDX-License-Identifier: Apache-2.0
//
// A folder of its own for a test, which goes with the object.
//
//   const TemporaryFolder folder;
//   std::ofstream(folder.file("x")) << "text";
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace perseus::tests {

/// Mode 0700. Names are short: they become part of Unix sockets' names, which have 107 bytes at most.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent = testing::TempDir()) {
    std::string name = parent + "/perseus_XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr) << "no folder can be made in " << parent;
    path_ = std::filesystem::path(name).lexically_normal().string();
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + '/' + name; }

 private:
  std::string path_;
};

}  // namespace perseus::tests
