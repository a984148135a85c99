// SPDX-License-Identifier: Apache-2.0
//
// One JSON line for whatever somebody may be asked about later: leases given, refused and ended, clocks
// restored, administrators' commands. Clock changes are not among them (lease::ChangeLog).
//
//   {"time":"2026-11-24T08:31:07.120Z","event":"acquire","gpu":"GPU-...","index":0,"lease":7,"uid":1000,"pid":71,
//    "cgroup":"/job_7","client":"rank 3","job":"gpt3","result":"ok","detail":"grant (line 3)"}
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/agent/rate_limit.h"
#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::agent {

enum class AuditEvent : std::uint8_t {
  kStart,    ///< the agent
  kStop,     ///< the agent
  kConnect,  ///< refused ones only
  kAcquire,  ///< given or refused
  kRelease,  ///< asked for
  kExpire,   ///< not renewed, or the grant's end
  kEnd,      ///< the connection or its process is gone; quiesced; stopped; GPU lost
  kYield,    ///< rows 27 and 28
  kRestore,  ///< a GPU is back at its baseline, or the driver refused
  kQuiesce,
  kResume,
  kReload,     ///< configuration and grants
  kDriver,     ///< opened again, or not
  kTelemetry,  ///< its files cannot be written
};
[[nodiscard]] std::string_view audit_event_name(AuditEvent event);

/// Absent members are left out of the line.
struct AuditEntry {
  AuditEvent event = AuditEvent::kStart;
  std::optional<std::uint32_t> index;  ///< of the GPU
  std::string gpu;                     ///< UUID
  std::uint64_t lease = 0;
  std::optional<uid_t> uid;
  std::optional<pid_t> pid;
  std::string cgroup;
  std::string client;
  std::string job;
  std::string result = "ok";  ///< or the name of a core::ErrorCode
  std::string detail;         ///< one sentence for a person
};

/// The line, without its end. `at` is the wall clock.
[[nodiscard]] std::string audit_line(const AuditEntry& entry, std::chrono::system_clock::time_point at);

/// Where the lines go. Belongs to one thread. Lines are shorter than PIPE_BUF or so and written with one
/// call, so lines of several programs do not mix.
class AuditLog {
 public:
  /// Standard error, which the service manager's journal collects.
  AuditLog() = default;
  /// Appends to a file (0600, made where it is absent, no symbolic link). kIo, kPermission, kNotFound.
  [[nodiscard]] static core::Result<AuditLog> open(std::string path);
  /// Opens the file anew by its name: after a rotation. The old one stays on an error.
  [[nodiscard]] core::Status reopen();
  /// Never fails towards the caller and never waits for a reader: what cannot be written at once is counted.
  /// So are refusals of one user beyond kRefusalsPerSecond: a peer must not fill the disk.
  void write(const AuditEntry& entry);
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

  /// Lines about refusals to one user (assumed: a person or a script makes a few; a loop makes thousands).
  static constexpr std::uint32_t kRefusalsPerSecond = 20;

 private:
  [[nodiscard]] bool may_write(const AuditEntry& entry, lease::Instant now);

  std::string path_;
  format::UniqueFd file_;  ///< none: standard error
  std::uint64_t lost_ = 0;
  /// One for each user that was refused lately; forgotten all at once when there are many.
  static constexpr std::size_t kMostUsers = 256;
  std::map<uid_t, TokenBucket> refusals_;
};

}  // namespace perseus::agent
