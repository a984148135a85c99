// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/guard_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <vector>

#include "perseus/lease/process_handle.h"

namespace perseus::client {
namespace {

using core::ErrorCode;

constexpr const char* kProgram = "perseus-agent";
/// The guardian's end of the pair (agent/guard.h).
constexpr int kGuardSocket = 3;

/// The folder of the running executable, or empty.
std::string own_folder() {
  std::string path(PATH_MAX, '\0');
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0) return {};
  path.resize(static_cast<std::size_t>(length));
  return path.substr(0, path.rfind('/'));
}

std::vector<std::string> candidates() {
  std::vector<std::string> out;
  if (const std::string own = own_folder(); !own.empty()) {
    out.push_back(fmt::format("{}/{}", own, kProgram));
    out.push_back(fmt::format("{}/../libexec/perseus/{}", own, kProgram));
  }
  for (const char* folder : {"/usr/local/libexec/perseus", "/usr/libexec/perseus"}) {
    out.push_back(fmt::format("{}/{}", folder, kProgram));
  }
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): read, as every exec does
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    // Only absolute folders: a guardian is not taken from wherever the program happens to stand.
    if (rest.starts_with('/')) out.push_back(fmt::format("{}/{}", rest.substr(0, end), kProgram));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

/// Attributes and file actions of one posix_spawn.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  /// Everything of ours is left behind but standard error: a descriptor of the driver that a guardian
  /// inherited would keep a GPU from being reset.
  int fill(int socket) {
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    constexpr int kFlags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
    if (const int e = ::posix_spawnattr_setflags(&attributes_, static_cast<short>(kFlags)); e != 0) return e;
    if (const int e = ::posix_spawn_file_actions_adddup2(&actions_, socket, kGuardSocket); e != 0) return e;
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
      if (const int e = ::posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", O_RDWR, 0); e != 0)
        return e;
    }
    return ::posix_spawn_file_actions_addclosefrom_np(&actions_, kGuardSocket + 1);
  }

  int spawn(const std::vector<std::string>& arguments, pid_t& pid) const {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    return ::posix_spawn(&pid, argv[0], &actions_, &attributes_, argv.data(), environ);
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

/// Waits for the started process, which leaves its guardian to init and ends. kTimeout.
core::Status wait_for(pid_t pid, wire::Deadline deadline) {
  const auto process = lease::ProcessHandle::open(pid);
  // Ended and reaped by the system, where the program has said that it does not want to know of its children.
  if (!process && process.error().code() == ErrorCode::kNotFound) return {};
  if (!process) return std::unexpected(process.error());
  pollfd entry{.fd = process->fd(), .events = POLLIN, .revents = 0};
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = ::poll(&entry, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX)));
    if (ready > 0) break;
    if (ready < 0 && errno == EINTR) continue;
    return core::fail(ErrorCode::kTimeout, "the guardian did not start in time");
  }
  int status = 0;
  // ECHILD: the program has said that it does not want to know of its children; then nothing is to be reaped.
  if (::waitpid(pid, &status, WNOHANG) != pid || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) return {};
  return core::fail(ErrorCode::kIo, "the guardian ended at once; what it said stands on standard error");
}

}  // namespace

core::Result<std::string> find_agent_program() {
  const char* named = std::getenv("PERSEUS_AGENT_BIN");  // NOLINT(concurrency-mt-unsafe): read only
  if (named != nullptr && *named != '\0') {
    if (::access(named, X_OK) == 0) return std::string(named);
    return core::fail(ErrorCode::kNotFound, fmt::format("there is no program {}", named),
                      {"PERSEUS_AGENT_BIN"});
  }
  std::string tried;
  for (const std::string& path : candidates()) {
    if (::access(path.c_str(), X_OK) == 0) return path;
    tried += (tried.empty() ? "" : ", ") + path;
  }
  return core::fail(ErrorCode::kNotFound,
                    fmt::format("there is no {} at {}; $PERSEUS_AGENT_BIN can name it", kProgram, tried));
}

core::Result<format::UniqueFd> GuardEndpoint::dial(wire::Deadline deadline) {
  std::string program = options_.program;
  if (program.empty()) {
    PERSEUS_ASSIGN_OR_RETURN(program, find_agent_program());
  }
  std::vector<std::string> arguments = {program, "guard"};
  if (!options_.backend.empty()) arguments.insert(arguments.end(), {"--backend", options_.backend});
  if (!options_.state_dir.empty()) arguments.insert(arguments.end(), {"--state-dir", options_.state_dir});
  PERSEUS_ASSIGN_OR_RETURN(wire::SocketPair pair, wire::seqpacket_pair());
  SpawnPlan plan;
  pid_t pid = 0;
  int error = plan.fill(pair.theirs.get());
  if (error == 0) error = plan.spawn(arguments, pid);
  if (error != 0) {
    const ErrorCode code = error == ENOENT   ? ErrorCode::kNotFound
                           : error == EACCES ? ErrorCode::kPermission
                                             : ErrorCode::kIo;
    return core::fail(code,
                      fmt::format("cannot start the guardian: {}", std::generic_category().message(error)),
                      {program});
  }
  PERSEUS_RETURN_IF_ERROR(wait_for(pid, deadline));
  return std::move(pair.ours);
}

std::string GuardEndpoint::name() const {
  return "a guardian process";
}

}  // namespace perseus::client
