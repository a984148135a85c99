// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/csv_reader.h"

#include <fmt/format.h>

#include "perseus/format/text.h"

namespace perseus::format {

using core::ErrorCode;
using core::fail;

core::Result<CsvReader> CsvReader::open(std::string_view bytes, std::string source, std::string_view what,
                                        CsvLimits limits) {
  PERSEUS_RETURN_IF_ERROR(check_text(bytes, limits.bytes, what, source));
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // spreadsheets write it
  CsvReader reader(bytes, std::move(source), limits);
  if (bytes.starts_with(kByteOrderMark)) reader.position_ = reader.line_start_ = kByteOrderMark.size();
  return reader;
}

bool CsvReader::skip_line_end() {
  const std::string_view rest = bytes_.substr(position_);
  const std::size_t length = rest.starts_with("\r\n") ? 2 : rest.starts_with("\n") ? 1 : 0;
  if (length == 0) return false;
  position_ += length;
  line_start_ = position_;
  ++line_;
  return true;
}

core::Result<bool> CsvReader::next(std::vector<CsvField>& record) {
  while (skip_line_end()) {
  }
  if (at_end()) return false;
  std::size_t count = 0;
  for (;;) {
    if (count == limits_.fields) {
      return fail(ErrorCode::kLimit, fmt::format("more than {} fields in a row, the limit", limits_.fields),
                  here());
    }
    if (record.size() == count) record.emplace_back();
    PERSEUS_RETURN_IF_ERROR(read_field(record[count++]));
    if (at_end() || skip_line_end()) break;
    ++position_;  // a comma: read_field stops nowhere else
  }
  record.resize(count);
  return true;
}

core::Status CsvReader::read_field(CsvField& field) {
  field.text.clear();
  field.line = line_;
  field.column = column();
  return !at_end() && peek() == '"' ? read_quoted(field) : read_plain(field);
}

core::Status CsvReader::read_plain(CsvField& field) {
  const std::size_t start = position_;
  while (!at_end() && peek() != ',' && peek() != '\n') {
    if (peek() == '"') {
      return fail(ErrorCode::kInvalidInput,
                  "a quote inside an unquoted field; quote the whole field and double the quote", here());
    }
    if (peek() == '\r') {
      if (bytes_.substr(position_).starts_with("\r\n")) break;
      return fail(ErrorCode::kInvalidInput, "a carriage return without a line feed", here());
    }
    ++position_;
  }
  field.text = bytes_.substr(start, position_ - start);
  return check_length(field);
}

core::Status CsvReader::read_quoted(CsvField& field) {
  ++position_;
  for (;;) {
    if (at_end()) {
      return fail(ErrorCode::kInvalidInput, "a quoted field that is never closed",
                  {source_, field.line, field.column});
    }
    const char c = bytes_[position_++];
    if (c == '\n') {
      ++line_;
      line_start_ = position_;
    }
    if (c == '"') {
      if (at_end() || peek() != '"') break;
      ++position_;  // a doubled quote stands for one
    }
    field.text += c;
  }
  const bool ends =
      at_end() || peek() == ',' || peek() == '\n' || bytes_.substr(position_).starts_with("\r\n");
  if (!ends) return fail(ErrorCode::kInvalidInput, "text after the closing quote of a field", here());
  return check_length(field);
}

core::Status CsvReader::check_length(const CsvField& field) const {
  if (field.text.size() <= limits_.field_bytes) return {};
  return fail(ErrorCode::kLimit,
              fmt::format("a field of {} bytes; the limit is {}", field.text.size(), limits_.field_bytes),
              {source_, field.line, field.column});
}

}  // namespace perseus::format
