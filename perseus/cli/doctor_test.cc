// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/doctor.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace perseus::cli {
namespace {

using testing::HasSubstr;

/// A machine of files.
class Machine {
 public:
  Machine() { options.root = folder_.path(); }
  void put(const std::string& path, std::string_view text = "") const {
    std::filesystem::create_directories(std::filesystem::path(options.root + path).parent_path());
    std::ofstream(options.root + path) << text;
  }
  DoctorOptions options;

 private:
  const tests::TemporaryFolder folder_;
};

const Finding& named(const std::vector<Finding>& findings, std::string_view what) {
  static const Finding kNone{"not found", Health::kOk, "", ""};
  for (const Finding& finding : findings) {
    if (finding.what == what) return finding;
  }
  return kNone;
}

TEST(Doctor, without_a_service_manager_it_says_what_is_not_promised) {
  const Machine machine;
  const auto findings = examine_service(machine.options);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].health, Health::kNotice);
  EXPECT_THAT(findings[0].found, HasSubstr("nobody restores clocks within 3 s"));
}

TEST(Doctor, finds_the_unit_where_systemd_looks_for_it) {
  const Machine machine;
  machine.put("/run/systemd/system/x");
  EXPECT_THAT(examine_service(machine.options)[0].found, HasSubstr("has no perseus-agent.service"));
  machine.put("/usr/lib/systemd/system/perseus-agent.service");
  EXPECT_EQ(examine_service(machine.options)[0].health, Health::kOk);
}

TEST(Doctor, tells_of_other_programs_that_set_clocks) {
  const Machine machine;
  EXPECT_EQ(examine_neighbours(machine.options)[0].health, Health::kOk);
  machine.put("/proc/71/comm", "zeusd\n");
  machine.put("/proc/72/comm", "nv-hostengine\n");
  machine.put("/proc/73/comm", "zeusd-not\n");
  machine.put("/proc/self/comm", "doctor\n");
  const auto findings = examine_neighbours(machine.options);
  ASSERT_EQ(findings.size(), 2U);
  std::vector<std::string> found = {findings[0].found, findings[1].found};
  EXPECT_THAT(found, testing::UnorderedElementsAre("zeusd runs (pid 71)", "nv-hostengine runs (pid 72)"));
  EXPECT_EQ(findings[0].health, Health::kNotice);
}

TEST(Doctor, an_absent_agent_is_a_problem_and_an_open_state_folder_too) {
  Machine machine;
  machine.options.socket = machine.options.root + "/agent.sock";
  machine.options.state_dir = "/state";
  auto findings = examine_agent(machine.options);
  EXPECT_EQ(named(findings, "socket").health, Health::kProblem);
  EXPECT_THAT(named(findings, "socket").repair, HasSubstr("systemctl enable --now perseus-agent"));
  EXPECT_EQ(named(findings, "state_dir").health, Health::kNotice);
  machine.put("/state/lock");
  ASSERT_EQ(::chmod((machine.options.root + "/state").c_str(), 0755), 0);
  findings = examine_agent(machine.options);
  EXPECT_EQ(named(findings, "state_dir").health, Health::kProblem);
  EXPECT_EQ(named(findings, "state_dir").repair, "chmod 0700 /state");
}

TEST(Doctor, cgroup_v1_alone_is_worth_a_notice) {
  const Machine machine;
  EXPECT_EQ(named(examine_kernel(machine.options), "cgroup_v2").health, Health::kNotice);
  machine.put("/sys/fs/cgroup/cgroup.controllers");
  EXPECT_EQ(named(examine_kernel(machine.options), "cgroup_v2").health, Health::kOk);
  EXPECT_EQ(named(examine_kernel(machine.options), "kernel_pidfd").health, Health::kOk);
  EXPECT_EQ(named(examine_kernel(machine.options), "kernel_memfd").health, Health::kOk);
}

TEST(Doctor, no_driver_is_a_problem_with_a_way_out) {
  Machine machine;
  machine.options.backend = {.kind = gpu::BackendKind::kNvml, .library = "/nowhere/libnvidia-ml.so.1"};
  const auto findings = examine_gpus(machine.options);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].what, "driver");
  EXPECT_EQ(findings[0].health, Health::kProblem);
  EXPECT_THAT(findings[0].found, HasSubstr("/nowhere/libnvidia-ml.so.1"));
  EXPECT_NE(findings[0].repair, "");
}

}  // namespace
}  // namespace perseus::cli
