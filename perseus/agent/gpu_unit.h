// SPDX-License-Identifier: Apache-2.0
//
// One GPU of the agent with all that belongs to it: the thread that sets its clock, the thread that reads it,
// what they have told, and what is being waited for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perseus/agent/held_clocks.h"
#include "perseus/agent/lease_table.h"
#include "perseus/agent/mailbox_requests.h"
#include "perseus/agent/sampler.h"
#include "perseus/agent/telemetry.h"
#include "perseus/agent/writer_watch.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/clock_thread.h"

namespace perseus::agent {

/// What can be asked of a device, found at start and whenever the driver was opened anew.
struct Abilities {
  std::vector<core::Megahertz> clocks;  ///< ascending; empty if the driver does not tell
  gpu::ClockControl control;
};
/// Asks the driver; may block.
[[nodiscard]] Abilities find_abilities(gpu::Device& device);

/// A lease that has been given.
struct Granted {
  LeaseId lease = 0;
  std::string gpu;   ///< UUID
  int mailbox = -1;  ///< to be sent; valid during the call only
  std::optional<core::Megahertz> baseline;
  std::vector<core::Megahertz> clocks;
};
using GrantedReply = std::function<void(core::Result<Granted>)>;
using Reply = std::function<void(core::Status)>;

/// Counts of what happened to the leases of one GPU since the agent started.
struct LeaseCounters {
  std::uint64_t acquired = 0;
  std::uint64_t refused = 0;
  std::uint64_t released = 0;
  std::uint64_t expired = 0;
  std::uint64_t ended = 0;  ///< connection gone, quiesced, revoked, GPU lost
  std::uint64_t yielded = 0;
  std::uint64_t restored = 0;
  std::uint64_t restore_failures = 0;
};

/// Belongs to the agent's main thread; the two threads inside take care of themselves. The order of the
/// members is that of their construction: the threads go first.
struct GpuUnit {
  gpu::Device* device = nullptr;
  Abilities abilities;
  std::optional<std::uint32_t> energy_epoch;
  Telemetry telemetry;
  WriterWatch watch{WriterWatchOptions{}};
  LeaseCounters leases;

  struct Starting {
    LeaseId lease = 0;
    std::vector<core::Megahertz> clocks;
    std::shared_ptr<MailboxRequests> requests;
    GrantedReply reply;
  };
  std::optional<Starting> starting;  ///< an acquire that the clock thread is working on
  std::vector<Reply> when_back;      ///< releases that wait for the baseline

  std::shared_ptr<HeldClocks> held = std::make_shared<HeldClocks>();
  std::unique_ptr<lease::ClockThread> thread;
  std::unique_ptr<Sampler> sampler;
};

}  // namespace perseus::agent
