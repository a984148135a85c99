// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/recover.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <system_error>
#include <thread>

#include "perseus/lease/lease.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;

std::optional<core::Megahertz> site_baseline(const SiteBaseline& site, std::string_view gpu) {
  return site ? site(gpu) : std::nullopt;
}

void sleep_for(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  const timespec wait{.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
  ::nanosleep(&wait, nullptr);
}

gpu::Device* find_device(const gpu::Backend& backend, std::string_view uuid) {
  const auto& devices = backend.devices();
  const auto found =
      std::ranges::find_if(devices, [&](gpu::Device* device) { return device->identity().uuid == uuid; });
  return found == devices.end() ? nullptr : *found;
}

/// One run of recover().
class Recovery {
 public:
  Recovery(const StateDirectory& directory, gpu::Backend& backend, const RecoverOptions& options,
           const TimeSource& time)
      : directory_(directory), backend_(backend), options_(options), time_(time) {}

  core::Result<RecoverReport> run() {
    PERSEUS_RETURN_IF_ERROR(read());
    if (options_.all) add_all();
    const Instant deadline = time_.now() + options_.patience;
    Backoff backoff(options_.backoff);
    try_all();
    while (may_pass() && time_.now() < deadline) {
      const Duration wait = std::min<Duration>(backoff.next(), deadline - time_.now());
      options_.pause ? options_.pause(wait) : sleep_for(wait);
      static_cast<void>(backend_.reopen());  // still not there: the devices say so in the next round
      try_all();
    }
    std::ranges::sort(report_.gpus, {}, &Restored::gpu);
    return std::move(report_);
  }

 private:
  core::Status read() {
    if (directory_.hold() == Hold::kAgent) {
      PERSEUS_ASSIGN_OR_RETURN(const Journal journal, directory_.read_all());
      report_ = plan_recovery(journal, options_.site_baseline);
    } else {
      PERSEUS_ASSIGN_OR_RETURN(const auto gpus, directory_.list());
      for (const std::string& gpu : gpus) PERSEUS_RETURN_IF_ERROR(read_one(gpu));
    }
    for (const Restored& gpu : report_.gpus) todo_.push_back(gpu.result.has_value());
    return {};
  }

  core::Status read_one(const std::string& gpu) {
    if (!lock(gpu)) return {};
    PERSEUS_ASSIGN_OR_RETURN(const Journal journal, directory_.read_one(gpu));
    RecoverReport one = plan_recovery(journal, options_.site_baseline);
    std::ranges::move(one.gpus, std::back_inserter(report_.gpus));
    std::ranges::move(one.bad, std::back_inserter(report_.bad));
    std::ranges::move(one.dropped, std::back_inserter(report_.dropped));
    return {};
  }

  /// Takes a GPU that nobody holds; otherwise the report says who does.
  bool lock(const std::string& gpu) {
    if (directory_.hold() == Hold::kAgent || locks_.contains(gpu)) return true;
    auto taken = directory_.lock_gpu(gpu);
    if (taken) {
      locks_.emplace(gpu, *std::move(taken));
      return true;
    }
    report_.gpus.push_back(
        {.gpu = gpu, .baseline = {}, .owner = {}, .result = std::unexpected(taken.error())});
    return false;
  }

  void add_all() {
    for (gpu::Device* device : backend_.devices()) {
      const std::string& gpu = device->identity().uuid;
      if (std::ranges::find(report_.gpus, gpu, &Restored::gpu) != report_.gpus.end()) continue;
      const bool free = lock(gpu);
      if (free) {
        report_.gpus.push_back(
            {.gpu = gpu, .baseline = site_baseline(options_.site_baseline, gpu), .owner = {}, .result = {}});
      }
      todo_.push_back(free);
    }
  }

  /// One try for each GPU that is not back, side by side.
  void try_all() {
    std::vector<std::thread> threads;
    threads.reserve(report_.gpus.size());
    for (std::size_t i = 0; i < report_.gpus.size(); ++i) {
      if (!todo_[i]) continue;
      try {
        threads.emplace_back([this, i] { try_one(report_.gpus[i]); });
      } catch (const std::system_error&) {
        try_one(report_.gpus[i]);  // the system gives no more threads: one after the other, then
      }
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < report_.gpus.size(); ++i) {
      const core::Status& result = report_.gpus[i].result;
      todo_[i] = todo_[i] && !result && result.error().code() == ErrorCode::kDriver;
    }
  }

  void try_one(Restored& gpu) const {
    gpu::Device* device = find_device(backend_, gpu.gpu);
    if (device == nullptr) {
      gpu.result = core::fail(ErrorCode::kNotFound, fmt::format("{} is not among the {} GPUs of this machine",
                                                                gpu.gpu, backend_.devices().size()));
      return;
    }
    gpu.result = apply_baseline(*device, gpu.baseline);
    if (gpu.result) gpu.result = directory_.remove(gpu.gpu);
  }

  [[nodiscard]] bool may_pass() const { return std::ranges::find(todo_, true) != todo_.end(); }

  const StateDirectory& directory_;
  gpu::Backend& backend_;
  const RecoverOptions& options_;
  const TimeSource& time_;
  RecoverReport report_;
  std::vector<bool> todo_;
  std::map<std::string, GpuLock> locks_;
};

}  // namespace

bool RecoverReport::complete() const {
  return std::ranges::all_of(
      gpus, [](const Restored& gpu) { return gpu.result || gpu.result.error().code() == ErrorCode::kBusy; });
}

RecoverReport plan_recovery(const Journal& journal, const SiteBaseline& site) {
  RecoverReport report{.gpus = {}, .bad = journal.bad, .dropped = journal.dropped};
  for (const format::LeaseRecord& record : journal.records) {
    report.gpus.push_back({.gpu = record.gpu,
                           .baseline = record.baseline,
                           .owner = format::owner_text(record.owner),
                           .result = {}});
  }
  for (const BadRecord& bad : journal.bad) {
    report.gpus.push_back(
        {.gpu = bad.gpu, .baseline = site_baseline(site, bad.gpu), .owner = {}, .result = {}});
  }
  std::ranges::sort(report.gpus, {}, &Restored::gpu);
  return report;
}

core::Result<RecoverReport> recover(const StateDirectory& directory, gpu::Backend& backend,
                                    const RecoverOptions& options, const TimeSource& time) {
  return Recovery(directory, backend, options, time).run();
}

}  // namespace perseus::lease
