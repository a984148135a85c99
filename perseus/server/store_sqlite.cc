// SPDX-License-Identifier: Apache-2.0
//
// One table for all records: (kind, key1, key2) -> number and two texts, with a checksum over the lot. Nine
// kinds of record do not need nine tables, upserts and readers.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>

#include "perseus/format/sha256.h"
#include "perseus/server/sqlite.h"
#include "perseus/server/store.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;

/// Any record in the one form in which it is stored.
struct Row {
  std::string kind;  ///< "job", "profile", "facts", "shared", "sweep", "notice", "plan", "generation"
  std::string key;   ///< job, a plan's sha256, or a shared profile's digest
  std::string part;  ///< a notice's id, a sweep's entry; else empty
  std::int64_t number = 0;
  std::string
      name;  ///< a second text: a profile's sha256, a generation's plans, "ended", a shared one's facts
  std::string body;

  [[nodiscard]] core::Result<std::string> digest() const {
    return format::sha256_hex(fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n", kind, key, part, number, name, body));
  }
};

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

Row row_of(const JobRecord& r) {
  return {"job",         r.name, "", static_cast<std::int64_t>(r.incarnation), r.ended ? "ended" : "",
          r.registration};
}
Row row_of(const ProfileRecord& r) {
  return {"profile", r.job, "", 0, r.sha256, r.csv};
}
Row row_of(const FactsRecord& r) {
  return {"facts", r.job, "", 0, fmt::format("{} {}", r.profile_sha256, r.origin), r.facts};
}
Row row_of(const SharedRecord& r) {
  return {"shared", r.key, "", r.stored_unix_ms, r.facts, r.csv};
}
Row row_of(const SweepRecord& r) {
  return {"sweep", r.job, r.part, 0, "", r.body};
}
Row row_of(const NoticeRecord& r) {
  return {"notice", r.job, r.id, r.until_unix_ms, "", r.notice};
}
Row row_of(const PlanRecord& r) {
  return {"plan", r.sha256, "", 0, "", r.json};
}
Row row_of(const GenerationRecord& r) {
  return {"generation", r.job, "", static_cast<std::int64_t>(r.generation), joined(r.plans), r.deployment};
}

void add(Snapshot& to, Row row) {
  const auto number = static_cast<std::uint64_t>(row.number);
  if (row.kind == "job") {
    to.jobs.push_back({std::move(row.key), number, std::move(row.body), row.name == "ended"});
  } else if (row.kind == "profile") {
    to.profiles.push_back({std::move(row.key), std::move(row.name), std::move(row.body)});
  } else if (row.kind == "facts") {
    const auto words = split(row.name);
    if (words.size() != 2) return;
    to.facts.push_back({std::move(row.key), words[0], words[1], std::move(row.body)});
  } else if (row.kind == "shared") {
    to.shared.push_back({std::move(row.key), row.number, std::move(row.body), std::move(row.name)});
  } else if (row.kind == "sweep") {
    to.sweeps.push_back({std::move(row.key), std::move(row.part), std::move(row.body)});
  } else if (row.kind == "notice") {
    to.notices.push_back({std::move(row.key), std::move(row.part), std::move(row.body), row.number});
  } else if (row.kind == "plan") {
    to.plans.push_back({std::move(row.key), std::move(row.body)});
  } else if (row.kind == "generation") {
    to.generations.push_back({std::move(row.key), number, std::move(row.body), split(row.name)});
  }
}

constexpr std::string_view kColumns = "kind, key, part, number, name, body, digest";

struct CheckedRow {
  Row row;
  bool sound = false;
};

core::Result<CheckedRow> read_row(const Statement& s) {
  CheckedRow out{{s.text(0), s.text(1), s.text(2), s.number(3), s.text(4), s.text(5)}};
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, out.row.digest());
  out.sound = digest == s.text(6);
  return out;
}

core::Status put(Database& db, const Row& row) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, row.digest());
  PERSEUS_ASSIGN_OR_RETURN(
      Statement insert,
      db.prepare("INSERT OR REPLACE INTO records (kind, key, part, number, name, body, digest) "
                 "VALUES (?, ?, ?, ?, ?, ?, ?)"));
  insert.bind(row.kind)
      .bind(row.key)
      .bind(row.part)
      .bind(row.number)
      .bind(row.name)
      .bind(row.body)
      .bind(digest);
  return insert.run();
}

