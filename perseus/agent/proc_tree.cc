// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/proc_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "perseus/format/files.h"

namespace perseus::agent {
namespace {

/// /proc/PID/status has under 2 KiB; a cgroup path is at most PATH_MAX, one line for each hierarchy.
constexpr std::size_t kMaxProcBytes = std::size_t{1} << 16;

/// The rest of the first line that starts with `prefix`.
core::Result<std::string> line_after(std::string_view text, std::string_view prefix, core::ErrorCode absent,
                                     const std::string& what) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(prefix)) return std::string(line.substr(prefix.size()));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return core::fail(absent, what);
}

}  // namespace

core::Result<std::string> ProcTree::read(pid_t pid, std::string_view name) const {
  return format::read_file(fmt::format("{}/{}/{}", root_, pid, name), kMaxProcBytes);
}

core::Result<bool> ProcTree::in_our_pid_namespace(pid_t pid) const {
  PERSEUS_ASSIGN_OR_RETURN(const std::string status, read(pid, "status"));
  PERSEUS_ASSIGN_OR_RETURN(const std::string ids, line_after(status, "NSpid:", core::ErrorCode::kInvalidInput,
                                                             "the status has no NSpid line"));
  std::size_t numbers = 0;
  bool in_number = false;
  for (const char c : ids) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !in_number) ++numbers;
    in_number = digit;
  }
  return numbers == 1;
}

core::Result<std::string> ProcTree::cgroup(pid_t pid) const {
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, read(pid, "cgroup"));
  return line_after(text, "0::", core::ErrorCode::kUnsupported,
                    "the process has no cgroup v2 (the machine mounts version 1 only)");
}

}  // namespace perseus::agent
