// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/json_out.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>

namespace perseus::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Form {
  std::uint8_t first_low, first_high;    // range of the first byte
  std::uint8_t second_low, second_high;  // range of the second byte
  std::size_t length;
};

// The well-formed sequences of more than one byte (Unicode 15, table 3-7).
constexpr std::array<Utf8Form, 8> kForms{{{0xC2, 0xDF, 0x80, 0xBF, 2},
                                          {0xE0, 0xE0, 0xA0, 0xBF, 3},
                                          {0xE1, 0xEC, 0x80, 0xBF, 3},
                                          {0xED, 0xED, 0x80, 0x9F, 3},
                                          {0xEE, 0xEF, 0x80, 0xBF, 3},
                                          {0xF0, 0xF0, 0x90, 0xBF, 4},
                                          {0xF1, 0xF3, 0x80, 0xBF, 4},
                                          {0xF4, 0xF4, 0x80, 0x8F, 4}}};

/// Length of the well-formed sequence at the front of `rest`; 0 if there is none.
std::size_t sequence_length(std::string_view rest) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(rest[i]); };
  if (byte(0) < 0x80) return 1;
  for (const Utf8Form& form : kForms) {
    if (byte(0) < form.first_low || byte(0) > form.first_high) continue;
    if (rest.size() < form.length || byte(1) < form.second_low || byte(1) > form.second_high) return 0;
    for (std::size_t i = 2; i < form.length; ++i) {
      if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
    }
    return form.length;
  }
  return 0;
}

/// What a JSON string holds instead of this code unit sequence; empty if it may stand as it is.
std::string json_escape(std::string_view sequence) {
  if (sequence == "\xE2\x80\xA8") return "\\u2028";
  if (sequence == "\xE2\x80\xA9") return "\\u2029";
  if (sequence.size() > 1) return {};
  const char c = sequence.front();
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    default:
      break;
  }
  if (c == '<' || c == '>' || c == '&' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
    return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
  }
  return {};
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    out += length == 0 ? kReplacement : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : valid_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Control characters are not allowed in XML (the SVGs are); a space keeps words apart.
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string base64(std::span<const std::uint8_t> bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < have ? bytes[i + k] : 0U);
    for (std::size_t k = 0; k < 4; ++k) out += k <= have ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
  }
  return out;
}

void JsonOut::separate() {
  if (needs_comma_) out_ += ',';
  needs_comma_ = true;
}

JsonOut& JsonOut::open(char bracket) {
  separate();
  out_ += bracket;
  needs_comma_ = false;
  return *this;
}

JsonOut& JsonOut::close(char bracket) {
  out_ += bracket;
  needs_comma_ = true;
  return *this;
}

JsonOut& JsonOut::raw(std::string_view token) {
  separate();
  out_ += token;
  return *this;
}

void JsonOut::quote(std::string_view value) {
  const std::string valid = valid_utf8(value);
  std::string_view rest = valid;
  out_ += '"';
  while (!rest.empty()) {
    const std::string_view sequence = rest.substr(0, sequence_length(rest));
    const std::string escaped = json_escape(sequence);
    out_ += escaped.empty() ? sequence : std::string_view(escaped);
    rest.remove_prefix(sequence.size());
  }
  out_ += '"';
}

JsonOut& JsonOut::key(std::string_view name) {
  separate();
  quote(name);
  out_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonOut& JsonOut::text(std::string_view value) {
  separate();
  quote(value);
  return *this;
}

JsonOut& JsonOut::number(double value) {
  return std::isfinite(value) ? raw(fmt::format("{}", value)) : null();
}

}  // namespace perseus::report