core::Status set_aside(Database& db, const CheckedRow& bad) {
  PERSEUS_ASSIGN_OR_RETURN(Statement keep, db.prepare("INSERT INTO quarantine (kind, key, part, body) "
                                                      "VALUES (?, ?, ?, ?)"));
  keep.bind(bad.row.kind).bind(bad.row.key).bind(bad.row.part).bind(bad.row.body);
  PERSEUS_RETURN_IF_ERROR(keep.run());
  PERSEUS_ASSIGN_OR_RETURN(Statement drop,
                           db.prepare("DELETE FROM records WHERE kind = ? AND key = ? AND part = ?"));
  drop.bind(bad.row.kind).bind(bad.row.key).bind(bad.row.part);
  return drop.run();
}

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(Database db) : db_(std::move(db)) {}

  core::Status write(std::span<const Change> changes) override {
    PERSEUS_RETURN_IF_ERROR(db_.run("BEGIN IMMEDIATE"));
    core::Status done = apply(changes);
    if (done) done = db_.run("COMMIT");
    // A failed COMMIT may have ended the transaction already; then there is nothing to roll back.
    if (!done) static_cast<void>(db_.run("ROLLBACK"));
    return done;
  }

  core::Result<Snapshot> load() override {
    Snapshot out;
    std::vector<CheckedRow> bad;
    {
      PERSEUS_ASSIGN_OR_RETURN(
          Statement all,
          db_.prepare(fmt::format("SELECT {} FROM records ORDER BY kind, key, part", kColumns)));
      while (true) {
        PERSEUS_ASSIGN_OR_RETURN(const bool more, all.step());
        if (!more) break;
        PERSEUS_ASSIGN_OR_RETURN(CheckedRow row, read_row(all));
        if (row.sound) {
          add(out, std::move(row.row));
        } else {
          bad.push_back(std::move(row));
        }
      }
    }
    for (const CheckedRow& row : bad) {
      findings_.push_back(
          fmt::format("{} '{}{}' does not fit its checksum; it was moved to the table quarantine",
                      row.row.kind, row.row.key, row.row.part));
      PERSEUS_RETURN_IF_ERROR(set_aside(db_, row));
    }
    return out;
  }

  std::vector<std::string> take_findings() override { return std::exchange(findings_, {}); }

 private:
  core::Status apply(std::span<const Change> changes) {
    bool generations_changed = false;
    for (const Change& change : changes) {
      const auto one = [&](const auto& record) -> core::Status {
        using T = std::decay_t<decltype(record)>;
        if constexpr (std::is_same_v<T, NoticeRemoval>) {
          return remove("DELETE FROM records WHERE kind = 'notice' AND key = ? AND part = ?",
                        {record.job, record.id});
        } else if constexpr (std::is_same_v<T, SweepRemoval>) {
          return remove("DELETE FROM records WHERE kind = 'sweep' AND key = ?", {record.job});
        } else if constexpr (std::is_same_v<T, SharedRemoval>) {
          return remove("DELETE FROM records WHERE kind = 'shared' AND key = ?", {record.key});
        } else if constexpr (std::is_same_v<T, JobRemoval>) {
          generations_changed = true;
          return remove("DELETE FROM records WHERE kind NOT IN ('plan', 'shared') AND key = ?",
                        {record.name});
        } else {
          generations_changed = generations_changed || std::is_same_v<T, GenerationRecord>;
          return put(db_, row_of(record));
        }
      };
      PERSEUS_RETURN_IF_ERROR(std::visit(one, change));
    }
    return generations_changed ? drop_unused_plans() : core::Status();
  }

  core::Status remove(std::string_view sql, std::initializer_list<std::string_view> keys) {
    PERSEUS_ASSIGN_OR_RETURN(Statement statement, db_.prepare(sql));
    for (const std::string_view key : keys) statement.bind(key);
    return statement.run();
  }

  /// A plan lives as long as a generation names it.
  core::Status drop_unused_plans() {
    return db_.run(
        "DELETE FROM records WHERE kind = 'plan' AND NOT EXISTS "
        "(SELECT 1 FROM records AS g WHERE g.kind = 'generation' AND instr(g.name, records.key) > 0)");
  }

  Database db_;
  std::vector<std::string> findings_;
};

/// Version 1 kept rows without a quarantine beside them; version 2 added it. Each step runs in one
/// transaction.
constexpr const char* kMigrations[] = {
    "CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, part TEXT NOT NULL, number INTEGER NOT "
    "NULL, "
    "name TEXT NOT NULL, body BLOB NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (kind, key, part))",
    "CREATE TABLE quarantine (kind TEXT, key TEXT, part TEXT, body BLOB)",
};
static_assert(std::size(kMigrations) == kStoreVersion);

