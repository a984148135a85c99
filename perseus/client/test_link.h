// SPDX-License-Identifier: Apache-2.0
//
// What tests of the server link share: a listener that remembers, a server with one plan, a started link.
// Waits have no limit of their own (ctest has): what is asserted is what happened, not when.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "perseus/client/server_link.h"
#include "perseus/client/test_http_server.h"
#include "perseus/client/test_rank_plan.h"

namespace perseus::client {

/// Remembers what it hears.
class HeardListener : public ControlListener {
 public:
  void on_plan(std::shared_ptr<const RankPlan> plan) override {
    note([&] { plans_.push_back(std::move(plan)); });
  }
  void on_contact() override {
    note([&] { ++contacts_; });
  }
  void on_refused(const core::Error& why) override {
    note([&] { refusals_.push_back(why.message()); });
  }

  void wait_for_plans(std::size_t count) {
    wait([&] { return plans_.size() >= count; });
  }
  void wait_for_refusals(std::size_t count) {
    wait([&] { return refusals_.size() >= count; });
  }
  void wait_for_contacts(int count) {
    wait([&] { return contacts_ >= count; });
  }
  std::vector<std::shared_ptr<const RankPlan>> plans() {
    const std::lock_guard lock(mutex_);
    return plans_;
  }
  std::vector<std::string> refusals() {
    const std::lock_guard lock(mutex_);
    return refusals_;
  }
  int contacts() {
    const std::lock_guard lock(mutex_);
    return contacts_;
  }

 private:
  template <class Change>
  void note(Change&& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  template <class Ready>
  void wait(Ready&& ready) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, ready);
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<const RankPlan>> plans_;
  std::vector<std::string> refusals_;
  int contacts_ = 0;
};

inline constexpr std::string_view kApplied = R"({"applied":true,"revision":0,"rank_ttl_s":30})";

inline ServerLinkOptions options() {
  ServerLinkOptions out;
  const schedule::Request request{.name = "1f1b", .pipeline = 2, .microbatches = 2};
  out.job.name = "gpt";
  out.job.schedule = *schedule::generate(request);
  out.job.named = request;
  out.job.data = 2;
  out.job.blocking_power = {core::Watts(85)};
  out.times.answer = std::chrono::seconds(2);
  out.times.poll_grace = std::chrono::seconds(1);
  out.times.first_retry = std::chrono::milliseconds(1);
  out.times.most_retry = std::chrono::milliseconds(5);
  out.times.most_wait_for_job = std::chrono::milliseconds(5);
  out.times.refused_retry = std::chrono::milliseconds(5);
  out.seed = 20261124;
  return out;
}

inline RankPlan plan(std::uint64_t generation, std::optional<std::uint64_t> from_step) {
  RankPlan out{.job = "gpt",
               .incarnation = 1,
               .schedule_sha256 = *schedule_fence(options().job),
               .revision = 2 * generation + (from_step ? 1 : 0),
               .generation = generation,
               .reason = "fastest",
               .from_step = from_step,
               .ttl = core::Seconds(300),
               .promised_time = core::Seconds(0.5)};
  out.operations = {{{core::Kind::kForward, 0, 0},
                     "",
                     core::Megahertz(1410 - 15 * static_cast<std::uint32_t>(generation)),
                     core::Seconds(0.03)}};
  return out;
}

inline bool is_poll(const TestHttpServer::Request& request) {
  return request.target.find("/plan?") != std::string::npos;
}
inline std::uint64_t have_of(const TestHttpServer::Request& request) {
  return std::stoull(request.target.substr(request.target.find("have=") + 5));
}
inline std::uint64_t sequence_of(const TestHttpServer::Request& request) {
  return std::stoull(request.body.substr(request.body.find("\"sequence\":") + 11));
}

/// A server with one plan for everybody, which a test may replace.
class PlanServer {
 public:
  using Action = TestHttpServer::Action;
  using Request = TestHttpServer::Request;
  /// `before` may take a request out of its hands.
  using Before = std::function<std::optional<Action>(const Request&)>;
  explicit PlanServer(Before before = {}, std::uint16_t port = 0)
      : before_(std::move(before)), server_([this](const Request& r) { return act(r); }, port) {}

  void set_plan(const RankPlan& plan, bool brief = false) {
    const std::lock_guard lock(mutex_);
    revision_ = plan.revision;
    text_ = rank_plan_text(plan, brief);
  }
  TestHttpServer& http() { return server_; }

 private:
  Action act(const Request& request) {
    if (before_) {
      if (auto action = before_(request)) return *std::move(action);
    }
    if (!is_poll(request)) return TestHttpServer::answer(200, applied());
    const std::uint64_t have = have_of(request);
    const bool ends = server_.wait_until([&] { return revision() != 0 && revision() != have; });
    const std::lock_guard lock(mutex_);
    return ends ? TestHttpServer::close() : TestHttpServer::answer(200, text_);
  }
  std::uint64_t revision() {
    const std::lock_guard lock(mutex_);
    return revision_;
  }
  std::string applied() {
    return fmt::format(R"({{"applied":true,"revision":{},"rank_ttl_s":30}})", revision());
  }

  Before before_;
  std::mutex mutex_;
  std::uint64_t revision_ = 0;
  std::string text_;
  TestHttpServer server_;
};

class ServerLinkTest : public testing::Test {
 protected:
  /// A started link to `url`.
  ServerLink& open(const std::string& url, ServerLinkOptions o = options()) {
    o.server.url = url;
    o.log = [this](bool, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    };
    auto made = make_server_link(std::move(o));
    EXPECT_TRUE(made) << made.error().text();
    link_ = *std::move(made);
    link_->start(listener_);
    return *link_;
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  /// Waits until the link has counted something.
  template <class Ready>
  void wait_for_counters(Ready&& ready) {
    while (!ready(link_->counters())) std::this_thread::yield();
  }

  HeardListener listener_;
  std::mutex mutex_;
  std::vector<std::string> lines_;
  std::unique_ptr<ServerLink> link_;
  std::atomic<TestHttpServer*> server_ = nullptr;  ///< for scripts that wait
};

inline StepReport report_of(std::uint64_t step) {
  return {.generation = 1, .step = step, .iterations = 1, .iteration_time = core::Seconds(0.5)};
}

/// A file with a token, in the tests' folder.
inline std::string token_file(const std::string& token, mode_t mode = 0600) {
  const std::string path = testing::TempDir() + "perseus-token-" + std::to_string(::getpid());
  std::ofstream(path) << token << '\n';
  ::chmod(path.c_str(), mode);
  return path;
}

}  // namespace perseus::client
