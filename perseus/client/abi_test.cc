// SPDX-License-Identifier: Apache-2.0
//
// The C interface from inside of the process; tests/python/test_client_library.py drives the shared library.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "perseus/client/perseus.h"
#include "perseus/core/result.h"
#include "perseus/format/files.h"

namespace perseus::client {
namespace {

using testing::Contains;
using testing::HasSubstr;

constexpr int number(core::ErrorCode code) {
  return static_cast<int>(code) + 1;
}

/// What is logged, from any thread.
struct Lines {
  static void add(void* user, int is_warning, const char* line) {
    auto* const self = static_cast<Lines*>(user);
    const std::lock_guard lock(self->mutex);
    self->lines.push_back((is_warning != 0 ? "! " : "") + std::string(line));
  }
  std::mutex mutex;
  std::vector<std::string> lines;
};

class AbiTest : public testing::Test {
 protected:
  AbiTest() : log_(testing::TempDir() + "abi-" + std::to_string(::getpid()) + ".jsonl") {
    std::filesystem::remove(log_);
    backend_ = "log:" + log_;
    // Nothing of the machine that the tests run on.
    for (const char* name : {"PERSEUS", "PERSEUS_SERVER", "PERSEUS_BACKEND", "PERSEUS_TRIGGER"})
      ::unsetenv(name);
  }
  ~AbiTest() override { std::filesystem::remove(log_); }
  AbiTest(const AbiTest&) = delete;
  AbiTest& operator=(const AbiTest&) = delete;

  perseus_options options() {
    perseus_options out = PERSEUS_OPTIONS_INIT;
    out.backend = backend_.c_str();
    out.server = "";
    out.log = Lines::add;
    out.log_user = &lines_;
    return out;
  }
  int open(const perseus_options& how) {
    return perseus_open(&how, &client_, message_.data(), message_.size());
  }
  static void run_step(perseus_client* client) {
    perseus_begin_step(client);
    for (std::uint32_t mb = 0; mb < 3; ++mb) {
      perseus_begin(client, PERSEUS_FORWARD, 0, mb);
      perseus_end(client, PERSEUS_FORWARD, 0, mb);
    }
    perseus_end_step(client);
  }
  static perseus_state state_of(perseus_client* client) {
    perseus_state out{};
    out.size = sizeof(out);
    EXPECT_EQ(perseus_get_state(client, &out), 0);
    return out;
  }

