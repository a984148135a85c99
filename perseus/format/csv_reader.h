// SPDX-License-Identifier: Apache-2.0
//
// A strict reader of comma-separated values (RFC 4180), one record at a time.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto reader, CsvReader::open(bytes, "p.csv", "profile", limits));
//   std::vector<CsvField> record;
//   for (;;) { PERSEUS_ASSIGN_OR_RETURN(const bool more, reader.next(record)); if (!more) break; ... }
//
// Lines end with LF or CR LF; empty lines and a byte-order mark at the start are skipped. Refused: a quote
// inside an unquoted field, text after a closing quote, a quote that is never closed, a lone CR, NUL, bytes
// that are not UTF-8, anything above the limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::format {

/// One field and where it starts (from 1; columns count bytes).
struct CsvField {
  std::string text;
  std::uint64_t line = 0;
  std::uint64_t column = 0;
};

/// Most that a file may hold.
struct CsvLimits {
  std::size_t bytes = 0;
  std::size_t fields = 0;       ///< per record
  std::size_t field_bytes = 0;  ///< per field, after unquoting
};

/// Keeps a view of the bytes, which must outlive it. Not thread-safe.
class CsvReader {
 public:
  /// Checks size and encoding of the whole text. `what` names the kind of file in messages.
  static core::Result<CsvReader> open(std::string_view bytes, std::string source, std::string_view what,
                                      CsvLimits limits);

  /// Reads the next record into `record` (reusing its memory); false at the end of the text.
  core::Result<bool> next(std::vector<CsvField>& record);

 private:
  CsvReader(std::string_view bytes, std::string source, CsvLimits limits)
      : bytes_(bytes), source_(std::move(source)), limits_(limits) {}

  [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }
  [[nodiscard]] char peek() const { return bytes_[position_]; }
  [[nodiscard]] std::uint64_t column() const { return position_ - line_start_ + 1; }
  [[nodiscard]] core::Origin here() const { return {source_, line_, column()}; }
  bool skip_line_end();
  core::Status read_field(CsvField& field);
  core::Status read_plain(CsvField& field);
  core::Status read_quoted(CsvField& field);
  core::Status check_length(const CsvField& field) const;

  std::string_view bytes_;
  std::string source_;
  CsvLimits limits_;
  std::size_t position_ = 0;
  std::size_t line_start_ = 0;
  std::uint64_t line_ = 1;
};

}  // namespace perseus::format
