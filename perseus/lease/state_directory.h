// SPDX-License-Identifier: Apache-2.0
//
// The folder that holds the journal of leases, and the lock that keeps a second agent away from it.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto directory, StateDirectory::open({.path = "/run/perseus/state"}));
//   PERSEUS_ASSIGN_OR_RETURN(Journal journal, directory.read_all());      // after a crash: restore these
//   PERSEUS_RETURN_IF_ERROR(directory.write(record));                     // before the first driver call
//   PERSEUS_RETURN_IF_ERROR(directory.remove(uuid));                      // after the clock has come back
//
// Files: `lock`; UUID.lease, one record (format/lease_journal.h); UUID.lock, who uses that GPU in direct
// mode; UUID.lease.new, a record being written; UUID.lease.corrupt-N, a record that could not be read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/lease_journal.h"
#include "perseus/format/unique_fd.h"

namespace perseus::lease {

/// Where agent and guardians keep their state unless told otherwise. One folder for all of a machine, so that
/// an agent and direct mode exclude each other. Under /run, which lies in memory: what is journalled there is
/// worth nothing after a boot, and flushing it to disk costs nothing.
inline constexpr std::string_view kDefaultStateDirectory = "/run/perseus/state";

/// The boot that the machine is in: /proc/sys/kernel/random/boot_id. kIo.
[[nodiscard]] core::Result<std::string> read_boot_id();

/// How the folder is held.
enum class Hold : std::uint8_t {
  kAgent,  ///< alone: the agent, and whatever must not run beside one
  kGpus,   ///< together with others that hold single GPUs (lock_gpu): guardians, `--restore`
};

struct StateDirectoryOptions {
  std::string path = std::string(kDefaultStateDirectory);
  Hold hold = Hold::kAgent;
  std::string boot_id;  ///< empty: read_boot_id(); tests give their own
};

/// A GPU that is held in direct mode; let go when this goes, or with the process, however it ends.
class GpuLock {
 public:
  explicit GpuLock(format::UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  format::UniqueFd fd_;
};

/// A record that could not be read. Its GPU is known by the file's name and is to be restored all the same.
struct BadRecord {
  std::string gpu;      ///< UUID
  std::string problem;  ///< one sentence, with the place
  std::string kept_as;  ///< its second name in the folder; empty if it could get none
};

/// What an earlier run has left behind.
struct Journal {
  std::vector<format::LeaseRecord> records;  ///< of this boot, by UUID
  std::vector<BadRecord> bad;                ///< kept under a second name; the first goes with remove()
  std::vector<std::string> dropped;          ///< UUIDs of records of an earlier boot: removed, nothing to do
};

/// Open and locked for as long as it lives; the kernel lets go of the lock when the process ends, however.
/// The lock is not handed on to programs that are started. Movable. write(), remove(), lock_gpu() and
/// boot_id() are thread-safe, for different GPUs at least.
class StateDirectory {
 public:
  /// Opens the folder, makes it (0700, with missing parents) where it is absent, and locks it.
  /// kInvalidInput: the path is not absolute or has "." or ".." in it. kPermission: a part of the path is a
  /// symbolic link, belongs to neither root nor us, or may be written by others; the folder itself is not
  /// ours or is open to others. kBusy: it is held, by whom stands in the message. kIo.
  [[nodiscard]] static core::Result<StateDirectory> open(StateDirectoryOptions options);
  StateDirectory(const StateDirectory&) = delete;
  StateDirectory& operator=(const StateDirectory&) = delete;
  StateDirectory(StateDirectory&&) noexcept = default;
  StateDirectory& operator=(StateDirectory&&) noexcept = default;
  ~StateDirectory() = default;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& boot_id() const { return boot_id_; }
  [[nodiscard]] Hold hold() const { return hold_; }

  /// Takes one GPU, for holders of kind kGpus. kBusy with the holder's pid; kInvalidInput: no UUID; kIo.
  [[nodiscard]] core::Result<GpuLock> lock_gpu(std::string_view gpu) const;

  /// Puts a record in the place of the GPU's former one: a new file, flushed to disk, takes its name, and the
  /// folder is flushed. kIo, with the system's words (a full disk): the GPU must not be touched; what is on
  /// disk is the former record or, if only the last flush failed, the new one. `record.boot_id` is filled in.
  [[nodiscard]] core::Status write(format::LeaseRecord record) const;
  /// Removes a GPU's record and flushes the folder; done where there is none. kIo.
  [[nodiscard]] core::Status remove(std::string_view gpu) const;

  /// All records. Bad ones get a second name, those of another boot are removed, half-written ones deleted.
  /// Holders of kind kAgent call it before they lease anything. kIo; kLimit: more than kMaxFiles files.
  [[nodiscard]] core::Result<Journal> read_all() const;
  /// The same for one GPU that the caller has locked.
  [[nodiscard]] core::Result<Journal> read_one(std::string_view gpu) const;
  /// The record of a GPU that somebody else may hold, for messages only: changes nothing. kNotFound; errors
  /// of parse_lease_record().
  [[nodiscard]] core::Result<format::LeaseRecord> peek(std::string_view gpu) const;
  /// UUIDs of all GPUs that have a record, good or bad, without reading them. kIo, kLimit.
  [[nodiscard]] core::Result<std::vector<std::string>> list() const;

  /// Most files that are looked at: 64 GPUs, two files each, and as many bad records (assumed).
  static constexpr std::size_t kMaxFiles = 4096;

 private:
  StateDirectory(StateDirectoryOptions options, format::UniqueFd folder, format::UniqueFd lock)
      : path_(std::move(options.path)),
        boot_id_(std::move(options.boot_id)),
        hold_(options.hold),
        folder_(std::move(folder)),
        lock_(std::move(lock)) {}
  core::Status read_into(Journal& journal, const std::string& gpu) const;

  std::string path_;
  std::string boot_id_;
  Hold hold_ = Hold::kAgent;
  format::UniqueFd folder_;
  format::UniqueFd lock_;
};

}  // namespace perseus::lease
