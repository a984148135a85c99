// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/json_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::ErrorCode;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Length of the JSON number at the start of `text`, 0 if there is none.
std::size_t number_length(std::string_view text) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t first = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i - first;
  };
  if (text.starts_with('-')) ++i;
  if (i < text.size() && text[i] == '0') {
    ++i;
  } else if (digits() == 0) {
    return 0;
  }
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (digits() == 0) return 0;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return 0;
  }
  return i;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto byte = [&](std::uint32_t bits) { out += static_cast<char>(bits); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0U | (code >> 6));
    byte(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    byte(0xE0U | (code >> 12));
    byte(0x80U | ((code >> 6) & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  } else {
    byte(0xF0U | (code >> 18));
    byte(0x80U | ((code >> 12) & 0x3FU));
    byte(0x80U | ((code >> 6) & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  }
}

}  // namespace

core::Status JsonReader::check(std::size_t limit, std::string_view what) const {
  return check_text(bytes_, limit, what, source_);
}

std::unexpected<core::Error> JsonReader::refuse(std::size_t place, std::string message,
                                                ErrorCode code) const {
  return core::fail(code, std::move(message), origin_of(bytes_, std::min(place, bytes_.size()), source_));
}

std::unexpected<core::Error> JsonReader::unexpected(std::string_view wanted) const {
  if (at_end()) return refuse(position_, fmt::format("the text ends where {} must stand", wanted));
  const std::string_view rest = bytes_.substr(position_);
  const std::size_t length = std::clamp<std::size_t>(rest.find_first_of(" \t\r\n,]}"), 1, rest.size());
  return refuse(position_, fmt::format("{} where {} must stand", quoted(rest.substr(0, length)), wanted));
}

std::unexpected<core::Error> JsonReader::too_many(std::size_t limit, std::string_view what) const {
  return refuse(position_, fmt::format("more than {} {}, the limit", limit, what), ErrorCode::kLimit);
}

void JsonReader::skip_blanks() {
  while (!at_end() && std::string_view(" \t\r\n").contains(bytes_[position_])) ++position_;
}

core::Status JsonReader::open(char bracket, std::string_view what) {
  skip_blanks();
  if (at_end() || bytes_[position_] != bracket) return unexpected(what);
  ++position_;
  fresh_ = true;
  return {};
}

core::Result<bool> JsonReader::next_item(char close) {
  skip_blanks();
  const bool first = std::exchange(fresh_, false);
  if (!at_end() && bytes_[position_] == close) {
    ++position_;
    return false;
  }
  if (first) return true;
  if (at_end() || bytes_[position_] != ',')
    return unexpected(close == '}' ? "a comma or '}'" : "a comma or ']'");
  ++position_;
  return true;
}

core::Status JsonReader::colon() {
  skip_blanks();
  if (at_end() || bytes_[position_] != ':') return unexpected("a colon");
  ++position_;
  return {};
}

core::Result<std::size_t> JsonReader::member_name(std::span<const std::string_view> names,
                                                  std::array<bool, kMaxNames>& seen) {
  const std::size_t place = mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string name, string());
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) {
    return refuse(place, fmt::format("unknown member {}{}", quoted(name), suggestion(name, names)));
  }
  const auto index = static_cast<std::size_t>(found - names.begin());
  if (std::exchange(seen.at(index), true))
    return refuse(place, fmt::format("member {} is there twice", quoted(name)));
  PERSEUS_RETURN_IF_ERROR(colon());
  return index;
}

core::Status JsonReader::check_needed(std::span<const std::string_view> names,
                                      const std::array<bool, kMaxNames>& seen, std::size_t start) const {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!seen.at(i)) return refuse(start, fmt::format("member {} is missing", quoted(names[i])));
  }
  return {};
}

std::string_view JsonReader::number_token() {
  skip_blanks();
  const std::string_view token = bytes_.substr(position_, number_length(bytes_.substr(position_)));
  return token;
}

core::Result<double> JsonReader::number() {
  const std::string_view token = number_token();
  if (token.empty()) return unexpected("a number");
  const auto value = parse_number(token);
  if (!value) return refuse(position_, fmt::format("{} is outside the range of a double", quoted(token)));
  position_ += token.size();
  return *value;
}

