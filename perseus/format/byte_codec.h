// SPDX-License-Identifier: Apache-2.0
//
// Inside of frontier_file: numbers and texts to bytes and back. The reader never reads past its end, and
// never lets a count promise more items than there are bytes left.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace perseus::format {

/// Appends to a string.
class ByteWriter {
 public:
  void raw(std::string_view bytes) { out_ += bytes; }
  void byte(std::uint8_t value) { out_ += static_cast<char>(value); }
  void fixed32(std::uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) byte(static_cast<std::uint8_t>(value >> shift));
  }
  void real(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (unsigned shift = 0; shift < 64; shift += 8) byte(static_cast<std::uint8_t>(bits >> shift));
  }
  /// LEB128: seven bits a byte, the lowest first.
  void whole(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) byte(static_cast<std::uint8_t>(value | 0x80U));
    byte(static_cast<std::uint8_t>(value));
  }
  /// Zigzag: small magnitudes of either sign are short.
  void difference(std::int64_t value) {
    whole((static_cast<std::uint64_t>(value) << 1U) ^ static_cast<std::uint64_t>(value >> 63U));
  }
  void text(std::string_view value) {
    whole(value.size());
    raw(value);
  }
  [[nodiscard]] const std::string& bytes() const { return out_; }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Reads what a ByteWriter wrote. After the first failure ok() is false and every value is 0 or empty.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : left_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return left_.empty(); }

  std::uint8_t byte() {
    const std::string_view one = raw(1);
    return one.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(one.front());
  }
  std::uint32_t fixed32() { return static_cast<std::uint32_t>(fixed(4)); }
  double real() { return std::bit_cast<double>(fixed(8)); }
  std::uint64_t whole() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t next = byte();
      if (shift == 63 && next > 1) break;  // would not fit 64 bits
      value |= std::uint64_t{next & 0x7FU} << shift;
      if ((next & 0x80U) == 0) return ok_ ? value : 0;
    }
    return fail();
  }
  std::int64_t difference() {
    const std::uint64_t zigzag = whole();
    return static_cast<std::int64_t>((zigzag >> 1U) ^ (~(zigzag & 1U) + 1));
  }
  /// A count of items of which each takes at least one byte.
  std::uint64_t count() {
    const std::uint64_t items = whole();
    return items <= left_.size() ? items : fail();
  }
  std::string_view text() { return raw(count()); }
  std::string_view raw(std::uint64_t size) {
    if (!ok_ || size > left_.size()) {
      fail();
      return {};
    }
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

 private:
  std::uint64_t fixed(unsigned size) {
    std::uint64_t value = 0;
    unsigned shift = 0;
    for (const char c : raw(size)) {
      value |= std::uint64_t{static_cast<std::uint8_t>(c)} << shift;
      shift += 8;
    }
    return value;
  }
  std::uint64_t fail() {
    ok_ = false;
    left_ = {};
    return 0;
  }

  std::string_view left_;
  bool ok_ = true;
};

}  // namespace perseus::format
