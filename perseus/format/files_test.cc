// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/temporary_folder.h"

namespace perseus::format {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.file(name); }
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
  }

 private:
  const tests::TemporaryFolder folder_;
};

TEST_F(Files, WhatIsWrittenIsRead) {
  const std::string bytes = std::string("a\0b\r\n", 5) + std::string(200'000, 'x');
  ASSERT_TRUE(write_file_atomically(path("f"), bytes));
  EXPECT_EQ(read_file(path("f"), bytes.size()).value(), bytes);
  EXPECT_EQ(count(), 1U) << "a temporary file was left behind";
}

TEST_F(Files, AnAbsentFileOrFolderIsNotFound) {
  const auto read = read_file(path("none"), 10);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), core::ErrorCode::kNotFound);
  EXPECT_EQ(read.error().text(), path("none") + ": cannot open: No such file or directory");
  const auto written = write_file_atomically(path("no/file"), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), core::ErrorCode::kNotFound);
  EXPECT_EQ(written.error().text(), path("no/file") + ": cannot write: No such file or directory");
}

TEST_F(Files, AFolderIsNoFile) {
  const auto read = read_file(path(""), 10);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), core::ErrorCode::kIo);
  EXPECT_EQ(read.error().text(), path("") + ": cannot read: Is a directory");
  const auto written = write_file_atomically(path(""), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().text(), path("") + ": cannot write: Is a directory");
}

TEST_F(Files, ReadingStopsAtTheLimit) {
  ASSERT_TRUE(write_file_atomically(path("f"), "12345"));
  EXPECT_EQ(read_file(path("f"), 5).value(), "12345");
  const auto read = read_file(path("f"), 4);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), core::ErrorCode::kLimit);
  EXPECT_EQ(read.error().text(), path("f") + ": the file has more than 4 bytes, the limit");
  // An endless device is not read to its end.
  EXPECT_EQ(read_file("/dev/zero", 1000).error().code(), core::ErrorCode::kLimit);
}

TEST_F(Files, PermissionsAndLinksStay) {
  ASSERT_TRUE(write_file_atomically(path("f"), "old"));
  ASSERT_EQ(::chmod(path("f").c_str(), 0640), 0);
  fs::create_symlink("f", path("link"));
  ASSERT_TRUE(write_file_atomically(path("link"), "new"));
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read_file(path("f"), 10).value(), "new");
  struct stat info{};
  ASSERT_EQ(::stat(path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0640U);
}

TEST_F(Files, ADeviceIsWrittenAndNotReplaced) {
  ASSERT_TRUE(write_file_atomically("/dev/null", "x"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  const auto full = write_file_atomically("/dev/full", "x");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().text(), "/dev/full: cannot write: No space left on device");
}

}  // namespace
}  // namespace perseus::format
