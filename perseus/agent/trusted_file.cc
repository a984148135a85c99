// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/trusted_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "perseus/format/files.h"
#include "perseus/format/unique_fd.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

core::Status check_owner(const struct stat& file, const std::string& path) {
  if (!S_ISREG(file.st_mode)) return core::fail(ErrorCode::kInvalidInput, "it is no regular file", {path});
  if (file.st_uid != 0 && file.st_uid != ::geteuid()) {
    return core::fail(
        ErrorCode::kPermission,
        fmt::format("it belongs to uid {}; it must belong to root or to the agent's own user", file.st_uid),
        {path});
  }
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return core::fail(
        ErrorCode::kPermission,
        fmt::format("others may write to it (mode {:04o}); run chmod go-w on it", file.st_mode & 07777U),
        {path});
  }
  return {};
}

}  // namespace

core::Result<std::string> read_trusted_file(const std::string& path, std::size_t limit) {
  // Non-blocking, so that a pipe in its place does not hold us up.
  const format::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) {
    const int number = errno;
    const ErrorCode code = number == ENOENT || number == ENOTDIR ? ErrorCode::kNotFound
                           : number == ELOOP                     ? ErrorCode::kInvalidInput
                           : number == EACCES                    ? ErrorCode::kPermission
                                                                 : ErrorCode::kIo;
    return core::fail(code, fmt::format("cannot open: {}", std::generic_category().message(number)), {path});
  }
  struct stat file_status{};
  if (::fstat(file.get(), &file_status) != 0) {
    return core::fail(ErrorCode::kIo,
                      fmt::format("cannot look at it: {}", std::generic_category().message(errno)), {path});
  }
  PERSEUS_RETURN_IF_ERROR(check_owner(file_status, path));
  // By way of the open file, not of its name.
  auto bytes = format::read_file(fmt::format("/proc/self/fd/{}", file.get()), limit);
  if (!bytes) return std::unexpected(bytes.error().at({path}));
  return bytes;
}

}  // namespace perseus::agent
