// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/process_handle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perseus/lease/backoff.h"
#include "tests/support/property.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using namespace std::chrono_literals;

/// A process that waits to be killed.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ == 0) {
      for (;;) ::pause();
    }
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() { reap(); }
  void kill() const { ::kill(pid_, SIGKILL); }
  void reap() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, 0), nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

TEST(ProcessHandle, KnowsItsProcess) {
  const auto self = ProcessHandle::open(::getpid());
  ASSERT_TRUE(self);
  EXPECT_TRUE(self->is_alive());
  EXPECT_EQ(self->pid().value(), ::getpid());
  EXPECT_TRUE(self->check_is(::getpid()));
  EXPECT_NE(::fcntl(self->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ProcessHandle, SeesTheEndBeforeAnybodyHasWaited) {
  Sleeper sleeper;
  const auto process = ProcessHandle::open(sleeper.pid());
  ASSERT_TRUE(process);
  sleeper.kill();
  pollfd entry{.fd = process->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&entry, 1, -1), 1);
  EXPECT_FALSE(process->is_alive());  // a zombie does not run
  EXPECT_EQ(process->check_is(sleeper.pid()).error().text(),
            fmt::format("process {} has ended", sleeper.pid()));
}

TEST(ProcessHandle, IsNotFooledByANumberThatIsUsedAgain) {  // fault table, row 32
  Sleeper first;
  const pid_t number = first.pid();
  const auto process = ProcessHandle::open(number);
  first.reap();
  EXPECT_FALSE(process->is_alive());
  EXPECT_EQ(process->pid().value(), -1);
  // Whoever gets the number now: the handle is still that of the first one.
  EXPECT_EQ(process->check_is(number).error().code(), ErrorCode::kPermission);
}

TEST(ProcessHandle, AProcessCannotSendAnothersHandle) {
  const Sleeper sleeper;
  const auto other = ProcessHandle::open(sleeper.pid());
  EXPECT_EQ(other->check_is(::getpid()).error().text(),
            fmt::format("the process handle is that of process {}, the connection that of process {}",
                        sleeper.pid(), ::getpid()));
}

TEST(ProcessHandle, TakesNoOtherDescriptor) {
  EXPECT_EQ(ProcessHandle::adopt(format::UniqueFd()).error().text(), "no process handle was sent");
  EXPECT_EQ(ProcessHandle::adopt(format::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))).error().text(),
            "what was sent is no process handle (pidfd)");
}

TEST(ProcessHandle, SaysThatThereIsNoSuchProcess) {
  Sleeper sleeper;
  const pid_t number = sleeper.pid();
  sleeper.reap();
  EXPECT_EQ(ProcessHandle::open(number).error().text(),
            fmt::format("no handle of process {}: No such process", number));
  EXPECT_EQ(ProcessHandle::open(0).error().code(), ErrorCode::kNotFound);
}

TEST(PidNamespace, IsTheSameForOurChildren) {
  const Sleeper sleeper;
  const auto ours = pid_namespace(::getpid());
  ASSERT_TRUE(ours);
  EXPECT_EQ(pid_namespace(sleeper.pid()).value(), *ours);
  EXPECT_EQ(pid_namespace(-1).error().code(), ErrorCode::kNotFound);
}

TEST(Backoff, DoublesWithinItsLimits) {
  tests::check_property([](std::uint64_t seed) {
    Backoff backoff({.first = 50ms, .most = 1s}, seed);
    for (const auto ceiling : {50ms, 100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
      const Duration wait = backoff.next();
      RC_ASSERT(wait >= ceiling / 2);
      RC_ASSERT(wait < ceiling);
    }
    RC_ASSERT(backoff.tries() == 7U);
    backoff.reset();
    RC_ASSERT(backoff.next() < 50ms);
  });
}

TEST(Backoff, DiffersBetweenSeedsAndRepeatsForOne) {
  Backoff a({}, 1);
  Backoff b({}, 1);
  Backoff c({}, 2);
  const Duration first = a.next();
  EXPECT_EQ(first, b.next());
  EXPECT_NE(first, c.next());
}

}  // namespace
}  // namespace perseus::lease