core::Status migrate(Database& db) {
  PERSEUS_RETURN_IF_ERROR(db.run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"));
  PERSEUS_ASSIGN_OR_RETURN(const auto found, db.first_text("SELECT max(version) FROM schema_version"));
  int version = 0;
  if (found && !found->empty())
    version = std::atoi(found->c_str());  // NOLINT(cert-err34-c): an INTEGER column
  if (version < 0 || version > kStoreVersion) {
    return fail(
        ErrorCode::kUnsupported,
        fmt::format("the store has schema version {}; this build knows 1 to {}", version, kStoreVersion));
  }
  for (; version < kStoreVersion; ++version) {
    PERSEUS_RETURN_IF_ERROR(
        db.run(fmt::format("BEGIN IMMEDIATE; {}; INSERT INTO schema_version VALUES ({}); COMMIT",
                           kMigrations[version], version + 1)));
  }
  return {};
}

/// Makes the file with mode 0600 before SQLite would make it with the umask's.
core::Status make_private(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("the store could not be opened: {}", std::generic_category().message(errno)),
                {path});
  }
  ::close(fd);
  return {};
}

core::Result<Database> open_checked(const std::string& path, const SqliteOptions& options) {
  PERSEUS_RETURN_IF_ERROR(make_private(path));
  PERSEUS_ASSIGN_OR_RETURN(Database db, Database::open(path, true));
  // Exclusive: one server a file, and no shared-memory file beside it. The journal must be asked for
  // afterwards.
  PERSEUS_RETURN_IF_ERROR(
      db.run("PRAGMA busy_timeout = 1000; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; "
             "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
             "BEGIN IMMEDIATE; COMMIT"));
  PERSEUS_ASSIGN_OR_RETURN(const auto sound, db.first_text("PRAGMA quick_check(1)"));
  if (sound != "ok") {
    return fail(ErrorCode::kIo, fmt::format("the file is damaged ({})", sound.value_or("no answer")), {path});
  }
  PERSEUS_RETURN_IF_ERROR(migrate(db));
  if (options.max_pages != 0) {
    PERSEUS_RETURN_IF_ERROR(db.run(fmt::format("PRAGMA max_page_count = {}", options.max_pages)));
  }
  return db;
}

/// Renames the file with its journal to the first free PATH.quarantined-N.
core::Result<std::string> quarantine_file(const std::string& path) {
  for (int n = 1; n < 1000; ++n) {
    std::string to = fmt::format("{}.quarantined-{}", path, n);
    std::error_code error;
    if (std::filesystem::exists(to, error)) continue;
    std::filesystem::rename(path, to, error);
    if (error)
      return fail(ErrorCode::kIo, fmt::format("could not be set aside: {}", error.message()), {path});
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::rename(path + suffix, to + suffix, error);
    return to;
  }
  return fail(ErrorCode::kLimit, "1,000 damaged stores lie beside it already", {path});
}

struct Salvage {
  std::size_t kept = 0;
  std::size_t lost = 0;
};

/// Copies what is sound out of a damaged file, a row at a time in both directions: a damaged page ends one
/// scan, and the other one still finds what lies behind it.
Salvage salvage(const std::string& from, Database& to) {
  Salvage result;
  std::set<std::string> seen;
  for (const char* direction : {"ASC", "DESC"}) {
    auto db = Database::open(from, false);
    if (!db) return result;
    auto rows = db->prepare(fmt::format("SELECT {} FROM records ORDER BY rowid {}", kColumns, direction));
    if (!rows) continue;
    while (true) {
      const auto more = rows->step();
      if (!more || !*more) break;
      const auto row = read_row(*rows);
      if (!row || !seen.insert(fmt::format("{}\n{}\n{}", row->row.kind, row->row.key, row->row.part)).second)
        continue;
      if (row->sound && put(to, row->row)) {
        ++result.kept;
      } else {
        ++result.lost;
      }
    }
  }
  return result;
}

}  // namespace

core::Result<OpenedStore> open_sqlite_store(const std::string& path, const SqliteOptions& options) {
  OpenedStore out;
  auto db = open_checked(path, options);
  if (!db && damaged(db.error())) {
    const std::string reason = db.error().message();
    PERSEUS_ASSIGN_OR_RETURN(const std::string aside, quarantine_file(path));
    db = open_checked(path, options);
    if (!db) return std::unexpected(db.error());
    const Salvage saved = salvage(aside, *db);
    out.findings.push_back(
        fmt::format("{}: {}; it was renamed to {}; {} records were read from it, {} seen there "
                    "were unsound",
                    path, reason, aside, saved.kept, saved.lost));
  }
  if (!db) return std::unexpected(db.error());
  out.store = std::make_unique<SqliteStore>(*std::move(db));
  return out;
}

}  // namespace perseus::server
