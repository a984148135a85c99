// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/safe_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>
#include <vector>

#include "perseus/format/text.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using format::UniqueFd;

std::unexpected<core::Error> system_error(std::string_view what, const std::string& path) {
  const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::kPermission : ErrorCode::kIo;
  return core::fail(code, fmt::format("cannot {}: {}", what, std::generic_category().message(errno)), {path});
}

core::Result<std::vector<std::string>> parts_of(const std::string& path) {
  if (!path.starts_with('/') || path.contains('\0')) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("the folder {} must be given by an absolute path", format::quoted(path)));
  }
  std::vector<std::string> parts;
  for (std::size_t at = 1; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    if (part == "." || part == "..") {
      return core::fail(ErrorCode::kInvalidInput, "\".\" and \"..\" may not stand in this path", {path});
    }
    if (!part.empty()) parts.push_back(std::move(part));
    at = end + 1;
  }
  if (parts.empty())
    return core::fail(ErrorCode::kInvalidInput, "the root folder cannot be used for this", {path});
  return parts;
}

/// What stands against trusting a folder on the way; `last` is the folder itself.
core::Status check_folder(int fd, const std::string& path, bool last) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return system_error("look at this folder", path);
  const uid_t us = ::geteuid();
  const bool ours = status.st_uid == us || (!last && status.st_uid == 0);
  if (!ours) {
    return core::fail(ErrorCode::kPermission,
                      fmt::format("this folder belongs to user {}; it must belong to user {}{}",
                                  status.st_uid, us, last ? "" : " or to root"),
                      {path});
  }
  const mode_t mode = status.st_mode & 07777U;
  if (last && (mode & 077U) != 0) {
    return core::fail(
        ErrorCode::kPermission,
        fmt::format("this folder has mode {:04o}; it must be closed to others: chmod 700", mode), {path});
  }
  // Debian's /var/local and users' own groups are writable by a group; for root's state that is too many.
  const mode_t writers = us == 0 ? S_IWOTH | S_IWGRP : S_IWOTH;
  if ((mode & writers) != 0 && (mode & S_ISVTX) == 0) {
    return core::fail(ErrorCode::kPermission,
                      fmt::format("this folder has mode {:04o}: others could replace what is in it", mode),
                      {path});
  }
  return {};
}

/// Why `name` in `parent` could not be opened as a folder.
std::unexpected<core::Error> explain(int parent, const std::string& name, const std::string& path) {
  const int number = errno;
  struct stat status{};
  if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode)) {
    return core::fail(ErrorCode::kPermission, "this is a symbolic link; give the real path", {path});
  }
  errno = number;
  return system_error("open this folder", path);
}

core::Result<UniqueFd> open_part(int parent, const std::string& name, const std::string& path, bool last) {
  // O_PATH: a folder on the way needs to be searched, not read.
  const int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | (last ? O_RDONLY : O_PATH);
  UniqueFd fd(::openat(parent, name.c_str(), flags));
  if (!fd && errno == ENOENT) {
    if (::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST)
      return system_error("make this folder", path);
    PERSEUS_RETURN_IF_ERROR(flush_folder(parent, path));
    fd.reset(::openat(parent, name.c_str(), flags));
  }
  if (!fd) return explain(parent, name, path);
  PERSEUS_RETURN_IF_ERROR(check_folder(fd.get(), path, last));
  return fd;
}

}  // namespace

core::Result<UniqueFd> open_private_folder(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const auto parts, parts_of(path));
  UniqueFd folder(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return system_error("open this folder", "/");
  std::string so_far;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    so_far += '/' + parts[i];
    PERSEUS_ASSIGN_OR_RETURN(UniqueFd next, open_part(folder.get(), parts[i], so_far, i + 1 == parts.size()));
    folder = std::move(next);
  }
  return folder;
}

core::Status flush_folder(int folder, const std::string& path) {
  // A second descriptor: the first may be an O_PATH one, which cannot be flushed.
  const UniqueFd readable(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (readable && ::fsync(readable.get()) == 0) return {};
  return system_error("flush the folder of this entry to disk", path);
}

}  // namespace perseus::lease
