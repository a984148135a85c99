// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <string_view>

namespace perseus::simgpu {
namespace {

/// Field `wanted` of /proc/PID/stat behind the command's name, which may hold spaces and brackets; the state
/// is field 0.
std::string_view field(std::string_view stat, int wanted) {
  const std::size_t bracket = stat.rfind(')');
  if (bracket == std::string_view::npos || bracket + 2 > stat.size()) return {};
  std::string_view rest = stat.substr(bracket + 2);
  for (int i = 0; i < wanted; ++i) {
    const std::size_t space = rest.find(' ');
    if (space == std::string_view::npos) return {};
    rest.remove_prefix(space + 1);
  }
  return rest.substr(0, rest.find(' '));
}

}  // namespace

std::uint64_t process_start(std::int32_t pid) {
  std::array<char, 64> path{};
  *fmt::format_to_n(path.data(), path.size() - 1, "/proc/{}/stat", pid).out = '\0';
  const int fd = ::open(path.data(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  std::array<char, 1024> text{};
  const ssize_t got = ::read(fd, text.data(), text.size());
  ::close(fd);
  if (got <= 0) return 0;
  const std::string_view stat(text.data(), static_cast<std::size_t>(got));
  const std::string_view state = field(stat, 0);
  if (state == "Z" || state == "X") return 0;
  const std::string_view start = field(stat, 19);  // starttime is field 22 of proc(5), the state is field 3
  std::uint64_t ticks = 0;
  std::from_chars(start.data(), start.data() + start.size(), ticks);
  return ticks;
}

std::uint64_t own_start() {
  // A forked child has its own.
  static std::atomic<std::uint64_t> known_start{0};
  static std::atomic<std::int32_t> known_pid{0};
  const auto pid = static_cast<std::int32_t>(::getpid());
  if (known_pid.load(std::memory_order_acquire) != pid) {
    known_start.store(process_start(pid), std::memory_order_relaxed);
    known_pid.store(pid, std::memory_order_release);
  }
  return known_start.load(std::memory_order_relaxed);
}

}  // namespace perseus::simgpu
