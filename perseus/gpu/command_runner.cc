// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/command_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace perseus::gpu {

using core::ErrorCode;

namespace {

using Clock = std::chrono::steady_clock;

/// Of what the program wrote goes into an error.
constexpr std::size_t kMaxOutput = 1000;  // bytes

std::string system_error(int code) {
  return std::generic_category().message(code);
}

/// A file descriptor that is closed in the end.
class File {
 public:
  explicit File(int number) : number_(number) {}
  File(File&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { reset(); }
  void reset() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }
  [[nodiscard]] int number() const { return number_; }

 private:
  int number_;
};

std::unexpected<core::Error> refuse(const std::string& path, std::string_view why) {
  return core::fail(ErrorCode::kPermission, fmt::format("the command {} is not run: {}", path, why));
}

/// What `file` is, by its descriptor: owned and writable by the right ones only.
core::Status check_owner(const std::string& path, std::string_view part, const struct stat& info) {
  if (info.st_uid != 0 && info.st_uid != ::geteuid()) {
    return refuse(path, fmt::format("{} is owned by uid {}, neither root nor this user", part, info.st_uid));
  }
  const bool sticky_folder = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX) != 0;
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && !sticky_folder) {
    return refuse(path,
                  fmt::format("{} may be written by others (mode {:04o})", part, info.st_mode & 07777U));
  }
  return {};
}

core::Result<File> open_part(const std::string& path, int folder, const std::string& name,
                             std::string_view part, bool last) {
  const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | (last ? 0 : O_DIRECTORY);
  File file(::openat(folder, name.c_str(), flags));
  if (file.number() < 0) {
    const int error = errno;
    if (error == ENOENT)
      return core::fail(ErrorCode::kNotFound, fmt::format("the command {}: no such file", path));
    return refuse(path, fmt::format("{}: {}", part, system_error(error)));
  }
  struct stat info{};
  if (::fstat(file.number(), &info) != 0) return refuse(path, system_error(errno));
  if (S_ISLNK(info.st_mode)) return refuse(path, fmt::format("{} is a symbolic link", part));
  if (last && !S_ISREG(info.st_mode)) return refuse(path, fmt::format("{} is no regular file", part));
  if (last && (info.st_mode & S_IXUSR) == 0) return refuse(path, fmt::format("{} is not executable", part));
  PERSEUS_RETURN_IF_ERROR(check_owner(path, part, info));
  return file;
}

/// A running program and the end of the pipe that it writes to.
struct Child {
  pid_t pid = -1;
  File output{-1};
};

