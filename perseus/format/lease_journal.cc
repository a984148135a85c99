// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/lease_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "perseus/format/json_reader.h"
#include "perseus/format/sha256.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::ErrorCode;

constexpr std::string_view kFormat = "perseus-lease/1";
constexpr std::size_t kDigestDigits = 64;
/// What the mailbox can carry: 16 bits.
constexpr std::int64_t kMaxMegahertz = 65'535;
constexpr std::int64_t kMaxPid = std::numeric_limits<pid_t>::max();
constexpr std::int64_t kMaxUid = std::numeric_limits<uid_t>::max();
/// The year 9999; a record's time is shown to people.
constexpr std::int64_t kMaxUnixSeconds = 253'402'300'799;
/// A boot id is a UUID as text: 8-4-4-4-12 hexadecimal digits.
constexpr std::size_t kBootIdBytes = 36;

bool is_boot_id(std::string_view text) {
  const auto fits = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-'; };
  return text.size() == kBootIdBytes && std::ranges::all_of(text, fits);
}

/// What is wrong with a record as a sentence, or nothing. The same for writing and reading.
std::optional<std::string> complaint(const LeaseRecord& record) {
  if (!is_gpu_uuid(record.gpu)) {
    return fmt::format("gpu is {}; it must be 1 to {} letters, digits and '-'", quoted(record.gpu),
                       kMaxGpuUuid);
  }
  for (const auto& [name, value] :
       {std::pair("job", &record.owner.job), std::pair("client", &record.owner.client)}) {
    if (is_printable(*value, kMaxLeaseName)) continue;
    return fmt::format("{} is {}; it must be printable UTF-8 of at most {} bytes", name, quoted(*value),
                       kMaxLeaseName);
  }
  if (record.owner.pid < 0) return fmt::format("pid is {}; it must be 0 or more", record.owner.pid);
  if (record.baseline && (record.baseline->value() == 0 || record.baseline->value() > kMaxMegahertz)) {
    return fmt::format("baseline_mhz is {}; it must be 1 to {}", record.baseline->value(), kMaxMegahertz);
  }
  if (!is_boot_id(record.boot_id)) {
    return fmt::format("boot_id is {}; it must be a UUID in lower-case letters", quoted(record.boot_id));
  }
  if (record.acquired_unix_s < 0 || record.acquired_unix_s > kMaxUnixSeconds) {
    return fmt::format("acquired_unix_s is {}; it must be 0 to {}", record.acquired_unix_s, kMaxUnixSeconds);
  }
  return std::nullopt;
}

core::Status read_owner(JsonReader& json, LeaseOwner& owner) {
  static constexpr std::array<std::string_view, 4> kNames = {"pid", "uid", "job", "client"};
  return json.object(kNames, kNames.size(), [&](std::size_t member) -> core::Status {
    switch (member) {
      case 0: {
        PERSEUS_ASSIGN_OR_RETURN(const auto pid, json.integer(0, kMaxPid));
        owner.pid = static_cast<pid_t>(pid);
        return {};
      }
      case 1: {
        PERSEUS_ASSIGN_OR_RETURN(const auto uid, json.integer(0, kMaxUid));
        owner.uid = static_cast<uid_t>(uid);
        return {};
      }
      default: {
        PERSEUS_ASSIGN_OR_RETURN((member == 2 ? owner.job : owner.client), json.string());
        return {};
      }
    }
  });
}

core::Status read_member(JsonReader& json, std::size_t member, LeaseRecord& record) {
  switch (member) {
    case 0: {
      const std::size_t place = json.mark();
      PERSEUS_ASSIGN_OR_RETURN(const std::string format, json.string());
      if (format == kFormat) return {};
      return json.refuse(place, fmt::format("format is {}; this version reads {}", quoted(format), kFormat));
    }
    case 1: {
      PERSEUS_ASSIGN_OR_RETURN(record.gpu, json.string());
      return {};
    }
    case 2:
      return read_owner(json, record.owner);
    case 3: {
      if (json.take_null()) return {};
      PERSEUS_ASSIGN_OR_RETURN(const auto mhz, json.integer(1, kMaxMegahertz));
      record.baseline = core::Megahertz(static_cast<std::uint32_t>(mhz));
      return {};
    }
    case 4: {
      PERSEUS_ASSIGN_OR_RETURN(record.boot_id, json.string());
      return {};
    }
    default: {
      PERSEUS_ASSIGN_OR_RETURN(record.acquired_unix_s, json.integer(0, kMaxUnixSeconds));
      return {};
    }
  }
}

core::Result<LeaseRecord> read_line(std::string_view line, const std::string& source) {
  static constexpr std::array<std::string_view, 6> kNames = {"format",       "gpu",     "owner",
                                                             "baseline_mhz", "boot_id", "acquired_unix_s"};
  JsonReader json(line, source);
  PERSEUS_RETURN_IF_ERROR(json.check(kMaxLeaseRecordBytes, "lease record"));
  LeaseRecord record;
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(),
                                      [&](std::size_t member) { return read_member(json, member, record); }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  if (const auto wrong = complaint(record)) return json.refuse(0, *wrong);
  return record;
}

}  // namespace

std::string owner_text(const LeaseOwner& owner) {
  const std::string& name = owner.job.empty() ? owner.client : owner.job;
  return fmt::format("{}(pid {}, uid {})", name.empty() ? "" : name + " ", owner.pid, owner.uid);
}

bool is_gpu_uuid(std::string_view uuid) {
  const auto fits = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  return !uuid.empty() && uuid.size() <= kMaxGpuUuid && uuid.front() != '-' &&
         std::ranges::all_of(uuid, fits);
}

core::Result<std::string> write_lease_record(const LeaseRecord& record) {
  if (const auto wrong = complaint(record))
    return core::fail(ErrorCode::kInvalidInput, *wrong, {"lease record"});
  std::string out = fmt::format(R"({{"format":"{}","gpu":"{}","owner":{{"pid":{},"uid":{},"job":)", kFormat,
                                record.gpu, record.owner.pid, record.owner.uid);
  append_json_string(out, record.owner.job);
  out += R"(,"client":)";
  append_json_string(out, record.owner.client);
  out += fmt::format(R"(}},"baseline_mhz":{},"boot_id":"{}","acquired_unix_s":{}}})",
                     record.baseline ? fmt::to_string(record.baseline->value()) : "null", record.boot_id,
                     record.acquired_unix_s);
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, sha256_hex(out));
  return out + '\n' + digest + '\n';
}

core::Result<LeaseRecord> parse_lease_record(std::string_view bytes, const std::string& source) {
  if (bytes.size() > kMaxLeaseRecordBytes) {
    return core::fail(
        ErrorCode::kLimit,
        fmt::format("the lease record has {} bytes; the limit is {}", bytes.size(), kMaxLeaseRecordBytes),
        {source});
  }
  constexpr std::size_t kTail = kDigestDigits + 2;  // newline, digest, newline
  if (bytes.size() <= kTail || bytes[bytes.size() - kTail] != '\n' || bytes.back() != '\n') {
    return core::fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} bytes that are no lease record: it is cut off, or something else", bytes.size()),
        {source});
  }
  const std::string_view line = bytes.substr(0, bytes.size() - kTail);
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, sha256_hex(line));
  if (bytes.substr(line.size() + 1, kDigestDigits) != digest) {
    return core::fail(ErrorCode::kInvalidInput, "the lease record does not have the SHA-256 that it names",
                      {source});
  }
  return read_line(line, source);
}

}  // namespace perseus::format
