// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace perseus::format {
namespace {

constexpr std::size_t kMaxQuoted = 60;
constexpr std::size_t kMaxInstructionName = 64;

/// Length of the well-formed UTF-8 sequence at the start of `bytes` (RFC 3629), 0 if there is none.
std::size_t sequence_length(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (bytes.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xED && byte(1) > 0x9F;
  const bool too_large = lead == 0xF4 && byte(1) > 0x8F;
  return overlong || surrogate || too_large ? 0 : length;
}

/// Whether the well-formed sequence may stand in a line that people read.
bool is_visible(std::string_view sequence) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(sequence[i]); };
  if (sequence.size() == 1) return byte(0) >= 0x20 && byte(0) != 0x7F;
  if (sequence.size() == 2) return byte(0) != 0xC2 || byte(1) >= 0xA0;  // U+0080 to U+009F: C1
  if (sequence.size() != 3 || byte(0) != 0xE2) return true;
  if (byte(1) == 0x80) {  // U+2000 to U+203F
    const bool mark = byte(2) == 0x8E || byte(2) == 0x8F;
    return !mark && (byte(2) < 0xA8 || byte(2) > 0xAE);  // U+2028, U+2029 separate lines; U+202A to U+202E
  }
  return byte(1) != 0x81 || byte(2) < 0xA6 || byte(2) > 0xA9;  // U+2066 to U+2069
}

/// Number of insertions, deletions, replacements and swaps of neighbours that turn a into b.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      if (static_cast<std::uint8_t>(c) < 0x20 || c == 0x7F) {
        out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      } else {
        out += c;
      }
  }
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::string quoted(std::string_view text) {
  std::string out = "\"";
  std::size_t i = 0;
  while (i < text.size() && i < kMaxQuoted) {
    const std::size_t length = sequence_length(text.substr(i));
    if (length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<std::uint8_t>(text[i])));
      ++i;
    } else if (length == 1) {
      append_escaped(out, text[i++]);
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  out += i < text.size() ? "...\"" : "\"";
  return out;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) append_escaped(out, c);
  out += '"';
}

void append_csv_field(std::string& out, std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

std::optional<std::size_t> find_bad_byte(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t length = sequence_length(bytes.substr(i));
    if (length == 0 || bytes[i] == '\0') return i;
    i += length;
  }
  return std::nullopt;
}

bool is_printable(std::string_view text, std::size_t limit) {
  if (text.size() > limit) return false;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(text.substr(i));
    if (length == 0 || !is_visible(text.substr(i, length))) return false;
    i += length;
  }
  return true;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(text.substr(i));
    const bool good = length != 0 && is_visible(text.substr(i, length));
    const std::string_view next = good ? text.substr(i, length) : "?";
    if (out.size() + next.size() > limit) break;
    out += next;
    i += length == 0 ? 1 : length;
  }
  return out;
}

core::Origin origin_of(std::string_view bytes, std::size_t offset, const std::string& source) {
  const std::string_view before = bytes.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
  return {source, static_cast<std::uint64_t>(std::ranges::count(before, '\n')) + 1, offset - line_start + 1};
}

core::Status check_text(std::string_view bytes, std::size_t limit, std::string_view what,
                        const std::string& source) {
  if (bytes.size() > limit) {
    return core::fail(core::ErrorCode::kLimit,
                      fmt::format("the {} has {} bytes; the limit is {}", what, bytes.size(), limit),
                      {source});
  }
  if (const auto bad = find_bad_byte(bytes)) {
    const auto byte = static_cast<unsigned>(static_cast<std::uint8_t>(bytes[*bad]));
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("byte 0x{:02x} is not UTF-8 text; the {} must be", byte, what),
                      origin_of(bytes, *bad, source));
  }
  return {};
}

std::string_view nearest_name(std::string_view word, std::span<const std::string_view> known) {
  constexpr std::size_t kMaxTypingErrors = 2;
  constexpr std::size_t kLongestWord = 64;  // longer ones are no typing error, and the distance is quadratic
  std::string_view best;
  std::size_t best_distance = kMaxTypingErrors + 1;
  if (word.size() > kLongestWord) return best;
  for (const std::string_view name : known) {
    const std::size_t distance = edit_distance(word, name);
    if (distance < best_distance && 2 * distance < word.size()) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> known) {
  const std::string_view name = nearest_name(word, known);
  return name.empty() ? std::string() : fmt::format("; did you mean {}?", name);
}

core::Status check_instruction_name(std::string_view name, const core::Origin& origin) {
  constexpr std::array<std::string_view, 7> kLetters = {"F", "B", "I", "W", "FB", "R", "X"};
  const auto allowed = [](char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.'; };
  const bool formed = !name.empty() && name.size() <= kMaxInstructionName &&
                      std::ranges::all_of(name, allowed) && (is_letter(name.front()) || name.front() == '_');
  if (!formed) {
    return core::fail(
        core::ErrorCode::kInvalidInput,
        fmt::format("instruction is {}; it must be 1 to {} ASCII letters, digits, '_', '-' or '.' "
                    "and start with a letter or '_'",
                    quoted(name), kMaxInstructionName),
        origin);
  }
  if (std::ranges::find(kLetters, name) != kLetters.end()) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("instruction is {}, the letter of a kind; write its name, such as forward, "
                                  "backward, backward_input, backward_weight, forward_backward or recompute",
                                  quoted(name)),
                      origin);
  }
  return {};
}

}  // namespace perseus::format
