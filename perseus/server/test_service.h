// SPDX-License-Identifier: Apache-2.0
//
// A service in a test's hands.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perseus/server/service.h"
#include "perseus/server/test_jobs.h"

namespace perseus::server {

/// A service whose store, planner and clock are in the test's hands: nothing happens but when the test says
/// so.
class ServiceTest : public testing::Test {
 protected:
  ServiceTest() : log_([this](std::string_view line) { lines_.emplace_back(line); }) { restart({}); }

  void restart(const Snapshot& snapshot) {
    service_.reset();
    service_ = std::make_unique<Service>(
        Outside{.store =
                    [this](std::vector<Change> changes, std::function<void(core::Status)> done) {
                      queue_.emplace_back([this, changes = std::move(changes), done = std::move(done)] {
                        core::Status stored;
                        if (disk_full_) {
                          stored = core::fail(core::ErrorCode::kIo, "disk full");
                        } else {
                          stored_.insert(stored_.end(), changes.begin(), changes.end());
                        }
                        done(stored);
                      });
                    },
                .run = run_,
                .run_long = run_,
                .now = [this] { return now_; },
                .wall_ms = [this] { return 1'000'000 + static_cast<std::int64_t>(now_.value() * 1000); },
                .wake = [](Moment) {},
                .log = &log_},
        JobSettings{});
    findings_ = service_->restore(snapshot);
    settle();
  }

  /// Lets the store and the planner do all that is asked of them.
  void settle() {
    for (int limit = 0; !queue_.empty(); ++limit) {
      if (limit == 10'000) {
        ADD_FAILURE() << "the service never rests; last it said " << lines_.back()
                      << lines_.at(lines_.size() - 2);
        return queue_.clear();
      }
      do_next();
    }
  }
  void do_next() {
    const auto next = std::move(queue_.front());
    queue_.pop_front();
    next();
  }
  void later(double seconds) {
    now_ += core::Seconds(seconds);
    service_->tick();
    settle();
  }

  /// What became of a request; empty while it waits.
  using Answer = std::shared_ptr<std::optional<HttpResponse>>;
  Answer send(const std::string& method, const std::string& target, const std::string& body = "",
              const Principal& who = {}, const std::string& type = "application/json") {
    auto answer = std::make_shared<std::optional<HttpResponse>>();
    auto parsed = parse_target(target);
    EXPECT_TRUE(parsed) << target;
    service_->handle(who, {method, *std::move(parsed), type, body}, [answer](HttpResponse response) {
      EXPECT_FALSE(answer->has_value()) << "answered twice";
      *answer = std::move(response);
    });
    return answer;
  }
  /// Lets only so much be done that `answer` is there; the rest stays to be done.
  void settle_until_answered(const Answer& answer) {
    while (!answer->has_value() && !queue_.empty()) do_next();
    ASSERT_TRUE(answer->has_value());
  }
  HttpResponse ask(const std::string& method, const std::string& target, const std::string& body = "",
                   const Principal& who = {}, const std::string& type = "application/json") {
    const Answer answer = send(method, target, body, who, type);
    settle();
    EXPECT_TRUE(answer->has_value()) << method << ' ' << target << " still waits";
    return answer->value_or(HttpResponse{});
  }
  static std::string text(const HttpResponse& answer) { return answer.body ? *answer.body : ""; }
  static boost::json::object json(const HttpResponse& answer) {
    return boost::json::parse(text(answer)).as_object();
  }

  /// A planned job with all its ranks.
  void run_job(std::uint64_t incarnation = 1) {
    EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt", registration_body(incarnation)).status, 201U);
    EXPECT_EQ(ask("PUT", "/api/v1/jobs/gpt/profile", profile_csv(), {}, "text/csv").status, 200U);
    for (const char* rank : {"0.0.0", "0.1.0", "1.0.0", "1.1.0"}) hello(rank, incarnation);
  }
  HttpResponse hello(const std::string& rank, std::uint64_t incarnation = 1, std::uint64_t sequence = 1) {
    return ask(
        "POST", "/api/v1/jobs/gpt/ranks",
        fmt::format(R"({{"incarnation":{},"sequence":{},"rank":"{}","schedule_sha256":"{}","step":10}})",
                    incarnation, sequence, rank, *fence_of(registration())));
  }
  static std::string poll_target(const std::string& rank, std::uint64_t have, std::uint64_t step = 10,
                                 unsigned wait_s = 30) {
    return fmt::format("/api/v1/jobs/gpt/ranks/{}/plan?incarnation=1&have={}&step={}&wait_s={}", rank, have,
                       step, wait_s);
  }
  /// Everything that was made durable, as a store would load it.
  Snapshot snapshot() const {
    std::map<std::string, JobRecord> jobs;
    std::map<std::string, ProfileRecord> profiles;
    std::map<std::string, FactsRecord> facts;
    std::map<std::string, SharedRecord> shared;
    std::map<std::pair<std::string, std::string>, SweepRecord> sweeps;
    std::map<std::string, NoticeRecord> notices;
    std::map<std::string, PlanRecord> plans;
    std::map<std::string, GenerationRecord> generations;
    for (const Change& change : stored_) {
      if (const auto* r = std::get_if<JobRecord>(&change)) jobs.insert_or_assign(r->name, *r);
      if (const auto* r = std::get_if<ProfileRecord>(&change)) profiles.insert_or_assign(r->job, *r);
      if (const auto* r = std::get_if<FactsRecord>(&change)) facts.insert_or_assign(r->job, *r);
      if (const auto* r = std::get_if<SharedRecord>(&change)) shared.insert_or_assign(r->key, *r);
      if (const auto* r = std::get_if<SweepRecord>(&change)) sweeps.insert_or_assign({r->job, r->part}, *r);
      if (const auto* r = std::get_if<SweepRemoval>(&change)) {
        std::erase_if(sweeps, [&](const auto& entry) { return entry.first.first == r->job; });
      }
      if (const auto* r = std::get_if<NoticeRecord>(&change)) notices.insert_or_assign(r->id, *r);
      if (const auto* r = std::get_if<NoticeRemoval>(&change)) notices.erase(r->id);
      if (const auto* r = std::get_if<PlanRecord>(&change)) plans.insert_or_assign(r->sha256, *r);
      if (const auto* r = std::get_if<GenerationRecord>(&change)) generations.insert_or_assign(r->job, *r);
    }
    const auto values = [](const auto& map, auto& out) {
      for (const auto& [key, value] : map) out.push_back(value);
    };
    Snapshot out;
    values(jobs, out.jobs);
    values(profiles, out.profiles);
    values(facts, out.facts);
    values(shared, out.shared);
    values(sweeps, out.sweeps);
    values(notices, out.notices);
    values(plans, out.plans);
    values(generations, out.generations);
    return out;
  }

  std::vector<std::string> lines_;
  Log log_;
  std::deque<std::function<void()>> queue_;
  std::function<void(std::function<void()>, std::function<void()>)> run_ = [this](auto work, auto done) {
    queue_.emplace_back([work, done] {
      work();
      done();
    });
  };
  Moment now_{0};
  bool disk_full_ = false;
  std::vector<Change> stored_;
  std::vector<std::string> findings_;
  std::unique_ptr<Service> service_;
};

}  // namespace perseus::server
