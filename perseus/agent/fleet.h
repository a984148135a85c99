// SPDX-License-Identifier: Apache-2.0
//
// All GPUs of the machine: carries out what the lease table decides, on each GPU's own thread, and takes care
// of a driver that comes and goes. Knows nothing of sockets.
//
// Everything here belongs to the main thread and returns at once; replies come later by way of the event
// loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/agent/audit_log.h"
#include "perseus/agent/authority.h"
#include "perseus/agent/backend_keeper.h"
#include "perseus/agent/event_loop.h"
#include "perseus/agent/gpu_unit.h"
#include "perseus/agent/lease_table.h"
#include "perseus/format/agent_config.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/recover.h"
#include "perseus/lease/state_directory.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::agent {

/// What must outlive a fleet.
struct FleetContext {
  EventLoop& loop;
  gpu::Backend& backend;
  const lease::StateDirectory& directory;
  AuditLog& audit;
  const lease::TimeSource& time;
};

class Fleet {
 public:
  /// Starts the threads, which ask their devices what these can do: all_known() tells when they have
  /// answered.
  Fleet(FleetContext context, format::AgentConfig config);
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;
  /// Joins all threads: waits as long as the driver does.
  ~Fleet();

  /// Owes what an earlier agent has left in the journal. Once, before the first lease.
  void recover(const lease::Journal& journal);
  /// Called for each lease that ends without being released.
  void on_ended(std::function<void(const Ending&)> told) { told_ = std::move(told); }
  void set_config(const format::AgentConfig& config);

  /// The GPU with this UUID or, in decimal, this index. kNotFound.
  [[nodiscard]] core::Result<GpuIndex> find(std::string_view name) const;
  [[nodiscard]] const gpu::Identity& identity(GpuIndex gpu) const { return units_[gpu]->device->identity(); }
  [[nodiscard]] std::size_t size() const { return units_.size(); }
  /// Clocks that a lease with this floor may ask for: supported and within the site's limits.
  [[nodiscard]] std::vector<core::Megahertz> allowed_clocks(GpuIndex gpu,
                                                            std::optional<core::Megahertz> floor) const;
  /// Asks the driver which processes use the GPU.
  void ask_processes(GpuIndex gpu, std::function<void(core::Result<std::vector<pid_t>>)> reply);

  /// Leases a GPU to somebody who has been found to have the right. Replies once the journal is written.
  void acquire(GpuIndex gpu, LeaseAsk ask, const Permit& permit, GrantedReply reply);
  [[nodiscard]] core::Status renew(LeaseId lease, ConnectionId connection);
  /// Replies when the GPU is at its baseline, or with the driver's first refusal.
  void release(LeaseId lease, ConnectionId connection, Reply reply);
  void drop(ConnectionId connection, std::string_view reason);
  void revoke(LeaseId lease, std::string_view reason);
  void count_refusal(GpuIndex gpu) { ++units_[gpu]->leases.refused; }

  /// Ends all leases, then closes the driver's library, then replies. An error names GPUs that are not back.
  void quiesce(std::optional<lease::Duration> resume_after, Reply reply);
  /// Opens the library again; replies with the first try's result and goes on trying.
  void resume(Reply reply);
  /// Ends all leases for good. Done when at_rest().
  void stop();
  [[nodiscard]] bool at_rest() const { return table_.at_rest(); }

  /// Lives on, though its connection could not be read for a while because it waits for us.
  void keep_alive(ConnectionId connection) { table_.keep_alive(connection, context_.time.now()); }
  /// Whether every driver has told what its GPU can do. Until then a GPU cannot be leased.
  [[nodiscard]] bool all_known() const;

  /// What is due at this moment.
  void tick();
  [[nodiscard]] std::optional<lease::Instant> next_deadline() const;

  [[nodiscard]] const LeaseTable& table() const { return table_; }
  [[nodiscard]] const GpuUnit& unit(GpuIndex gpu) const { return *units_[gpu]; }
  [[nodiscard]] std::vector<wire::AgentGpu> welcome() const;
  [[nodiscard]] wire::GpuStatus status(GpuIndex gpu) const;
  [[nodiscard]] std::vector<wire::GpuStatus> status() const;
  [[nodiscard]] const gpu::Backend& backend() const { return context_.backend; }
  /// As of the last time that the library was opened.
  [[nodiscard]] const std::string& driver_version() const { return driver_version_; }
  [[nodiscard]] const format::AgentConfig& config() const { return config_; }

 private:
  [[nodiscard]] std::unique_ptr<GpuUnit> make_unit(GpuIndex gpu, gpu::Device& device);
  void adopt_abilities(GpuIndex gpu, Abilities abilities);
  void carry_out(const Ending& ending, AuditEvent event);
  void carry_out(const std::vector<Ending>& endings, AuditEvent event);
  void on_started(GpuIndex gpu, LeaseId lease, const core::Status& status);
  void on_restored(GpuIndex gpu, const Ending& ending, const core::Status& status);
  void on_owed(GpuIndex gpu, const std::string& owner, const core::Status& status);
  void on_clock_event(GpuIndex gpu, const lease::ClockEvent& event);
  void on_reading(GpuIndex gpu, const Reading& reading, const std::optional<ClockReading>& judged);
  void on_verdict(GpuIndex gpu, WriterVerdict verdict, const ClockReading& reading);
  void ask_abilities(GpuIndex gpu);
  void on_reopened(const core::Status& status, std::string driver_version);
  void reopen_for_lost();
  void on_driver_error(GpuIndex gpu, const core::Error& error);
  /// Answers a quiesce that has not come to its end.
  void overtake_quiesce(std::string_view by);
  void close_when_free();
  void on_closed();
  [[nodiscard]] core::Status all_back() const;
  [[nodiscard]] AuditEntry entry(AuditEvent event, GpuIndex gpu) const;
  [[nodiscard]] std::string state_of(GpuIndex gpu, const lease::ClockThreadState& state,
                                     std::string& reason) const;

  FleetContext context_;
  format::AgentConfig config_;
  LeaseTable table_;
  std::function<void(const Ending&)> told_;
  bool closing_ = false;  ///< the keeper has been told to close
  bool closed_ = false;
  bool reopen_when_closed_ = false;
  bool reopening_ = false;  ///< closed, and the keeper has been told to open
  std::string driver_version_;
  lease::Backoff lost_backoff_;
  std::optional<lease::Instant> lost_retry_at_;  ///< while a GPU is lost
  Reply quiesce_reply_;
  Reply resume_reply_;
  std::vector<std::unique_ptr<GpuUnit>> units_;
  std::unique_ptr<BackendKeeper> keeper_;
};

}  // namespace perseus::agent
