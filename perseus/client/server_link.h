// SPDX-License-Identifier: Apache-2.0
//
// The control link of a rank to `perseus serve`: HTTP/1.1 with JSON bodies, over TLS or plain TCP, on a
// thread of its own. docs/rank_protocol.md shows the conversation.
//
//   ServerLinkOptions options;
//   options.server = server_from_environment();
//   options.job = {.name = "gpt3", .incarnation = 1, .schedule = schedule, .tensor = 8, .data = 2};
//   options.place = {.dp = 0, .pp = 3, .tp = 0};
//   PERSEUS_ASSIGN_OR_RETURN(std::unique_ptr<ServerLink> link, make_server_link(std::move(options)));
//   link->set_gpu({.uuid = "GPU-...", .clocks = clocks});   // when it is known: before start() or after
//   link->start(listener);
//
// Rank 0.0.0 registers the job, the others say hello until the job is known. Then one connection waits for
// plans (long poll), the other carries renewals and reports. Whatever goes wrong is counted and tried again
// after a while that grows; the log gets one line when the server is lost and one when it is back.
//
// fork(): the sockets are closed in the child, where every function of the link does nothing and its
// destructor leaks what it has (its thread is not there to be joined). exec() closes all descriptors.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/client/control_link.h"
#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"
#include "perseus/schedule/generate.h"

namespace perseus::client {

/// Where the server is and how this rank shows who it is. No secret stands in here: the token is in a file.
struct ServerAddress {
  std::string url;         ///< "http://127.0.0.1:7787", "https://head-node"; empty: no server
  std::string token_file;  ///< regular, closed to others (0600), of this user or root; empty: no token
  std::string ca_file;     ///< PEM; empty: the system's authorities. The host's name is always checked
};

/// PERSEUS_SERVER, PERSEUS_TOKEN_FILE and PERSEUS_CA_FILE; what is not set is empty. Proxy variables are not
/// looked at, here or later.
[[nodiscard]] ServerAddress server_from_environment();

/// How the server is to measure the job during training. Meanings and defaults are the server's
/// (schema/openapi.yaml, Registration.profiling).
struct ProfilingSettings {
  bool online = false;            ///< false: profiles are uploaded
  std::uint32_t clocks = 16;      ///< at most so many a stage, coarse to fine; 0: all
  std::uint32_t steps = 3;        ///< measured ones in a window, at least
  core::Seconds window{2};        ///< measured time of a window, at least
  std::uint32_t skip = 1;         ///< steps at the start of a window that are not measured
  core::Seconds budget{600};      ///< training time that the sweep may cost in all
  double max_slowdown_pct = 100;  ///< clocks below top / (1 + this / 100) are not visited
};

/// The job as every one of its ranks describes it.
struct JobFacts {
  std::string name;               ///< 1 to 128 of A-Z a-z 0-9 . _ + - with a letter or digit first
  std::uint64_t incarnation = 1;  ///< grows with each elastic restart; 1 to 2^53 - 1
  core::Schedule schedule;        ///< the orders as built; plans for other ones are refused
  /// The same schedule by its name; absent: rank 0.0.0 sends the orders, cell by cell.
  std::optional<schedule::Request> named;
  std::uint32_t tensor = 1;                 ///< degree; the pipeline's is that of the schedule
  std::uint32_t data = 1;                   ///< degree: number of pipelines
  std::vector<core::Watts> blocking_power;  ///< of one GPU: one value, or one a pipeline rank; empty: the
                                            ///< server measures it, which needs `profiling.online`
  core::Seconds p2p_lag;
  std::optional<ProfilingSettings> profiling;  ///< absent: not said to the server
  std::string fingerprint;  ///< of model and machine, 1 to 128 printable characters; empty: none
};

/// Where this rank stands in its job: coordinates, each below its degree.
struct RankPlace {
  std::uint32_t dp = 0, pp = 0, tp = 0;
};

/// What the server is told of this rank's GPU. All of it may be unknown.
struct GpuFacts {
  std::string uuid;                     ///< as the driver names it
  std::vector<core::Megahertz> clocks;  ///< that the driver offers; at most 1,024
  core::Seconds counter_period;         ///< of the energy counter as measured; 0: unknown
  std::optional<bool> clock_control;    ///< whether this rank sets clocks at all; absent: not said
  friend bool operator==(const GpuFacts&, const GpuFacts&) = default;
};

/// How long things may take, and when they are tried again. All but the poll's are assumed.
struct LinkTimes {
  std::chrono::milliseconds connect{5'000};  ///< name, TCP and TLS together
  std::chrono::milliseconds answer{15'000};  ///< of anything but a long poll, and of its rest once it began
  /// What the server is asked to wait for news; whole seconds. Below the usual idle limit of 60 s of what may
  /// stand between, and the most that the server grants.
  std::chrono::seconds poll_wait{55};
  std::chrono::milliseconds poll_grace{15'000};  ///< how much later the poll's answer may come
  std::chrono::milliseconds renewal{10'000};     ///< until the server has said its rank_ttl_s; then a third
  std::chrono::milliseconds first_retry{500};    ///< the n-th wait lies in 0 to min(first * 2^n, most)
  std::chrono::milliseconds most_retry{30'000};  ///< 10,000 ranks are back within it (fault table, row 21)
  std::chrono::milliseconds most_wait_for_job{5'000};  ///< the same while the job is not registered yet
  std::chrono::milliseconds refused_retry{60'000};     ///< waits after a refusal lie in half to all of this
  std::chrono::milliseconds quiet{60'000};             ///< least time between two lines about a lost server
};

struct ServerLinkOptions {
  ServerAddress server;
  JobFacts job;
  RankPlace place;
  LinkTimes times;
  /// One sentence without a newline. Called on the link's thread; must not throw. Empty: nothing is logged.
  std::function<void(bool warning, std::string_view line)> log;
  /// Of the jitter; absent: of the system's random source. For tests.
  std::optional<std::uint64_t> seed;
  /// Most bytes of an answer's body. 128 for each of the 131,072 computations that the server takes for a
  /// job; printed they have about 40.
  std::size_t most_answer_bytes = std::size_t{16} << 20U;
};

/// A ControlLink that may be told about the GPU while it runs.
class ServerLink : public ControlLink {
 public:
  /// The server hears of it with the next hello; if that was said already, by another one at once. From any
  /// thread but the hot path's.
  virtual void set_gpu(GpuFacts facts) = 0;
};

/// A link that start() sets to work. Connects to nothing. Refused: a URL that is none (kUsage), a token file
/// that is absent, open to others or holds no token, a CA file that cannot be read, a job that has no valid
/// name, incarnation, orders or place (kInvalidInput and others, each with its origin).
[[nodiscard]] core::Result<std::unique_ptr<ServerLink>> make_server_link(ServerLinkOptions options);

/// What fences the plans of a job: SHA-256 of its orders and degrees as 64 hexadecimal digits. The link
/// computes it by itself.
[[nodiscard]] core::Result<std::string> schedule_fence(const JobFacts& job);

}  // namespace perseus::client