/// posix_spawn's two sets of settings, freed in the end.
struct SpawnSettings {
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

int prepare(SpawnSettings& settings, int output) {
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  int error = 0;
  const auto step = [&error](int result) { error = error != 0 ? error : result; };
  step(::posix_spawnattr_setsigmask(&settings.attributes, &none));
  step(::posix_spawnattr_setsigdefault(&settings.attributes, &all));
  step(::posix_spawnattr_setpgroup(&settings.attributes, 0));
  step(::posix_spawnattr_setflags(&settings.attributes,
                                  POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP));
  step(::posix_spawn_file_actions_adddup2(&settings.actions, output, STDOUT_FILENO));
  step(::posix_spawn_file_actions_adddup2(&settings.actions, output, STDERR_FILENO));
  step(::posix_spawn_file_actions_addopen(&settings.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
  step(::posix_spawn_file_actions_addclosefrom_np(&settings.actions, STDERR_FILENO + 1));
  step(::posix_spawn_file_actions_addchdir_np(&settings.actions, "/"));
  return error;
}

core::Result<Child> start(const std::vector<std::string>& argv) {
  std::array<int, 2> ends{};
  // Only our end does not block: the program's output is to behave as it knows it.
  if (::pipe2(ends.data(), O_CLOEXEC) != 0 || ::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
    return core::fail(ErrorCode::kIo, fmt::format("the command {}: {}", argv[0], system_error(errno)));
  }
  File reader(ends[0]);
  const File writer(ends[1]);
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const auto& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::string path = kCommandPath;
  std::array<char*, 2> environment = {path.data(), nullptr};
  SpawnSettings settings;
  pid_t pid = -1;
  int error = prepare(settings, writer.number());
  // By its path again: check_command() made sure that nobody else can have exchanged it, and a script then
  // sees its own name, which it would not through a descriptor.
  if (error == 0) {
    error = ::posix_spawn(&pid, argv[0].c_str(), &settings.actions, &settings.attributes, arguments.data(),
                          environment.data());
  }
  if (error != 0) {
    return core::fail(ErrorCode::kIo,
                      fmt::format("the command {} does not start: {}", argv[0], system_error(error)));
  }
  return Child{pid, std::move(reader)};
}

/// Reads what there is, but not for ever if the program never stops writing; false at the end of it.
bool drain(int file, std::string& output) {
  std::array<char, 4096> buffer{};
  constexpr int kReads = 32;  // twice what a pipe holds, 64 KiB
  for (int i = 0; i < kReads; ++i) {
    const ssize_t got = ::read(file, buffer.data(), buffer.size());
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    const std::size_t room = kMaxOutput - output.size();
    output.append(buffer.data(), std::min(room, static_cast<std::size_t>(got)));
  }
  return true;
}

/// Waits for the end of the program, not for that of its output: what it left behind may hold the pipe open.
/// False: the time is over.
bool wait_for_end(const Child& child, Clock::time_point deadline, std::string& output) {
  const File process(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  bool writing = true;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    std::array<pollfd, 2> events = {
        {{process.number(), POLLIN, 0}, {writing ? child.output.number() : -1, POLLIN, 0}}};
    // Without a pidfd (a kernel before 5.3) the program is asked after every 10 ms.
    constexpr std::chrono::milliseconds kAsk{10};
    const auto wait = process.number() >= 0 ? left : std::min(left, kAsk);
    ::poll(events.data(), events.size(), static_cast<int>(wait.count()));
    writing = writing && drain(child.output.number(), output);
    siginfo_t info{};
    const bool waited =
        ::waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
    if (!waited || info.si_pid == child.pid) break;
  }
  if (writing) drain(child.output.number(), output);
  return true;
}

std::string tidy(std::string output) {
  std::ranges::replace_if(output, [](char c) { return c < ' ' || c > '~'; }, ' ');
  const auto end = output.find_last_not_of(' ');
  output.resize(end == std::string::npos ? 0 : end + 1);
  return output.empty() ? "it wrote nothing" : "it wrote: " + output;
}

core::Status verdict(const std::vector<std::string>& argv, pid_t pid, const std::string& output) {
  int status = 0;
  pid_t waited = 0;
  do {
    waited = ::waitpid(pid, &status, 0);
  } while (waited < 0 && errno == EINTR);
  const std::string command = fmt::format("the command {}", fmt::join(argv, " "));
  if (waited < 0) {
    return core::fail(ErrorCode::kIo,
                      fmt::format("{}: its exit status is not known ({})", command, system_error(errno)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const std::string how = WIFEXITED(status) ? fmt::format("exit status {}", WEXITSTATUS(status))
                                            : fmt::format("killed by signal {}", WTERMSIG(status));
  return core::fail(ErrorCode::kDriver, fmt::format("{}: {}; {}", command, how, tidy(output)));
}

}  // namespace

core::Status check_command(const std::string& path) {
  if (!path.starts_with('/')) return refuse(path, "its path is not absolute");
  File folder(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::size_t begin = 1;
  while (true) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    if (name.empty() || name == "." || name == "..")
      return refuse(path, "its path has an empty part, \".\" or \"..\"");
    const bool last = end == path.size();
    PERSEUS_ASSIGN_OR_RETURN(auto next, open_part(path, folder.number(), name, path.substr(0, end), last));
    if (last) return {};
    folder = std::move(next);
    begin = end + 1;
  }
}

core::Status run_command(const std::vector<std::string>& argv, std::chrono::milliseconds time_limit) {
  if (argv.empty()) return core::fail(ErrorCode::kInvalidInput, "an empty command");
  PERSEUS_RETURN_IF_ERROR(check_command(argv[0]));
  PERSEUS_ASSIGN_OR_RETURN(const Child child, start(argv));
  std::string output;
  if (wait_for_end(child, Clock::now() + time_limit, output)) return verdict(argv, child.pid, output);
  ::kill(-child.pid, SIGKILL);  // and what it has started
  static_cast<void>(verdict(argv, child.pid, output));
  return core::fail(ErrorCode::kTimeout, fmt::format("the command {}: killed after {} ms; {}",
                                                     fmt::join(argv, " "), time_limit.count(), tidy(output)));
}

}  // namespace perseus::gpu
