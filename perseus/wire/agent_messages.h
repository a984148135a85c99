// SPDX-License-Identifier: Apache-2.0
//
// What the agent and its clients say to each other, protocol 1: a Unix socket of type SOCK_SEQPACKET, one
// strict JSON object a packet, file descriptors beside it.
//
//   client                                            agent
//   {"type":"hello","protocol":1,"client":"..."}  ->
//                                                 <- {"type":"welcome","protocol":1,...,"gpus":[...]}
//   {"type":"acquire","gpu":"GPU-...","job":"..."} ->
//                                                 <- {"type":"acquired",...}  + memfd of the mailbox
//   clocks go through the mailbox (mailbox.h)
//   {"type":"renew","lease":7}  at least once per time to live ->
//                                                 <- {"type":"ok"}
//   {"type":"release","lease":7}                  ->
//                                                 <- {"type":"ok"}, the GPU being at its baseline
//
// Every request gets exactly one reply, in order; a refusal is {"type":"error","code":"busy","message":"..."}
// with a code of core::error_table. Unasked, the agent sends {"type":"ended","lease":7,"reason":"..."} when
// it takes a lease back. The connection is the liveness of all its leases: when it ends, they are restored.
// So is the process that made it: the agent opens its pidfd when it accepts, and takes requests from no other
// process (the kernel names the sender of each packet). Nothing may be sent between hello and welcome: what
// comes after the welcome was sent while the pidfd was open, so by the very process that the pidfd is of,
// whoever had its number before. The agent takes no descriptors from clients.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::wire {

inline constexpr std::uint32_t kAgentProtocol = 1;
/// Where the agent listens unless told otherwise.
inline constexpr std::string_view kDefaultAgentSocket = "/run/perseus/agent.sock";
/// Longest packet that is read; longer ones are refused unread. The welcome of 64 GPUs with 256 clocks each
/// fits.
inline constexpr std::size_t kMaxAgentPacket = 128UL * 1024;
/// Longest request; all requests are small.
inline constexpr std::size_t kMaxAgentRequest = 4096;
/// Most bytes of "client" and "job": they are shown to people and written to the audit log.
inline constexpr std::size_t kMaxAgentName = 128;
/// A lease's time to live (RELIABILITY.md, I1: 10 s by default) and its limits.
inline constexpr std::chrono::milliseconds kDefaultTimeToLive{10'000};
inline constexpr std::chrono::milliseconds kMinTimeToLive{1'000};
inline constexpr std::chrono::milliseconds kMaxTimeToLive{60'000};

/// Requests.
struct Hello {
  std::uint32_t protocol = kAgentProtocol;
  std::string client;  ///< what the program calls itself
};
struct Acquire {
  std::string gpu;  ///< a UUID, or an index in decimal
  std::string job;  ///< for people; may be empty
  std::chrono::milliseconds time_to_live = kDefaultTimeToLive;
};
struct Renew {
  std::uint64_t lease = 0;
};
struct Release {
  std::uint64_t lease = 0;
};
struct GetStatus {};
/// Lets go of all GPUs (or of one): baselines, leases ended, library closed. For administrators.
struct Quiesce {
  std::optional<std::chrono::milliseconds> resume_after;  ///< by itself after so long; absent: by command
};
struct Resume {};
using AgentRequest = std::variant<Hello, Acquire, Renew, Release, GetStatus, Quiesce, Resume>;

/// One GPU as the welcome shows it.
struct AgentGpu {
  std::uint32_t index = 0;
  std::string uuid;
  std::string name;
  std::vector<core::Megahertz>
      clocks;  ///< that may be asked for: supported and within the site's limits; ascending
  bool controllable = false;
  std::string reason;  ///< why not
};
/// Replies.
struct Welcome {
  std::uint32_t protocol = kAgentProtocol;
  std::string version;  ///< of the agent
  std::string backend;
  std::vector<AgentGpu> gpus;
};
struct Acquired {
  std::uint64_t lease = 0;
  std::string gpu;                          ///< its UUID
  std::optional<core::Megahertz> baseline;  ///< absent: the driver's default
  std::vector<core::Megahertz> clocks;      ///< that this lease may ask for (a grant may have a floor)
  std::chrono::milliseconds time_to_live{};
};
struct Ok {};
struct Refusal {
  core::ErrorCode code = core::ErrorCode::kInternal;
  std::string message;
};
/// Unasked.
struct Ended {
  std::uint64_t lease = 0;
  std::string reason;
};

/// What somebody who may not set clocks can know of a GPU and its lease.
struct GpuStatus {
  std::uint32_t index = 0;
  std::string uuid;
  std::string name;
  std::string state;   ///< "free", "leased", "yielded", "uncontrollable", "degraded", "lost", "quiesced"
  std::string reason;  ///< one sentence where the state is not free or leased
  std::optional<core::Megahertz> intended;  ///< what the agent holds it at; absent: baseline
  std::optional<core::Megahertz> sm_clock;
  std::optional<core::Watts> power;
  std::optional<core::Joules> energy;  ///< since the agent started
  std::optional<core::Celsius> temperature;
  std::string owner;  ///< of the lease: "job (pid, uid)"; empty if free
  std::uint64_t clock_changes = 0;
  std::uint64_t refused = 0;
  std::uint64_t failed = 0;
};
struct AgentStatus {
  std::string version;
  std::string backend;
  std::string driver;
  bool quiesced = false;
  double uptime_s = 0;
  std::vector<GpuStatus> gpus;
};
using AgentReply = std::variant<Welcome, Acquired, Ok, AgentStatus, Refusal, Ended>;

/// Bytes of a message: one line of JSON, without a newline.
[[nodiscard]] std::string encode(const AgentRequest& request);
[[nodiscard]] std::string encode(const AgentReply& reply);
/// Reads a packet from the other side, which is not trusted: size, shape, ranges and encoding are checked;
/// names must be printable. kInvalidInput or kLimit with the place in the packet.
[[nodiscard]] core::Result<AgentRequest> parse_agent_request(std::string_view packet);
[[nodiscard]] core::Result<AgentReply> parse_agent_reply(std::string_view packet);

}  // namespace perseus::wire
