// SPDX-License-Identifier: Apache-2.0
//
// Writes JSON that is also safe inside an HTML <script> element.
//
//   JsonOut out;
//   out.begin_object().key("title").text("a </script>").key("time_s").number(0.25).end_object();
//   out.take();  // {"title":"a \u003c/script\u003e","time_s":0.25}
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace perseus::report {

/// `text` with every byte that is not part of well-formed UTF-8 replaced by U+FFFD.
[[nodiscard]] std::string valid_utf8(std::string_view text);

/// `text` for an HTML text node or a quoted attribute.
[[nodiscard]] std::string escape_html(std::string_view text);

/// Base64 with padding (RFC 4648 section 4).
[[nodiscard]] std::string base64(std::span<const std::uint8_t> bytes);

/// A compact JSON writer. Commas are its own business; nesting is the caller's. Strings are made valid UTF-8,
/// and
/// `<`, `>`, `&`, U+2028 and U+2029 are written as \u escapes, so that no text can close a script element.
class JsonOut {
 public:
  JsonOut& begin_object() { return open('{'); }
  JsonOut& end_object() { return close('}'); }
  JsonOut& begin_array() { return open('['); }
  JsonOut& end_array() { return close(']'); }
  /// A member's name; its value follows.
  JsonOut& key(std::string_view name);
  JsonOut& text(std::string_view value);
  /// Shortest digits that read back as the same double; null if it is not finite.
  JsonOut& number(double value);
  JsonOut& number(std::integral auto value) { return raw(std::to_string(value)); }
  JsonOut& boolean(bool value) { return raw(value ? "true" : "false"); }
  JsonOut& null() { return raw("null"); }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  JsonOut& open(char bracket);
  JsonOut& close(char bracket);
  JsonOut& raw(std::string_view token);
  void separate();
  void quote(std::string_view value);

  std::string out_;
  bool needs_comma_ = false;
};

}  // namespace perseus::report
