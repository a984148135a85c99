// SPDX-License-Identifier: Apache-2.0
//
// Small text tools of the file formats: quoting, UTF-8, positions, suggestions. Pure and thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::format {

/// An untrusted text as it is shown in an error message: in double quotes, control characters and broken
/// UTF-8 escaped, cut after 60 bytes (assumed: enough to recognise a value, short enough for one line).
[[nodiscard]] std::string quoted(std::string_view text);
/// The same; without it a std::string would find std::quoted where <iomanip> is included.
[[nodiscard]] inline std::string quoted(const std::string& text) {
  return quoted(std::string_view(text));
}

/// Appends `text` as a JSON string with its quotes. `text` must be UTF-8.
void append_json_string(std::string& out, std::string_view text);

/// Appends `text` as a CSV field (RFC 4180): quoted only where it must be.
void append_csv_field(std::string& out, std::string_view text);

/// The first byte that is NUL or no part of well-formed UTF-8 (no overlong forms, no surrogates); nothing if
/// the text is clean.
[[nodiscard]] std::optional<std::size_t> find_bad_byte(std::string_view bytes);

/// Whether `text` may be shown to people and written to logs: well-formed UTF-8 of at most `limit` bytes,
/// without control characters (C0, DEL, C1), without line and paragraph separators and without the marks that
/// change the direction of text (U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069).
[[nodiscard]] bool is_printable(std::string_view text, std::size_t limit);
/// `text` made printable: each character (or byte) that may not be there becomes '?', and what is beyond
/// `limit` bytes is cut off at a character's end.
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit);

/// Line and column of a byte, both from 1. Columns count bytes. O(offset).
[[nodiscard]] core::Origin origin_of(std::string_view bytes, std::size_t offset, const std::string& source);

/// Refuses more than `limit` bytes (kLimit) and text that is not clean UTF-8 (kInvalidInput, with its place).
/// `what` names the kind of file, e.g. "profile".
[[nodiscard]] core::Status check_text(std::string_view bytes, std::size_t limit, std::string_view what,
                                      const std::string& source);

/// The name in `known` that `word` was likely meant to be (at most two typing errors, and less than half of
/// the word), or empty.
[[nodiscard]] std::string_view nearest_name(std::string_view word, std::span<const std::string_view> known);

/// "; did you mean NAME?" or empty.
[[nodiscard]] std::string suggestion(std::string_view word, std::span<const std::string_view> known);

/// Refuses an instruction name that could not be told apart from others in files: it must be 1 to 64 bytes of
/// ASCII letters, digits, '_', '-' and '.', start with a letter or '_', and not be one of the letters F, B,
/// I, W, FB, R and X, which stand for kinds in plans and schedules.
[[nodiscard]] core::Status check_instruction_name(std::string_view name, const core::Origin& origin);

}  // namespace perseus::format