core::Result<std::int64_t> JsonReader::integer(std::int64_t least, std::int64_t most) {
  const std::string_view token = number_token();
  const auto value = parse_integer<std::int64_t>(token);
  if (!value || *value < least || *value > most) {
    return unexpected(fmt::format("a whole number from {} to {}", least, most));
  }
  position_ += token.size();
  return *value;
}

core::Result<bool> JsonReader::boolean() {
  skip_blanks();
  for (const std::string_view word : {"true", "false"}) {
    if (!bytes_.substr(position_).starts_with(word)) continue;
    position_ += word.size();
    return word == "true";
  }
  return unexpected("true or false");
}

bool JsonReader::take_null() {
  skip_blanks();
  if (!bytes_.substr(position_).starts_with("null")) return false;
  position_ += 4;
  return true;
}

bool JsonReader::at_array() {
  skip_blanks();
  return !at_end() && bytes_[position_] == '[';
}

core::Status JsonReader::skip_value() {
  return skip_nested(0);
}

core::Status JsonReader::skip_nested(std::size_t depth) {
  skip_blanks();
  if (depth > kMaxSkipDepth) {
    return refuse(position_, fmt::format("a value nested deeper than {}", kMaxSkipDepth), ErrorCode::kLimit);
  }
  const char first = at_end() ? '\0' : bytes_[position_];
  if (first == '[') return array(bytes_.size(), [&](std::size_t) { return skip_nested(depth + 1); });
  if (first == '{') return map(bytes_.size(), [&](const std::string&) { return skip_nested(depth + 1); });
  if (first == '"') {
    PERSEUS_RETURN_IF_ERROR(string());
    return {};
  }
  for (const std::string_view word : {"true", "false", "null"}) {
    if (!bytes_.substr(position_).starts_with(word)) continue;
    position_ += word.size();
    return {};
  }
  PERSEUS_RETURN_IF_ERROR(number());
  return {};
}

core::Result<std::string> JsonReader::string() {
  skip_blanks();
  const std::size_t start = position_;
  if (at_end() || bytes_[position_] != '"') return unexpected("a string");
  ++position_;
  std::string out;
  for (;;) {
    if (at_end()) return refuse(start, "a string that is never closed");
    const char c = bytes_[position_];
    if (static_cast<std::uint8_t>(c) < 0x20) return refuse(position_, "a control character in a string");
    ++position_;
    if (c == '"') return out;
    if (c == '\\') {
      PERSEUS_RETURN_IF_ERROR(escape(out));
    } else {
      out += c;
    }
    if (out.size() > kMaxStringBytes) {
      return refuse(start, fmt::format("a string of more than {} bytes, the limit", kMaxStringBytes),
                    ErrorCode::kLimit);
    }
  }
}

core::Status JsonReader::escape(std::string& out) {
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const std::size_t place = position_ - 1;
  if (at_end()) return refuse(place, "a string that is never closed");
  const char c = bytes_[position_++];
  if (const std::size_t i = kLetters.find(c); i != std::string_view::npos) {
    out += kMeanings[i];
    return {};
  }
  if (c != 'u') return refuse(place, fmt::format("\"\\{}\" is no escape of JSON", c));
  PERSEUS_ASSIGN_OR_RETURN(std::uint32_t code, code_unit());
  if (code >= 0xDC00 && code < 0xE000) return refuse(place, "half of a surrogate pair");
  if (code >= 0xD800 && code < 0xDC00) {
    if (!bytes_.substr(position_).starts_with("\\u")) return refuse(place, "half of a surrogate pair");
    position_ += 2;
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t low, code_unit());
    if (low < 0xDC00 || low >= 0xE000) return refuse(place, "half of a surrogate pair");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code == 0) return refuse(place, "a NUL character in a string");
  append_utf8(out, code);
  return {};
}

core::Result<std::uint32_t> JsonReader::code_unit() {
  const std::string_view digits = bytes_.substr(position_, 4);
  std::uint32_t code = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) {
    return refuse(position_, "\\u without four hexadecimal digits");
  }
  position_ += 4;
  return code;
}

core::Status JsonReader::end() {
  skip_blanks();
  if (at_end()) return {};
  return unexpected("the end of the text");
}

}  // namespace perseus::format
