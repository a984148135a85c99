// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/process_handle.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include "perseus/format/files.h"
#include "perseus/format/numbers.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;

/// fdinfo of a pidfd has about 100 bytes.
constexpr std::size_t kMaxFdInfo = 4096;

/// The number after "Pid:" in a pidfd's fdinfo (pidfd_show_fdinfo in linux/kernel/fork.c); nothing for other
/// descriptors.
std::optional<pid_t> pid_line(std::string_view info) {
  constexpr std::string_view kName = "\nPid:\t";
  const std::size_t at = info.find(kName);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = info.substr(at + kName.size());
  return format::parse_integer<pid_t>(rest.substr(0, rest.find('\n')));
}

core::Result<std::optional<pid_t>> read_pid(int fd) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string info,
                           format::read_file(fmt::format("/proc/self/fdinfo/{}", fd), kMaxFdInfo));
  return pid_line(info);
}

}  // namespace

core::Result<ProcessHandle> ProcessHandle::open(pid_t pid) {
  // pidfd descriptors are close-on-exec by themselves (pidfd_open(2)).
  format::UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (fd) return ProcessHandle(std::move(fd));
  const ErrorCode code = errno == ESRCH || errno == EINVAL ? ErrorCode::kNotFound
                         : errno == ENOSYS                 ? ErrorCode::kUnsupported
                                                           : ErrorCode::kIo;
  return core::fail(code,
                    fmt::format("no handle of process {}: {}", pid, std::generic_category().message(errno)));
}

core::Result<ProcessHandle> ProcessHandle::adopt(format::UniqueFd fd) {
  if (!fd) return core::fail(ErrorCode::kInvalidInput, "no process handle was sent");
  PERSEUS_ASSIGN_OR_RETURN(const auto pid, read_pid(fd.get()));
  if (!pid) return core::fail(ErrorCode::kInvalidInput, "what was sent is no process handle (pidfd)");
  return ProcessHandle(std::move(fd));
}

bool ProcessHandle::is_alive() const {
  pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  while (::poll(&entry, 1, 0) < 0) {
    if (errno != EINTR) return false;
  }
  return entry.revents == 0;
}

core::Result<pid_t> ProcessHandle::pid() const {
  PERSEUS_ASSIGN_OR_RETURN(const auto pid, read_pid(fd_.get()));
  if (!pid) return core::fail(ErrorCode::kIo, "the kernel does not tell the process id of a pidfd");
  return *pid;
}

core::Status ProcessHandle::check_is(pid_t pid) const {
  PERSEUS_ASSIGN_OR_RETURN(const pid_t ours, this->pid());
  if (ours > 0 && ours == pid && is_alive()) return {};
  if (ours > 0 && ours != pid) {
    return core::fail(
        ErrorCode::kPermission,
        fmt::format("the process handle is that of process {}, the connection that of process {}", ours,
                    pid));
  }
  return core::fail(ErrorCode::kPermission,
                    ours == 0 ? fmt::format("process {} lives where this process cannot see it", pid)
                              : fmt::format("process {} has ended", pid));
}

core::Result<std::uint64_t> pid_namespace(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/ns/pid", pid);
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0) return static_cast<std::uint64_t>(status.st_ino);
  const ErrorCode code = errno == ENOENT || errno == ESRCH   ? ErrorCode::kNotFound
                         : errno == EACCES || errno == EPERM ? ErrorCode::kPermission
                                                             : ErrorCode::kIo;
  return core::fail(code, fmt::format("the pid namespace of process {} is not known: {}", pid,
                                      std::generic_category().message(errno)));
}

}  // namespace perseus::lease
