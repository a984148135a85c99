// SPDX-License-Identifier: Apache-2.0
//
// A process, held by a pidfd: it cannot be mistaken for a later one that got the same number, and it works
// across pid namespaces (fault table, row 32).
//
//   PERSEUS_ASSIGN_OR_RETURN(auto owner, ProcessHandle::adopt(fd_from_the_socket));
//   PERSEUS_RETURN_IF_ERROR(owner.check_is(peer.pid));    // the sender owns what it sent
//   poll({owner.fd(), POLLIN}) ...                        // readable when the process is gone
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::lease {

/// Movable. All functions are thread-safe as long as the handle is not moved.
class ProcessHandle {
 public:
  /// The process that has `pid` now. kNotFound: there is none; kUnsupported: the kernel has no pidfd (before
  /// 5.3); kIo.
  [[nodiscard]] static core::Result<ProcessHandle> open(pid_t pid);
  /// A pidfd that a peer has sent. kInvalidInput: it is no pidfd.
  [[nodiscard]] static core::Result<ProcessHandle> adopt(format::UniqueFd fd);

  /// Becomes readable (POLLIN) once the process has ended; for poll and epoll. Close-on-exec; stays ours.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Whether the process still runs (a zombie does not).
  [[nodiscard]] bool is_alive() const;
  /// The process id in our own pid namespace, from /proc/self/fdinfo. 0: it is not visible from here; -1: it
  /// has ended and been waited for. kIo.
  [[nodiscard]] core::Result<pid_t> pid() const;
  /// Refuses (kPermission, with both numbers) unless this is the process that the kernel calls `pid` here and
  /// it is alive.
  [[nodiscard]] core::Status check_is(pid_t pid) const;

 private:
  explicit ProcessHandle(format::UniqueFd fd) : fd_(std::move(fd)) {}
  format::UniqueFd fd_;
};

/// A number that names the pid namespace of process `pid` (the inode of /proc/PID/ns/pid); equal numbers,
/// same namespace. kNotFound: no such process; kPermission: it may not be looked at; kIo.
[[nodiscard]] core::Result<std::uint64_t> pid_namespace(pid_t pid);

}  // namespace perseus::lease
