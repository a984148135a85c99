// SPDX-License-Identifier: Apache-2.0
//
// What the server must not forget, behind an interface that another database can stand behind later.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto opened, open_sqlite_store("/var/lib/perseus/server.db"));
//   PERSEUS_ASSIGN_OR_RETURN(Snapshot known, opened.store->load());
//   PERSEUS_RETURN_IF_ERROR(opened.store->write({{JobRecord{...}, NoticeRecord{...}}}));   // durable now
//
// Records hold texts whose meaning is the business of others; each is stored with a SHA-256 of its own, so
// that a row that was damaged on disk is recognised whatever the database says of itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::server {

/// A job as it was registered. Written over by the next incarnation.
struct JobRecord {
  std::string name;               ///< key
  std::uint64_t incarnation = 0;  ///< of the registration
  std::string registration;       ///< the body of the request, as accepted
  bool ended = false;             ///< the job is over; its results are kept
  friend bool operator==(const JobRecord&, const JobRecord&) = default;
};

/// The profile that a job is planned from. Written over by the next upload.
struct ProfileRecord {
  std::string job;     ///< key
  std::string sha256;  ///< of `csv`, 64 lower-case hexadecimal digits
  std::string csv;     ///< as uploaded
  friend bool operator==(const ProfileRecord&, const ProfileRecord&) = default;
};

/// What a profile says beside its rows, if it was measured here (measured_profile.h).
struct FactsRecord {
  std::string job;             ///< key
  std::string profile_sha256;  ///< of the profile that it goes with; another one's facts are stale
  std::string origin;  ///< "measured", "reused" (of another job with the same fingerprint) or "uploaded"
  std::string facts;   ///< what write_facts() wrote
  friend bool operator==(const FactsRecord&, const FactsRecord&) = default;
};

/// A measured profile for all jobs with one fingerprint.
struct SharedRecord {
  std::string key;                  ///< digest of the fingerprint and all that must fit beside it
  std::int64_t stored_unix_ms = 0;  ///< the oldest make room
  std::string csv;
  std::string facts;
  friend bool operator==(const SharedRecord&, const SharedRecord&) = default;
};

/// One entry of the log of a job's sweep (sweep_log.h). Gone when the sweep is.
struct SweepRecord {
  std::string job;   ///< key, with `part`
  std::string part;  ///< sorts the entries
  std::string body;
  friend bool operator==(const SweepRecord&, const SweepRecord&) = default;
};

/// A straggler notice that has not expired.
struct NoticeRecord {
  std::string job;                 ///< key, with `id`
  std::string id;                  ///< unique within the job
  std::string notice;              ///< the body of the request, as accepted
  std::int64_t until_unix_ms = 0;  ///< end of its life by the wall clock of the machine that stores it, ms
  friend bool operator==(const NoticeRecord&, const NoticeRecord&) = default;
};

/// A plan, named by its own content; several generations may share one.
struct PlanRecord {
  std::string sha256;  ///< key: of `json`
  std::string json;    ///< "perseus-plan/1"
  friend bool operator==(const PlanRecord&, const PlanRecord&) = default;
};

/// What was deployed. Written over when its state changes; a job keeps its newest one only.
struct GenerationRecord {
  std::string job;                 ///< key
  std::uint64_t generation = 0;    ///< never falls within a job
  std::string deployment;          ///< what deployment.h writes
  std::vector<std::string> plans;  ///< sha256 of the plans it needs, without repetition
  friend bool operator==(const GenerationRecord&, const GenerationRecord&) = default;
};

/// Forgets one notice.
struct NoticeRemoval {
  std::string job;
  std::string id;
};

/// Forgets the log of a job's sweep.
struct SweepRemoval {
  std::string job;
};

/// Forgets a shared profile.
struct SharedRemoval {
  std::string key;
};

/// Forgets a job and all that belongs to it.
struct JobRemoval {
  std::string name;
};

/// One step of a write. Records replace what has the same key.
using Change =
    std::variant<JobRecord, ProfileRecord, FactsRecord, SharedRecord, SweepRecord, NoticeRecord, PlanRecord,
                 GenerationRecord, NoticeRemoval, SweepRemoval, SharedRemoval, JobRemoval>;

/// All that a store holds, each list sorted by its key.
struct Snapshot {
  std::vector<JobRecord> jobs;
  std::vector<ProfileRecord> profiles;
  std::vector<FactsRecord> facts;
  std::vector<SharedRecord> shared;
  std::vector<SweepRecord> sweeps;
  std::vector<NoticeRecord> notices;
  std::vector<PlanRecord> plans;
  std::vector<GenerationRecord> generations;
};

/// A durable store. Not thread-safe: one thread at a time.
class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  /// Applies all changes or none. After success they survive SIGKILL and power loss. kIo: the disk is full or
  /// failing, with the database's reason; the store stays usable for reading and for later writes.
  virtual core::Status write(std::span<const Change> changes) = 0;
  /// Everything. Rows whose checksum does not fit are set aside (see OpenedStore::findings) and left out.
  virtual core::Result<Snapshot> load() = 0;
  /// What load() set aside since the last call, one sentence each.
  virtual std::vector<std::string> take_findings() = 0;
};

struct SqliteOptions {
  /// Most pages of 4 KiB that the file may have; 0: as the file system allows. For tests of a full disk.
  std::uint32_t max_pages = 0;
};

/// A store and what was wrong with its file.
struct OpenedStore {
  std::unique_ptr<Store> store;
  /// One sentence for each thing that had to be set aside; empty for a sound file.
  std::vector<std::string> findings;
};

/// Opens or makes a store in an SQLite file (mode 0600; its folder must exist). The file is locked for this
/// process: kBusy if another one has it. A schema older than this build's is migrated; a newer one is
/// kUnsupported. A damaged file is renamed to PATH.quarantined-N, and what can be read of it with a fitting
/// checksum goes into a new one.
[[nodiscard]] core::Result<OpenedStore> open_sqlite_store(const std::string& path,
                                                          const SqliteOptions& options = {});

/// Version of the schema that this build writes.
inline constexpr int kStoreVersion = 2;

}  // namespace perseus::server
