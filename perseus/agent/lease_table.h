// SPDX-License-Identifier: Apache-2.0
//
// Who holds which GPU: every decision of the agent about leases, as a function of the time that is passed in.
// It makes no system call and knows no driver; the daemon carries out what it says.
//
//   PERSEUS_ASSIGN_OR_RETURN(LeaseId lease, table.begin(gpu, ask, now));    // then: journal, on the GPU's
//   thread table.started(lease, status);                                           // "acquired" may be sent
//   for (const Ending& end : table.expire(now, wall)) thread(end.gpu).end(end.outcome, ...);
//   table.restored(gpu, status);                                            // the GPU may be leased again
//
// A GPU's phases: free -> starting -> held -> ending -> free. From begin() on there is exactly one Ending for
// each lease, unless starting it failed. Apart from its lease a GPU may have an obstacle, with which nobody
// gets it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/lease_journal.h"
#include "perseus/lease/apply_loop.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

using LeaseId = std::uint64_t;       ///< from 1; never used twice by one agent
using ConnectionId = std::uint64_t;  ///< from 1; never used twice by one agent
using GpuIndex = std::size_t;        ///< into the agent's list of GPUs
/// The wall clock, for grants only.
using WallTime = std::chrono::sys_seconds;

/// Why a GPU is given to nobody. Only the last three come and go.
enum class Obstacle : std::uint8_t {
  kNone,
  kUnsupported,     ///< MIG, a virtual GPU, no permission: found at start (fault table, row 34)
  kLost,            ///< fell off the bus (row 13)
  kYielded,         ///< somebody else sets its clock (row 27)
  kUncontrollable,  ///< its clock does not follow (row 28)
};

/// A wish for a lease that has been found allowed.
struct LeaseAsk {
  ConnectionId connection = 0;
  format::LeaseOwner owner;
  std::chrono::milliseconds time_to_live{};
  std::optional<WallTime> until;  ///< end of the grant that allows it
};

/// A lease that is over. The daemon restores (or leaves the clock alone, with Outcome::kYielded) and tells.
struct Ending {
  LeaseId lease = 0;
  GpuIndex gpu = 0;
  ConnectionId connection = 0;
  format::LeaseOwner owner;
  lease::Outcome outcome = lease::Outcome::kEnded;
  std::string reason;  ///< one sentence, without a full stop
  bool tell = true;    ///< send wire::Ended: the connection lives and has not asked for the end itself
};

enum class LeasePhase : std::uint8_t { kFree, kStarting, kHeld, kEnding };

/// Belongs to one thread.
class LeaseTable {
 public:
  explicit LeaseTable(std::vector<std::string> gpu_names);

  /// Reserves a GPU. kBusy: leased (naming the owner), coming back to its baseline, yielded, or all quiesced;
  /// kUnsupported, kDeviceLost: its obstacle; kDriver: its baseline is still owed.
  [[nodiscard]] core::Result<LeaseId> begin(GpuIndex gpu, LeaseAsk ask, lease::Instant now);
  /// The lease was journalled, or could not be. True if it is held now; false: it failed, or was ended
  /// meanwhile (then restored() follows).
  [[nodiscard]] bool started(LeaseId lease, bool ok);
  /// As renew() for all leases that the connection holds.
  void keep_alive(ConnectionId connection, lease::Instant now);
  /// Prolongs by the time to live. kNotFound: that connection holds no such lease (any more).
  [[nodiscard]] core::Status renew(LeaseId lease, ConnectionId connection, lease::Instant now);
  /// kNotFound as renew().
  [[nodiscard]] core::Result<Ending> release(LeaseId lease, ConnectionId connection);
  /// Ends what has not been renewed in time, and what only an expired grant allowed.
  [[nodiscard]] std::vector<Ending> expire(lease::Instant now, WallTime wall);
  /// The connection or its process is gone.
  [[nodiscard]] std::vector<Ending> drop(ConnectionId connection, std::string_view reason);
  /// Ends one lease because the agent wants to: a grant was withdrawn. Nothing if it is over.
  [[nodiscard]] std::optional<Ending> revoke(LeaseId lease, std::string_view reason);
  /// The restore of an ending (or owed) GPU has been carried out; not `ok`: it is owed from now on.
  void restored(GpuIndex gpu, bool ok);
  /// A baseline is owed for a reason outside this table (an earlier agent's journal, a driver's refusal).
  void owe(GpuIndex gpu);

  /// Sets or takes away an obstacle; ends the lease that stands in its way. What evidence has put there
  /// (yielded, uncontrollable) comes back after a GPU was lost: it holds until resume().
  [[nodiscard]] std::optional<Ending> set_obstacle(GpuIndex gpu, Obstacle obstacle, std::string reason);
  /// Ends all leases and gives none until resume(), or until `resume_at`.
  [[nodiscard]] std::vector<Ending> quiesce(std::optional<lease::Instant> resume_at);
  /// Gives leases again; obstacles that evidence has put there (yielded, uncontrollable) are taken away.
  void resume();
  /// Ends all leases and gives none ever again.
  [[nodiscard]] std::vector<Ending> stop();

  /// The next moment at which expire(), or the end of quiescing, has something to do. Grants are looked at
  /// whenever expire() is called.
  [[nodiscard]] std::optional<lease::Instant> next_deadline() const;
  [[nodiscard]] std::optional<lease::Instant> resume_at() const { return resume_at_; }
  [[nodiscard]] bool quiesced() const { return quiesced_; }
  /// Whether every GPU is free and none owes its baseline.
  [[nodiscard]] bool at_rest() const;

  struct Gpu {
    std::string name;  ///< for messages: "GPU 0"
    LeasePhase phase = LeasePhase::kFree;
    LeaseId lease = 0;  ///< unless free
    LeaseAsk ask;       ///< of the lease
    lease::Instant deadline;
    Obstacle obstacle = Obstacle::kNone;
    std::string obstacle_reason;
    Obstacle verdict = Obstacle::kNone;  ///< kYielded or kUncontrollable, until resume()
    std::string verdict_reason;
    bool owing = false;
  };
  [[nodiscard]] const Gpu& gpu(GpuIndex gpu) const { return gpus_.at(gpu); }
  [[nodiscard]] std::size_t size() const { return gpus_.size(); }
  /// The GPU of a lease that is starting or held.
  [[nodiscard]] std::optional<GpuIndex> find(LeaseId lease) const;
  [[nodiscard]] std::size_t leases_of(ConnectionId connection) const;

 private:
  [[nodiscard]] core::Status check_free(const Gpu& gpu) const;
  [[nodiscard]] core::Result<GpuIndex> find_held(LeaseId lease, ConnectionId connection) const;
  Ending end(GpuIndex gpu, lease::Outcome outcome, std::string_view reason, bool tell);
  template <class Wanted>
  std::vector<Ending> end_where(std::string_view reason, bool tell, Wanted&& wanted);

  std::vector<Gpu> gpus_;
  LeaseId last_lease_ = 0;
  bool quiesced_ = false;
  bool stopped_ = false;
  std::optional<lease::Instant> resume_at_;
};

}  // namespace perseus::agent
