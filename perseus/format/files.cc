// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

namespace perseus::format {
namespace {

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  /// Closes now; false with errno if the system reports a late write error.
  [[nodiscard]] bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

std::unexpected<core::Error> refuse(std::string_view what, const std::string& path, int number) {
  const bool absent = number == ENOENT || number == ENOTDIR;
  return core::fail(absent ? core::ErrorCode::kNotFound : core::ErrorCode::kIo,
                    fmt::format("cannot {}: {}", what, std::generic_category().message(number)), {path});
}

/// Writes everything; 0 or an errno.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

/// A new file beside `path`, under a name that no other process uses; its name in `name`.
int open_beside(const std::string& path, std::string& name) {
  constexpr int kTries = 100;  // each fails only if a file of that very name was left behind
  for (int i = 0; i < kTries; ++i) {
    name = fmt::format("{}.{}.{}.tmp", path, ::getpid(), i);
    const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

core::Status write_directly(const std::string& path, std::string_view bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return refuse("write", path, errno);
  if (const int number = write_all(file.get(), bytes); number != 0) return refuse("write", path, number);
  if (!file.close()) return refuse("write", path, errno);
  return {};
}

/// Fills `temporary` (already open) and gives it the name `path`; 0 or an errno.
int fill_and_rename(Descriptor& file, const std::string& temporary, const std::string& path,
                    std::string_view bytes, const struct stat* old) {
  if (const int number = write_all(file.get(), bytes); number != 0) return number;
  if (old != nullptr && ::fchmod(file.get(), old->st_mode & 07777U) != 0) return errno;
  if (::fsync(file.get()) != 0) return errno;
  if (!file.close()) return errno;
  return ::rename(temporary.c_str(), path.c_str()) == 0 ? 0 : errno;
}

/// Where a chain of symbolic links leads, whether or not a file is there.
std::string followed(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_symlink(path, ignored)) return path;
  const auto target = std::filesystem::weakly_canonical(path, ignored);
  return ignored ? path : target.string();
}

}  // namespace

core::Result<std::string> read_file(const std::string& path, std::size_t limit) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return refuse("open", path, errno);
  std::string bytes;
  std::array<char, 1 << 16> block{};
  while (bytes.size() <= limit) {
    const std::size_t wanted = std::min(block.size(), limit - bytes.size() + 1);
    const ssize_t got = ::read(file.get(), block.data(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refuse("read", path, errno);
    if (got == 0) return bytes;
    bytes.append(block.data(), static_cast<std::size_t>(got));
  }
  return core::fail(core::ErrorCode::kLimit, fmt::format("the file has more than {} bytes, the limit", limit),
                    {path});
}

core::Status write_file_atomically(const std::string& path, std::string_view bytes) {
  struct stat old{};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) return write_directly(path, bytes);
  const std::string target = followed(path);
  std::string temporary;
  Descriptor file(open_beside(target, temporary));
  if (file.get() < 0) return refuse("write", path, errno);
  const int number = fill_and_rename(file, temporary, target, bytes, exists ? &old : nullptr);
  if (number == 0) return {};
  ::unlink(temporary.c_str());
  return refuse("write", path, number);
}

}  // namespace perseus::format
