// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/sqlite.h"

#include <fmt/format.h>

namespace perseus::server {
namespace {

constexpr std::string_view kDamaged = "the file is damaged";

}  // namespace

core::Error sqlite_failure(sqlite3* db, std::string_view doing) {
  const int code = sqlite3_errcode(db) & 0xff;
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return {core::ErrorCode::kIo, fmt::format("{}: {} ({})", doing, kDamaged, sqlite3_errmsg(db))};
  }
  const bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED;
  return {busy ? core::ErrorCode::kBusy : core::ErrorCode::kIo,
          fmt::format("{}: {}", doing, sqlite3_errmsg(db))};
}

bool damaged(const core::Error& error) {
  return error.message().find(kDamaged) != std::string::npos;
}

Statement& Statement::bind(std::string_view text) {
  sqlite3_bind_text64(statement_.get(), next_++, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind(std::int64_t number) {
  sqlite3_bind_int64(statement_.get(), next_++, number);
  return *this;
}

core::Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return std::unexpected(sqlite_failure(sqlite3_db_handle(statement_.get()), "the store could not be used"));
}

core::Status Statement::run() {
  while (true) {
    PERSEUS_ASSIGN_OR_RETURN(const bool row, step());
    if (!row) return {};
  }
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  next_ = 1;
}

std::string Statement::text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
  return bytes == nullptr ? std::string() : std::string(bytes, size);
}

std::int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

core::Result<Database> Database::open(const std::string& path, bool writable) {
  const int flags = writable ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  Database db(handle);
  if (code != SQLITE_OK)
    return std::unexpected(sqlite_failure(handle, "the store could not be opened").at({path}));
  return db;
}

core::Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code =
      sqlite3_prepare_v2(db_.get(), sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return std::unexpected(sqlite_failure(db_.get(), "the store could not be used"));
  return Statement(statement);
}

core::Status Database::run(const std::string& sql) {
  if (sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return std::unexpected(sqlite_failure(db_.get(), "the store could not be used"));
  }
  return {};
}

core::Result<std::optional<std::string>> Database::first_text(std::string_view sql) {
  PERSEUS_ASSIGN_OR_RETURN(Statement statement, prepare(sql));
  PERSEUS_ASSIGN_OR_RETURN(const bool row, statement.step());
  if (!row) return std::optional<std::string>();
  return std::optional<std::string>(statement.text(0));
}

}  // namespace perseus::server
