// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/command_backend.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "perseus/gpu/command_runner.h"
#include "tests/fake_gpu/fake_device.h"
#include "tests/support/temporary_folder.h"

namespace perseus::gpu {
namespace {

using core::ErrorCode;
using core::Megahertz;
using testing::HasSubstr;
using namespace std::chrono_literals;

std::string text(const core::Status& status) {
  return status ? "accepted"
                : std::string(core::info(status.error().code()).name) + ": " + status.error().text();
}

class CommandTest : public testing::Test {
 protected:
  /// A shell script with this body.
  void write(const std::string& body, mode_t mode = 0700) const {
    std::ofstream(program_) << "#!/bin/sh\n" << body << '\n';
    ASSERT_EQ(::chmod(program_.c_str(), mode), 0);
  }
  [[nodiscard]] core::Status run(std::vector<std::string> arguments = {},
                                 std::chrono::milliseconds limit = 60s) const {
    arguments.insert(arguments.begin(), program_);
    return run_command(arguments, limit);
  }
  [[nodiscard]] std::string written(const std::string& name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const tests::TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  std::filesystem::path program_ = folder_ / "gpuclock";
};

TEST_F(CommandTest, PassesArgumentsAsTheyAre) {
  write("printf '%s|' \"$@\" > " + (folder_ / "out").string());
  ASSERT_TRUE(run({"lock", "a b", "$(id)", ";true", "*"}));
  EXPECT_EQ(written("out"), "lock|a b|$(id)|;true|*|");
}

TEST_F(CommandTest, GivesNothingButPath) {
  ::setenv("LD_PRELOAD_SECRET", "1", 1);  // NOLINT(concurrency-mt-unsafe): the test's only thread
  write("env > " + (folder_ / "env").string() + "; pwd > " + (folder_ / "pwd").string() + "; cat > " +
        (folder_ / "stdin").string() + "; ls -l /proc/$$/fd > " + (folder_ / "fds").string());
  // Without O_CLOEXEC, as some library may do.
  const int leak = ::open((folder_ / "secret").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(leak, 0);
  ASSERT_TRUE(run());
  ::close(leak);
  EXPECT_THAT(written("env"), HasSubstr("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"));
  EXPECT_THAT(written("env"), testing::Not(HasSubstr("SECRET")));
  EXPECT_THAT(written("env"), testing::Not(HasSubstr("HOME=")));
  EXPECT_EQ(written("pwd"), "/\n");
  EXPECT_EQ(written("stdin"), "");
  EXPECT_THAT(written("fds"), HasSubstr("/dev/null"));
  EXPECT_THAT(written("fds"), testing::Not(HasSubstr("secret")));
}

TEST_F(CommandTest, TellsWhatWentWrong) {
  write("echo 'no such GPU'; echo 'try again' >&2; exit 3");
  EXPECT_EQ(text(run({"lock", "7"})), "driver: the command " + program_.string() +
                                          " lock 7: exit status 3; it wrote: no such GPU try again");
  write("kill -TERM $$");
  EXPECT_EQ(text(run()),
            "driver: the command " + program_.string() + ": killed by signal 15; it wrote nothing");
  // Far more than a pipe holds: it must neither stop the program nor fail it.
  write("head -c 1000000 /dev/zero | tr '\\0' x && exit 5; exit 1");
  EXPECT_EQ(text(run()), "driver: the command " + program_.string() +
                             ": exit status 5; it wrote: " + std::string(1000, 'x'));
  std::ofstream(program_) << "#!/no/such/interpreter\n";
  EXPECT_EQ(text(run()),
            "io: the command " + program_.string() + " does not start: No such file or directory");
}

TEST_F(CommandTest, KillsWhatTakesTooLongWithItsChildren) {
  write("echo busy; sleep 1000 & echo $! > " + (folder_ / "child").string() + "; wait");
  EXPECT_EQ(text(run({}, 300ms)),
            "timeout: the command " + program_.string() + ": killed after 300 ms; it wrote: busy");
  const std::string child = written("child");
  if (child.empty()) GTEST_SKIP() << "the machine is so slow that the script did not get that far";
  // The orphan is init's to bury; it is dead, or already gone.
  std::string state;
  do {
    std::ifstream stat("/proc/" + std::to_string(std::stoi(child)) + "/stat");
    std::string pid;
    std::string name;
    state.clear();
    stat >> pid >> name >> state;
  } while (!state.empty() && state != "Z" && state != "X");
}

TEST_F(CommandTest, KillsWhatNeverStopsWriting) {
  write("exec yes");
  EXPECT_EQ(run({}, 300ms).error().code(), ErrorCode::kTimeout);
}

// A script may leave a process behind that holds its output open; we do not wait for that one.
TEST_F(CommandTest, WaitsForTheProgramNotForItsPipe) {
  write("sleep 1000 & echo $! > " + (folder_ / "child").string());
  EXPECT_EQ(text(run()), "accepted");
  ::kill(std::stoi(written("child")), SIGKILL);
}

TEST_F(CommandTest, RunsOnlyWhatNobodyElseCanChange) {
  const std::string file = program_.string();
  const auto refused = [&file](const std::string& why) {
    return "permission: the command " + file + " is not run: " + why;
  };
  EXPECT_EQ(text(check_command(file)), "not_found: the command " + file + ": no such file");
  write("true", 0770);
  EXPECT_EQ(text(check_command(file)), refused(file + " may be written by others (mode 0770)"));
  write("true", 0702);
  EXPECT_EQ(text(check_command(file)), refused(file + " may be written by others (mode 0702)"));
  write("true", 0600);
  EXPECT_EQ(text(check_command(file)), refused(file + " is not executable"));
  write("true", 0755);
  EXPECT_EQ(text(check_command(file)), "accepted");
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  EXPECT_EQ(text(check_command(file)), refused(folder_.string() + " may be written by others (mode 0777)"));
  EXPECT_EQ(text(run()), refused(folder_.string() + " may be written by others (mode 0777)"));
  ASSERT_EQ(::chmod(folder_.c_str(), 0700), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(file.c_str(), 12345, 0), 0);
    EXPECT_EQ(text(check_command(file)),
              refused(file + " is owned by uid 12345, neither root nor this user"));
  }
}

TEST_F(CommandTest, FollowsNoLinks) {
  write("true");
  const auto link = folder_ / "link";
  std::filesystem::create_symlink(program_, link);
  EXPECT_EQ(text(check_command(link)), "permission: the command " + link.string() +
                                           " is not run: " + link.string() + " is a symbolic link");
  std::filesystem::create_directory_symlink(folder_, folder_ / "way");
  EXPECT_THAT(text(check_command(folder_ / "way" / "gpuclock")), HasSubstr("way: Not a directory"));
  EXPECT_EQ(text(check_command(folder_)), "permission: the command " + folder_.string() +
                                              " is not run: " + folder_.string() + " is no regular file");
  EXPECT_EQ(text(check_command("gpuclock")),
            "permission: the command gpuclock is not run: its path is not absolute");
  for (const auto* path : {"/usr/../bin/true", "/usr//bin/true", "/./bin/true", "/usr/bin/"}) {
    EXPECT_EQ(text(check_command(path)), std::string("permission: the command ") + path +
                                             " is not run: its path has an empty part, \".\" or \"..\"");
  }
}

class CommandBackendTest : public CommandTest {
 protected:
  void open() {
    auto inner = std::make_unique<tests::FakeBackend>(2);
    fake_ = inner.get();
    auto opened = CommandBackend::open(
        std::move(inner),
        {.lock = {program_, "lock", "{gpu}", "{uuid}", "{mhz}"}, .reset = {program_, "reset", "{uuid}"}});
    ASSERT_TRUE(opened) << opened.error().text();
    backend_ = *std::move(opened);
  }
  tests::FakeBackend* fake_ = nullptr;
  std::unique_ptr<Backend> backend_;
};

TEST_F(CommandBackendTest, SetsByCommandAndReadsByTheOther) {
  write("echo \"$@\" >> " + (folder_ / "out").string());
  open();
  Device& gpu = *backend_->devices().at(1);
  EXPECT_EQ(backend_->name(), "command");
  EXPECT_TRUE(gpu.clock_control()->possible);
  ASSERT_TRUE(gpu.lock_clock(Megahertz{900}));
  ASSERT_TRUE(gpu.reset_clock());
  EXPECT_EQ(written("out"),
            "lock 1 GPU-fa4e0000-0000-0000-0000-000000000001 900\nreset "
            "GPU-fa4e0000-0000-0000-0000-000000000001\n");
  EXPECT_EQ(fake_->device(1).locked(), std::nullopt) << "the driver was asked to set it as well";
  EXPECT_EQ(gpu.sm_clock().value(), Megahertz{1410});
  EXPECT_EQ(text(gpu.lock_clock(Megahertz{907})),
            "invalid_input: GPU 1 (GPU-fa4e0000-0000-0000-0000-000000000001): 907 MHz is not one of its "
            "clocks; the "
            "nearest are 900 and 915 MHz");
  ASSERT_TRUE(backend_->reopen());
  EXPECT_EQ(backend_->devices().size(), 2U);
}

TEST_F(CommandBackendTest, ForbiddenCommandIsNoControl) {
  write("true", 0777);
  open();
  EXPECT_FALSE(backend_->devices()[0]->clock_control()->possible);
  EXPECT_EQ(backend_->devices()[0]->clock_control()->reason, "the command " + program_.string() +
                                                                 " is not run: " + program_.string() +
                                                                 " may be written by others (mode 0777)");
  EXPECT_EQ(backend_->devices()[0]->reset_clock().error().code(), ErrorCode::kPermission);
}

TEST(CommandBackendPattern, RefusesCommandsThatCannotWork) {
  const auto refusal = [](CommandOverride command) {
    const auto opened = CommandBackend::open(std::make_unique<tests::FakeBackend>(1), std::move(command));
    return opened ? "accepted" : opened.error().text();
  };
  const std::vector<std::string> lock = {"/c", "{gpu}", "{mhz}"};
  const std::vector<std::string> reset = {"/c", "{uuid}"};
  EXPECT_EQ(refusal({.lock = lock, .reset = reset}), "accepted");
  EXPECT_EQ(refusal({.lock = {}, .reset = reset}), "the command that locks a clock: is missing");
  EXPECT_EQ(refusal({.lock = {"c", "{gpu}", "{mhz}"}, .reset = reset}),
            "the command that locks a clock: 'c' is not an absolute path");
  EXPECT_EQ(refusal({.lock = {"/c", "{gpu}"}, .reset = reset}),
            "the command that locks a clock: has no {mhz}, so it cannot know the clock");
  EXPECT_EQ(
      refusal({.lock = {"/c", "{mhz}"}, .reset = reset}),
      "the command that locks a clock: has neither {gpu} nor {uuid}, so it cannot know which GPU is meant");
  EXPECT_EQ(refusal({.lock = {"/c", "{gpu}", "--clock={mhz}"}, .reset = reset}),
            "the command that locks a clock: '--clock={mhz}': {mhz} must be an argument of its own");
  EXPECT_EQ(refusal({.lock = lock, .reset = lock}),
            "the command that resets a clock: has {mhz}, which has no value there");
  EXPECT_EQ(refusal({.lock = lock, .reset = reset, .time_limit = 0ms}),
            "the time limit of the commands is 0 ms; it must be above 0");
}

}  // namespace
}  // namespace perseus::gpu
