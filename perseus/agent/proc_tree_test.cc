// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/proc_tree.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

/// A /proc of our own.
class FakeProc {
 public:
  void put(pid_t pid, const char* file, std::string_view text) const {
    const auto folder = std::filesystem::path(root) / std::to_string(pid);
    std::filesystem::create_directories(folder);
    std::ofstream(folder / file) << text;
  }
  const tests::TemporaryFolder temporary;
  const std::string& root = temporary.path();
};

TEST(ProcTree, one_process_id_means_our_own_pid_namespace) {
  const FakeProc proc;
  proc.put(71, "status", "Name:\tpython\nPid:\t71\nNSpid:\t71\n");
  proc.put(72, "status", "Name:\tpython\nPid:\t72\nNSpid:\t72\t1\nNStgid:\t72\t1\n");
  proc.put(73, "status", "Name:\tpython\n");
  const ProcTree tree(proc.root);
  EXPECT_EQ(tree.in_our_pid_namespace(71).value(), true);
  EXPECT_EQ(tree.in_our_pid_namespace(72).value(), false);
  EXPECT_EQ(tree.in_our_pid_namespace(73).error().code(), ErrorCode::kInvalidInput);
  EXPECT_EQ(tree.in_our_pid_namespace(74).error().code(), ErrorCode::kNotFound);
}

TEST(ProcTree, a_name_that_plays_status_is_not_believed) {
  const FakeProc proc;
  // The kernel escapes newlines in names; the first line that begins so is the real one all the same.
  proc.put(71, "status", "Name:\tNSpid: 71\nNSpid:\t71\t2\n");
  EXPECT_EQ(ProcTree(proc.root).in_our_pid_namespace(71).value(), false);
}

TEST(ProcTree, the_cgroup_is_that_of_version_2) {
  const FakeProc proc;
  proc.put(71, "cgroup", "12:pids:/old\n0::/jobs/7\n");
  proc.put(72, "cgroup", "12:pids:/old\n");
  proc.put(73, "cgroup", "0::/\n");
  const ProcTree tree(proc.root);
  EXPECT_EQ(tree.cgroup(71).value(), "/jobs/7");
  EXPECT_EQ(tree.cgroup(72).error().code(), ErrorCode::kUnsupported);
  EXPECT_EQ(tree.cgroup(73).value(), "/");
}

TEST(ProcTree, the_real_one_knows_this_process) {
  EXPECT_EQ(ProcTree().in_our_pid_namespace(::getpid()).value(), true);
}

}  // namespace
}  // namespace perseus::agent
