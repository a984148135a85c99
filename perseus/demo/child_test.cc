// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/child.h"

#include <gmock/gmock.h>
#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace perseus::demo {
namespace {

using ::testing::ElementsAre;

class ChildTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  core::Result<Child> shell(const std::string& script) {
    return Child::start({.name = "script",
                         .arguments = {"/bin/sh", "-c", script},
                         .environment = {{"COLOUR", "blue"}},
                         .log = log()});
  }
  std::string log() const { return folder_ + "/script.log"; }
  static std::vector<std::string> all_lines(Child& child) {
    std::vector<std::string> lines;
    while (!child.ended()) {
      pollfd entry{.fd = child.out_fd(), .events = POLLIN, .revents = 0};
      ::poll(&entry, 1, 10);
      child.read_lines([&](const std::string& line) { lines.push_back(line); });
    }
    child.read_lines([&](const std::string& line) { lines.push_back(line); });
    return lines;
  }

  std::string folder_ = "/tmp/perseus-child-XXXXXX";
};

TEST_F(ChildTest, WholeLinesAreRead) {
  auto child = shell("echo one; printf 'two\\nthr'; printf 'ee\\n'; printf rest; echo $COLOUR >&2");
  ASSERT_TRUE(child) << child.error().text();
  EXPECT_THAT(all_lines(*child), ElementsAre("one", "two", "three"));
  EXPECT_EQ(end_of_file(log(), 100), "blue\n");
  EXPECT_EQ(child->obituary(), "script ended with exit code 0; the end of its log:\nblue\n");
}

TEST_F(ChildTest, AnEndIsTold) {
  auto child = shell("echo trouble >&2; exit 3");
  ASSERT_TRUE(child);
  all_lines(*child);
  EXPECT_EQ(child->obituary(), "script ended with exit code 3; the end of its log:\ntrouble\n");
  auto killed = shell("kill -9 $$");
  ASSERT_TRUE(killed);
  all_lines(*killed);
  EXPECT_THAT(killed->obituary(), ::testing::StartsWith("script was killed by signal 9 (Killed); the end"));
}

TEST_F(ChildTest, AProgramThatCannotBeRunSaysSo) {
  auto child =
      Child::start({.name = "nothing", .arguments = {folder_ + "/absent"}, .environment = {}, .log = log()});
  ASSERT_TRUE(child);
  all_lines(*child);
  EXPECT_EQ(child->obituary(), "nothing ended with exit code 127; the end of its log:\ncannot be executed\n");
}

TEST_F(ChildTest, StopAsksFirstAndKillsThen) {
  auto obedient = shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done");
  ASSERT_TRUE(obedient);
  std::vector<std::string> lines;
  while (lines.empty()) obedient->read_lines([&](const std::string& line) { lines.push_back(line); });
  EXPECT_TRUE(obedient->stop(std::chrono::seconds(30)));
  auto deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
  ASSERT_TRUE(deaf);
  lines.clear();
  while (lines.empty()) deaf->read_lines([&](const std::string& line) { lines.push_back(line); });
  EXPECT_FALSE(deaf->stop(std::chrono::milliseconds(20)));
  EXPECT_THAT(deaf->obituary(), ::testing::StartsWith("script was killed by signal 9"));
}

TEST_F(ChildTest, NobodyOutlivesTheObject) {
  pid_t pid = 0;
  {
    auto child = shell("sleep 1000");
    ASSERT_TRUE(child);
    pid = child->pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST_F(ChildTest, TheEndOfALogBeginsWithAWholeLine) {
  std::ofstream(log()) << "first line\nsecond line\nthird\n";
  EXPECT_EQ(end_of_file(log(), 10), "third\n");
  EXPECT_EQ(end_of_file(log(), 1000), "first line\nsecond line\nthird\n");
  std::ofstream(log(), std::ios::trunc).close();
  EXPECT_EQ(end_of_file(log(), 10), "(it is empty)");
  EXPECT_THAT(end_of_file(folder_ + "/absent", 10), ::testing::HasSubstr("absent"));
}

}  // namespace
}  // namespace perseus::demo
