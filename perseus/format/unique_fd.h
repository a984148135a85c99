// SPDX-License-Identifier: Apache-2.0
//
// A file descriptor that closes itself.
//
//   UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
//   if (!fd) return fail(...);
#pragma once

#include <utility>

namespace perseus::format {

/// Owns one descriptor or none. Movable; not thread-safe.
class UniqueFd {
 public:
  UniqueFd() = default;
  /// Takes over `fd`; a negative one is none.
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// Gives it away.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  /// Closes what it had; errno is kept.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace perseus::format
