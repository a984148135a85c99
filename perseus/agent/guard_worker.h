// SPDX-License-Identifier: Apache-2.0
//
// The working half of a guardian (guard.h): speaks the agent's protocol with one program over one connection,
// leases GPUs to it, and brings them back when the program is gone.
//
//   GuardWorker worker(std::move(socket), *loop, *backend, directory, SystemTime::instance());
//   PERSEUS_RETURN_IF_ERROR(worker.start());
//   while (!worker.done()) loop->turn(worker.next_deadline());
//   worker.finished_well() ...
//
// What differs from the agent: no authority to ask (the program has the rights that this process has), no
// site limits, no status; GPUs are locked one by one in the state folder, so that several guardians work side
// by side and never two on one GPU.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perseus/agent/backend_keeper.h"
#include "perseus/agent/event_loop.h"
#include "perseus/agent/mailbox_requests.h"
#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/clock_thread.h"
#include "perseus/lease/process_handle.h"
#include "perseus/lease/state_directory.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::agent {

/// Belongs to the loop's thread. What is passed by reference must outlive it.
class GuardWorker {
 public:
  GuardWorker(format::UniqueFd socket, EventLoop& loop, gpu::Backend& backend,
              const lease::StateDirectory& directory, const lease::TimeSource& time);
  GuardWorker(const GuardWorker&) = delete;
  GuardWorker& operator=(const GuardWorker&) = delete;
  /// Waits for the GPUs' threads, which try once more to restore.
  ~GuardWorker();

  /// Watches the connection. kIo.
  [[nodiscard]] core::Status start();
  /// Ends the leases; done() once all GPUs are back, or kPatience is over. Called by itself when the program
  /// is gone.
  void stop();
  [[nodiscard]] bool done() const;
  /// When done: whether every GPU is back at its baseline.
  [[nodiscard]] bool all_back() const;
  /// When turn() must return at the latest.
  [[nodiscard]] std::optional<lease::Instant> next_deadline() const;
  /// Ends leases that were not renewed.
  void tick();

  /// How long a driver that refuses to restore is waited for after the end (assumed: a driver reload takes
  /// seconds). Then the watcher has its turn, and the journal knows.
  static constexpr lease::Duration kPatience = std::chrono::seconds(30);

 private:
  /// One GPU that this guardian has locked: while it is leased, or not back yet.
  struct Unit {
    explicit Unit(lease::GpuLock taken) : lock(std::move(taken)) {}
    lease::GpuLock lock;
    std::unique_ptr<lease::ClockThread> thread;
    std::uint64_t lease = 0;  ///< 0: none
    lease::Duration time_to_live{};
    lease::Instant expires;
    bool starting = false;  ///< acquire() was called and has not answered
    bool ending = false;    ///< end() was called and has not answered

    /// Whether it is at its baseline and nobody's.
    [[nodiscard]] bool at_rest() const;
  };

  void on_socket();
  void dispatch(const wire::AgentRequest& request);
  void hello(const wire::Hello& request);
  core::Status watch_program();
  [[nodiscard]] wire::Welcome welcome() const;
  void acquire(const wire::Acquire& request);
  core::Result<Unit*> take_unit(gpu::Device& device);
  void restore_leftovers(Unit& unit, const lease::Journal& journal);
  core::Status start_lease(gpu::Device& device, const wire::Acquire& request);
  struct Grant;
  void acquired(const Grant& grant, const core::Status& status);
  void release(const wire::Release& request);
  void renew(const wire::Renew& request);
  void end_lease(Unit& unit, lease::Outcome outcome, lease::Done done);
  /// Lets go of GPUs that are at rest, so that others may lease them.
  void let_go();
  Unit* find(std::uint64_t lease);
  [[nodiscard]] core::Result<gpu::Device*> find_device(const std::string& name) const;
  void reply(const wire::AgentReply& message, int fd = -1);
  void refuse(const core::Error& error);
  void settle(const core::Status& status);
  /// No further request is read until the answer to this one is there.
  void wait_for_answer(bool waiting);

  format::UniqueFd socket_;
  EventLoop& loop_;
  gpu::Backend& backend_;
  const lease::StateDirectory& directory_;
  const lease::TimeSource& time_;
  std::optional<lease::ProcessHandle> program_;
  format::LeaseOwner owner_;           ///< without the job
  std::map<std::string, Unit> units_;  ///< by UUID
  std::unique_ptr<BackendKeeper> keeper_;
  lease::Instant next_reopen_;
  std::uint64_t last_lease_ = 0;
  bool waiting_ = false;
  bool greeted_ = false;
  std::optional<lease::Instant> give_up_;  ///< set by stop()
};

}  // namespace perseus::agent
