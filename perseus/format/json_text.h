// SPDX-License-Identifier: Apache-2.0
//
// Compact JSON, a member at a time:
//
//   JsonText out;
//   out.begin_object().key("job").text("gpt").key("t_min_s").number(0.25).end_object();
//   out.take();   // {"job":"gpt","t_min_s":0.25}
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {

/// Appends to one string. Commas are its own business, nesting is the caller's. Strings must be UTF-8.
class JsonText {
 public:
  JsonText& begin_object() { return open('{'); }
  JsonText& end_object() { return close('}'); }
  JsonText& begin_array() { return open('['); }
  JsonText& end_array() { return close(']'); }
  JsonText& key(std::string_view name) {
    separate();
    append_json_string(out_, name);
    out_ += ':';
    comma_ = false;
    return *this;
  }
  JsonText& text(std::string_view value) {
    separate();
    append_json_string(out_, value);
    return *this;
  }
  /// The shortest digits that read back the same; null if it is not finite.
  JsonText& number(double value) {
    separate();
    append_number(out_, value);
    return *this;
  }
  JsonText& number(std::integral auto value) { return raw(std::to_string(value)); }
  /// A number, or null where there is none.
  template <class T>
  JsonText& number(const std::optional<T>& value) {
    return value ? number(*value) : null();
  }
  JsonText& boolean(bool value) { return raw(value ? "true" : "false"); }
  JsonText& null() { return raw("null"); }
  /// A value that is JSON already.
  JsonText& raw(std::string_view json) {
    separate();
    out_ += json;
    return *this;
  }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  JsonText& open(char bracket) {
    separate();
    out_ += bracket;
    comma_ = false;
    return *this;
  }
  JsonText& close(char bracket) {
    out_ += bracket;
    comma_ = true;
    return *this;
  }
  void separate() {
    if (comma_) out_ += ',';
    comma_ = true;
  }

  std::string out_;
  bool comma_ = false;
};

}  // namespace perseus::format