  std::string log_;
  std::string backend_;
  Lines lines_;
  perseus_client* client_ = nullptr;
  std::array<char, 200> message_{};
};

TEST_F(AbiTest, VersionIsTheHeaders) {
  EXPECT_EQ(perseus_abi_version(), static_cast<std::uint32_t>(PERSEUS_ABI_VERSION));
}

TEST_F(AbiTest, NoClientIsAllowedEverywhere) {
  run_step(nullptr);
  perseus_begin_step_at(nullptr, 7);
  perseus_set_stream(nullptr, nullptr);
  perseus_close(nullptr);
  EXPECT_EQ(state_of(nullptr).steps, 0U);
}

TEST_F(AbiTest, CountsStepsAndComputations) {
  ASSERT_EQ(open(options()), 0) << message_.data();
  EXPECT_STREQ(message_.data(), "");
  run_step(client_);
  perseus_begin_step_at(client_, 40);
  perseus_end_step(client_);
  const perseus_state state = state_of(client_);
  EXPECT_EQ(state.steps, 2U);
  EXPECT_EQ(state.step, 40U);
  EXPECT_EQ(state.operations, 3U);
  EXPECT_EQ(state.generation, 0U);
  EXPECT_EQ(state.server_connected, 0U);
  perseus_close(client_);
  EXPECT_THAT(lines_.lines, Contains("dry run: clocks are only written to " + log_));
}

TEST_F(AbiTest, StatesOfOlderAndNewerCallersAreServed) {
  ASSERT_EQ(open(options()), 0);
  run_step(client_);
  struct Older {
    std::size_t size;
    std::uint64_t step, generation;
    std::uint32_t clock_mhz, server_connected, clock_connected;
    std::uint32_t guard;
  } older{.size = offsetof(perseus_state, clock_connected) + sizeof(std::uint32_t), .guard = 77};
  EXPECT_EQ(perseus_get_state(client_, reinterpret_cast<perseus_state*>(&older)), 0);
  EXPECT_EQ(older.guard, 77U);
  struct Newer {
    perseus_state known;
    std::uint64_t unheard_of;
  } newer{.known = {.size = sizeof(Newer)}, .unheard_of = 5};
  EXPECT_EQ(perseus_get_state(client_, &newer.known), 0);
  EXPECT_EQ(newer.known.operations, 3U);
  EXPECT_EQ(newer.unheard_of, 5U);
  EXPECT_EQ(perseus_get_state(client_, nullptr), number(core::ErrorCode::kUsage));
  perseus_close(client_);
}

TEST_F(AbiTest, NonsenseIsRefusedWithItsReason) {
  perseus_options how = options();
  how.pp_rank = 3;
  EXPECT_EQ(open(how), number(core::ErrorCode::kInvalidInput));
  EXPECT_EQ(client_, nullptr);
  EXPECT_STREQ(message_.data(), "pp_rank is 3; it must be below pp = 1");
  std::array<char, 8> small{};
  EXPECT_NE(perseus_open(&how, &client_, small.data(), small.size()), 0);
  EXPECT_STREQ(small.data(), "pp_rank");
  EXPECT_NE(perseus_open(&how, &client_, nullptr, 0), 0);
  how = options();
  how.size = 8;
  EXPECT_EQ(open(how), number(core::ErrorCode::kUsage));
  EXPECT_EQ(perseus_open(nullptr, &client_, message_.data(), message_.size()),
            number(core::ErrorCode::kUsage));
  how = options();
  EXPECT_EQ(perseus_open(&how, nullptr, message_.data(), message_.size()), number(core::ErrorCode::kUsage));
  how.backend = "log:/nowhere/clocks";
  EXPECT_EQ(open(how), number(core::ErrorCode::kIo));
  how = options();
  how.server = "gopher://head";
  how.job = "gpt";
  how.schedule = "1f1b";
  how.microbatches = 2;
  EXPECT_NE(open(how), 0);
  EXPECT_THAT(message_.data(), HasSubstr("gopher"));
}

TEST_F(AbiTest, ZeroSwitchesItOff) {
  ::setenv("PERSEUS", "0", 1);
  perseus_options how = options();
  how.backend = "nonsense";
  EXPECT_EQ(open(how), 0);
  EXPECT_EQ(client_, nullptr);
  ::unsetenv("PERSEUS");
}

TEST_F(AbiTest, NobodyThereIsNoError) {
  perseus_options how = options();
  how.job = "gpt";
  how.schedule = "1f1b";
  how.microbatches = 3;
  how.server = "http://127.0.0.1:1";  // nobody listens at port 1
  how.backend = "agent";
  how.agent_socket = "/nowhere/agent.sock";
  ASSERT_EQ(open(how), 0) << message_.data();
  run_step(client_);
  EXPECT_EQ(state_of(client_).clock_connected, 0U);
  perseus_close(client_);
  EXPECT_THAT(lines_.lines, Contains(HasSubstr("! baseline clocks, and trying on: ")));
}

TEST_F(AbiTest, AForksCallsDoNothing) {
  ASSERT_EQ(open(options()), 0);
  run_step(client_);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    run_step(client_);
    perseus_state state{};
    state.size = sizeof(state);
    const bool silent = perseus_get_state(client_, &state) == 0 && state.steps == 0;
    perseus_close(client_);
    ::_exit(silent ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  run_step(client_);
  EXPECT_EQ(state_of(client_).steps, 2U);
  perseus_close(client_);
}

}  // namespace
}  // namespace perseus::client
