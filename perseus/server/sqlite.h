// SPDX-License-Identifier: Apache-2.0
//
// The little of SQLite's C interface that the store needs, with Results and owned handles.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::server {

/// A prepared statement. Values are bound in order by bind(); step() answers whether there is a row.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  Statement& bind(std::string_view text);
  Statement& bind(std::int64_t number);
  /// True: a row can be read. False: done. Errors as Database::failure.
  core::Result<bool> step();
  /// Steps to the end without reading.
  core::Status run();
  /// Makes it ready to be bound and run again.
  void reset();

  [[nodiscard]] std::string text(int column) const;
  [[nodiscard]] std::int64_t number(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int next_ = 1;
};

/// An open database file.
class Database {
 public:
  /// Opens `path`; `writable` also creates it.
  static core::Result<Database> open(const std::string& path, bool writable);

  core::Result<Statement> prepare(std::string_view sql);
  /// Runs statements that answer nothing of interest.
  core::Status run(const std::string& sql);
  /// The first column of the first row, if there is one.
  core::Result<std::optional<std::string>> first_text(std::string_view sql);

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  explicit Database(sqlite3* db) : db_(db) {}
  std::unique_ptr<sqlite3, Close> db_;
};

/// SQLite's last complaint as our Error: kBusy for a lock, else kIo. Whether the file itself is damaged is
/// said by damaged().
[[nodiscard]] core::Error sqlite_failure(sqlite3* db, std::string_view doing);
/// Whether an error that sqlite_failure() made is about a damaged file.
[[nodiscard]] bool damaged(const core::Error& error);

}  // namespace perseus::server
