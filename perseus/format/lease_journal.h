// SPDX-License-Identifier: Apache-2.0
//
// What stands on disk while a GPU is leased: one small file for each GPU, written before its clock is touched
// and removed after it has come back.
//
//   {"format":"perseus-lease/1","gpu":"GPU-...","owner":{"pid":71,"uid":0,"job":"gpt3","client":"rank 3"},
//    "baseline_mhz":null,"boot_id":"0f5c...","acquired_unix_s":1795000000}          (on one line)
//   <SHA-256 of that line as 64 hexadecimal digits>
//
// A file that was cut off anywhere, or in which any bit has changed, is refused.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/text.h"  // IWYU pragma: export: is_printable() belongs to the contract of the names

namespace perseus::format {

/// Largest record that is read. The longest that can be written, every byte of its names escaped, has under
/// 1 KiB.
inline constexpr std::size_t kMaxLeaseRecordBytes = 4096;
/// Longest `job` and `client`, in bytes (wire::kMaxAgentName).
inline constexpr std::size_t kMaxLeaseName = 128;
/// Longest UUID of a GPU, in bytes (gpu::Identity).
inline constexpr std::size_t kMaxGpuUuid = 96;

/// Who holds a GPU. For people and for the audit log: nothing is decided by the pid.
struct LeaseOwner {
  pid_t pid = 0;  ///< as the kernel tells it to whoever wrote the record
  uid_t uid = 0;
  std::string job;     ///< may be empty; printable UTF-8
  std::string client;  ///< what the program calls itself; printable UTF-8
  friend bool operator==(const LeaseOwner&, const LeaseOwner&) = default;
};

/// One lease as it is journalled.
struct LeaseRecord {
  std::string gpu;  ///< UUID
  LeaseOwner owner;
  std::optional<core::Megahertz> baseline;  ///< what to go back to; absent: the driver's default
  std::string boot_id;                      ///< of the boot in which the clock was set
  std::int64_t acquired_unix_s = 0;         ///< for people; nothing is decided by it
  friend bool operator==(const LeaseRecord&, const LeaseRecord&) = default;
};

/// "job (pid 71, uid 0)", or "client (pid 71, uid 0)" where the job has no name: how refusals and reports
/// name an owner.
[[nodiscard]] std::string owner_text(const LeaseOwner& owner);

/// Whether `uuid` may stand in a file name: 1 to kMaxGpuUuid ASCII letters, digits and '-', not beginning
/// with '-'.
[[nodiscard]] bool is_gpu_uuid(std::string_view uuid);

/// The bytes of the file. kInvalidInput: a field that parse_lease_record() would refuse; kInternal: no
/// SHA-256.
[[nodiscard]] core::Result<std::string> write_lease_record(const LeaseRecord& record);
/// Reads the bytes of a file. kInvalidInput with the place, kLimit.
[[nodiscard]] core::Result<LeaseRecord> parse_lease_record(std::string_view bytes, const std::string& source);

}  // namespace perseus::format
