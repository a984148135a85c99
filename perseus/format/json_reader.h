// SPDX-License-Identifier: Apache-2.0
//
// A strict JSON reader (RFC 8259) that is led by the expected shape: the caller asks for what must come next.
//
//   JsonReader json(bytes, "plan.json");
//   PERSEUS_RETURN_IF_ERROR(json.check(limit, "plan"));
//   PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNeeded, [&](std::size_t name) -> core::Status { ... }));
//   PERSEUS_RETURN_IF_ERROR(json.end());
//
// Why not a general library: every refusal here has its line and column, doubles are correctly rounded,
// 64-bit integers are exact, a repeated or unknown member is an error, and since nothing is read that was not
// asked for, hostile nesting cannot use up the stack and a large file needs no tree in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::format {

/// Reads one text from front to back. Keeps a view of the bytes, which must outlive it. After an error it
/// must not be used further. Not thread-safe.
class JsonReader {
 public:
  /// Most members that a fixed-shape object may have.
  static constexpr std::size_t kMaxNames = 32;

  JsonReader(std::string_view bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  /// Size and encoding of the whole text; to be called first. `what` names the kind of file.
  core::Status check(std::size_t limit, std::string_view what) const;

  /// An object whose members have the given names, in any order, each at most once, the first `needed` at
  /// least once. Calls member(i) with the reader before the value of names[i]; it must read that value.
  template <class Member>
  core::Status object(std::span<const std::string_view> names, std::size_t needed, Member&& member) {
    PERSEUS_RETURN_IF_ERROR(open('{', "an object"));
    const std::size_t start = position_ - 1;
    std::array<bool, kMaxNames> seen{};
    while (true) {
      PERSEUS_ASSIGN_OR_RETURN(const bool more, next_item('}'));
      if (!more) break;
      PERSEUS_ASSIGN_OR_RETURN(const std::size_t index, member_name(names, seen));
      PERSEUS_RETURN_IF_ERROR(member(index));
    }
    return check_needed(names.first(needed), seen, start);
  }

  /// An object with names of any kind, at most `limit`. Calls member(name) as above. Repeated names are the
  /// caller's to refuse.
  template <class Member>
  core::Status map(std::size_t limit, Member&& member) {
    PERSEUS_RETURN_IF_ERROR(open('{', "an object"));
    for (std::size_t count = 0;; ++count) {
      PERSEUS_ASSIGN_OR_RETURN(const bool more, next_item('}'));
      if (!more) return {};
      if (count == limit) return too_many(limit, "members of an object");
      PERSEUS_ASSIGN_OR_RETURN(const std::string name, string());
      PERSEUS_RETURN_IF_ERROR(colon());
      PERSEUS_RETURN_IF_ERROR(member(name));
    }
  }

  /// An array of at most `limit` elements. Calls element(i) with the reader before each element.
  template <class Element>
  core::Status array(std::size_t limit, Element&& element) {
    PERSEUS_RETURN_IF_ERROR(open('[', "an array"));
    for (std::size_t count = 0;; ++count) {
      PERSEUS_ASSIGN_OR_RETURN(const bool more, next_item(']'));
      if (!more) return {};
      if (count == limit) return too_many(limit, "elements of an array");
      PERSEUS_RETURN_IF_ERROR(element(count));
    }
  }

  /// A finite number, correctly rounded.
  core::Result<double> number();
  /// A whole number written without fraction or exponent, from `least` to `most`.
  core::Result<std::int64_t> integer(std::int64_t least, std::int64_t most);
  /// A string of at most kMaxStringBytes, unescaped.
  core::Result<std::string> string();
  /// `true` or `false`.
  core::Result<bool> boolean();
  /// Takes `null` if it comes next.
  bool take_null();
  /// Whether an array comes next.
  bool at_array();
  /// Reads one value of any kind and drops it: for what a lenient protocol lets others add. A value nested
  /// deeper than kMaxSkipDepth is refused (kLimit).
  core::Status skip_value();
  /// Deepest nesting of a value that is skipped (assumed: no known message comes near).
  static constexpr std::size_t kMaxSkipDepth = 32;
  /// Refuses anything but blanks up to the end of the text.
  core::Status end();

  /// The place of the value that comes next, for messages about it.
  std::size_t mark() {
    skip_blanks();
    return position_;
  }
  /// An error at a place that mark() gave.
  [[nodiscard]] std::unexpected<core::Error> refuse(
      std::size_t place, std::string message, core::ErrorCode code = core::ErrorCode::kInvalidInput) const;

  /// Longest string: names, knob values and paths are far shorter (assumed).
  static constexpr std::size_t kMaxStringBytes = 4096;

 private:
  void skip_blanks();
  core::Status skip_nested(std::size_t depth);
  [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }
  core::Status open(char bracket, std::string_view what);
  core::Result<bool> next_item(char close);
  core::Status colon();
  core::Result<std::size_t> member_name(std::span<const std::string_view> names,
                                        std::array<bool, kMaxNames>& seen);
  core::Status check_needed(std::span<const std::string_view> names, const std::array<bool, kMaxNames>& seen,
                            std::size_t start) const;
  [[nodiscard]] std::unexpected<core::Error> too_many(std::size_t limit, std::string_view what) const;
  [[nodiscard]] std::unexpected<core::Error> unexpected(std::string_view wanted) const;
  std::string_view number_token();
  core::Status escape(std::string& out);
  core::Result<std::uint32_t> code_unit();

  std::string_view bytes_;
  std::string source_;
  std::size_t position_ = 0;
  bool fresh_ = false;  ///< an object or array was just opened: no comma before its first item
};

}  // namespace perseus::format
