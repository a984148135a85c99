// SPDX-License-Identifier: Apache-2.0
//
// The four routes of Zeus's pipeline frequency server, so that its unmodified client gets a real schedule.
//
//   POST /register_job            {"job_id":"","pp_degree":8,...,"job_metadata":"gpt3-175b"}  ->
//   "2026-...+dp1+pp8+tp1..." POST /register_rank/{job_id}
//   {"rank":0,"dp_rank":0,"pp_rank":0,"tp_rank":0,"available_frequencies":[...]} -> null GET
//   /schedule/{job_id}?rank=0   waits for all ranks -> {"rank":0,"frequencies":[["forward",1410],...]} POST
//   /result/{job_id}         -> null
//
// Zeus's client knows neither profiles nor schedules: its `job_metadata` names a job registered under
// /api/v1, as NAME or as NAME@SHA256 (a prefix of at least 8 digits) where it insists on one profile. Status
// is 200 or an error, never another success; ids are made of characters that need no escaping; unknown
// members are ignored. Jobs live in memory and go a week after their last request.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/server/http_types.h"
#include "perseus/server/names.h"
#include "perseus/server/settings.h"

namespace perseus::server {

class Service;

/// Body of POST /register_job.
struct ZeusJobInfo {
  std::uint32_t pp = 0, dp = 0, tp = 0, world_size = 0;
  std::string metadata;
};
/// Body of POST /register_rank.
struct ZeusRankInfo {
  std::uint32_t rank = 0;
  RankId place;
  std::vector<std::uint32_t> clocks_mhz;
};
/// Body of POST /result, as far as it is used.
struct ZeusResult {
  std::uint32_t rank = 0;
};

/// Untrusted bytes to values; refusals name line and column. Unknown members are skipped, whatever they hold.
[[nodiscard]] core::Result<ZeusJobInfo> parse_zeus_job(std::string_view body);
[[nodiscard]] core::Result<ZeusRankInfo> parse_zeus_rank(std::string_view body);
[[nodiscard]] core::Result<ZeusResult> parse_zeus_result(std::string_view body);

class ZeusRoutes {
 public:
  /// `service` must outlive it.
  explicit ZeusRoutes(Service& service) : service_(service) {}

  void handle(const HttpRequest& request, const Reply& reply);
  /// A job under /api/v1 has something new deployed: ranks that wait for it may be answered.
  void job_changed(const std::string& name);
  /// Drops jobs that were not heard of for a week.
  void sweep();
  void release_waiters();
  [[nodiscard]] std::size_t size() const { return jobs_.size(); }

 private:
  struct Job {
    std::string job;     ///< under /api/v1
    std::string sha256;  ///< prefix of the profile asked for, or empty
    ZeusJobInfo info;
    std::map<std::uint32_t, ZeusRankInfo> ranks;
    std::map<std::uint32_t, std::vector<Reply>> waiting;
    std::map<std::uint32_t, bool> results;  ///< of the present round
    bool answered = false;                  ///< the barrier was passed once: later requests need not wait
    Moment last_used;
  };
  void register_job(const HttpRequest& request, const Reply& reply);
  void register_rank(Job& job, const HttpRequest& request, const Reply& reply);
  void get_schedule(Job& job, const HttpRequest& request, const Reply& reply);
  void post_result(Job& job, const HttpRequest& request, const Reply& reply);
  /// Answers all who wait, if all are there and a plan is.
  void answer_if_ready(Job& job);
  [[nodiscard]] core::Result<std::string> schedule_of(const Job& job, std::uint32_t rank) const;

  Service& service_;
  std::map<std::string, Job> jobs_;
  std::uint64_t next_ = 1;
};

}  // namespace perseus::server
