// SPDX-License-Identifier: Apache-2.0
//
// What the hooks may not do: allocate, or call the kernel.
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "perseus/client/test_session.h"

// Sanitizers allocate and call the kernel by themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PERSEUS_UNDER_SANITIZER
#endif
#endif
#else
#define PERSEUS_UNDER_SANITIZER
#endif

#ifndef PERSEUS_UNDER_SANITIZER
namespace {
thread_local std::uint64_t allocations = 0;
}  // namespace

// Of the whole test program: counts, and does what the library's own do. Not inlined: compilers would see a
// malloc() that is ended by a delete.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}

namespace perseus::client {
namespace {

/// A session with an active plan whose sink is as lean as a mailbox.
class HotPath {
 public:
  HotPath() {
    auto made = std::make_unique<TestLink>();
    TestLink* const link = made.get();
    link->steps.reserve(1'000);
    SessionParts parts;
    parts.sink = std::make_unique<NullSink>();
    parts.link = std::move(made);
    parts.time = &time_;
    session_ = std::make_unique<RankSession>(SessionSettings{.native_thread = false}, std::move(parts));
    link->listener->on_plan(std::make_shared<const RankPlan>(small_plan()));
  }
  /// A step as planned, and one with everything that may go wrong.
  void run() {
    using core::Kind;
    for (const std::uint32_t odd : {0U, 1U}) {
      session_->begin_step();
      for (const Kind kind : {Kind::kForward, Kind::kBackward}) {
        for (std::uint32_t mb = 0; mb < 2 + odd; ++mb) {
          session_->begin(kind, odd * mb, mb);
          time_.advance(std::chrono::milliseconds(100));
          session_->end(kind, odd * mb, mb);
        }
      }
      session_->end_step();
    }
  }
  [[nodiscard]] SessionState state() const { return session_->state(); }

 private:
  lease::ManualTime time_;
  std::unique_ptr<RankSession> session_;
};

TEST(HotPathTest, AllocatesNothing) {
  HotPath hot;
  const std::uint64_t before = allocations;
  for (int i = 0; i < 100; ++i) hot.run();
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(hot.state().plans_taken, 1U);
  EXPECT_GT(hot.state().unknown, 0U);
  EXPECT_GT(hot.state().posts, 300U);  // until the time to live is over
}

TEST(HotPathDeathTest, CallsTheKernelForNothing) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        HotPath hot;
        // From here on the kernel kills this thread for anything but read, write and exit.
        if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) != 0) ::_exit(7);
        for (int i = 0; i < 100; ++i) hot.run();
        ::syscall(SYS_exit, hot.state().plans_taken == 1 ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace perseus::client
#endif
