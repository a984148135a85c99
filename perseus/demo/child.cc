// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>

#include "perseus/format/files.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr std::size_t kLogEnd = 1200;  ///< bytes of a log that an error shows: about a screen. Assumed
constexpr std::size_t kMaxLog = std::size_t{64} << 20U;
constexpr std::chrono::milliseconds kLookAgain{2};  ///< whether a process has ended. Assumed
constexpr int kCannotExec = 127;                    ///< as shells have it

std::unexpected<core::Error> io_error(const std::string& what) {
  return core::fail(ErrorCode::kIo, fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

/// argv or envp: pointers into strings that outlive them.
std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> whole_environment(const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    bool replaced = false;
    for (const auto& [key, value] : more) replaced = replaced || key == name;
    if (!replaced) all.emplace_back(text);
  }
  for (const auto& [key, value] : more) all.push_back(fmt::format("{}={}", key, value));
  return all;
}

/// In the child, between fork and exec: system calls only.
[[noreturn]] void become(const char* program, char* const* argv, char* const* envp, int out, int log,
                         pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
  if (::getppid() != parent) ::_exit(kCannotExec);  // it died before the line above
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execve(program, argv, envp);
  static constexpr std::string_view kSorry = "cannot be executed\n";
  static_cast<void>(!::write(STDERR_FILENO, kSorry.data(), kSorry.size()));
  ::_exit(kCannotExec);
}

}  // namespace

Child::Child(ChildOptions options, pid_t pid, format::UniqueFd out)
    : name_(std::move(options.name)), log_(std::move(options.log)), pid_(pid), out_(std::move(out)) {}

Child::Child(Child&& other) noexcept
    : name_(std::move(other.name_)),
      log_(std::move(other.log_)),
      pid_(std::exchange(other.pid_, 0)),
      status_(other.status_),
      out_(std::move(other.out_)),
      rest_(std::move(other.rest_)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this == &other) return *this;
  end();
  name_ = std::move(other.name_);
  log_ = std::move(other.log_);
  pid_ = std::exchange(other.pid_, 0);
  status_ = other.status_;
  out_ = std::move(other.out_);
  rest_ = std::move(other.rest_);
  return *this;
}

Child::~Child() {
  end();
}

void Child::end() {
  if (pid_ == 0 || ended()) return;
  signal(SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = status;
}

core::Result<Child> Child::start(ChildOptions options) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return io_error("cannot make a pipe");
  format::UniqueFd out(pipe[0]);
  format::UniqueFd write_end(pipe[1]);
  ::fcntl(out.get(), F_SETFL, O_NONBLOCK);
  const format::UniqueFd log(
      ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!log) return io_error("cannot open " + options.log);
  std::vector<std::string> environment = whole_environment(options.environment);
  const std::vector<char*> argv = pointers(options.arguments);
  const std::vector<char*> envp = pointers(environment);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return io_error("cannot start " + options.name);
  if (pid == 0) become(argv[0], argv.data(), envp.data(), write_end.get(), log.get(), parent);
  return Child(std::move(options), pid, std::move(out));
}

void Child::read_lines(const std::function<void(const std::string&)>& line) {
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = ::read(out_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    rest_.append(buffer.data(), static_cast<std::size_t>(got));
  }
  std::size_t begin = 0;
  for (std::size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
    line(rest_.substr(begin, end - begin));
    begin = end + 1;
  }
  rest_.erase(0, begin);
}

std::optional<int> Child::ended() {
  int status = 0;
  if (!status_ && pid_ != 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
  return status_;
}

void Child::signal(int number) const {
  if (pid_ != 0 && !status_) ::kill(pid_, number);
}

bool Child::stop(std::chrono::milliseconds patience) {
  if (!ended()) signal(SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!ended() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(kLookAgain);
  end();
  return status_ && WIFEXITED(*status_) && WEXITSTATUS(*status_) == 0;
}

std::string Child::obituary() {
  const auto status = ended();
  std::string how = "still runs";
  if (status && WIFSIGNALED(*status)) {
    how = fmt::format("was killed by signal {} ({})", WTERMSIG(*status), ::sigdescr_np(WTERMSIG(*status)));
  } else if (status) {
    how = fmt::format("ended with exit code {}", WEXITSTATUS(*status));
  }
  return fmt::format("{} {}; the end of its log:\n{}", name_, how, end_of_file(log_, kLogEnd));
}

std::string end_of_file(const std::string& path, std::size_t bytes) {
  const auto text = format::read_file(path, kMaxLog);
  if (!text) return "(" + text.error().text() + ")";
  if (text->empty()) return "(it is empty)";
  if (text->size() <= bytes) return *text;
  const std::size_t cut = text->size() - bytes;
  const std::size_t line = text->find('\n', cut);
  return text->substr(line == std::string::npos || line + 1 == text->size() ? cut : line + 1);
}

}  // namespace perseus::demo
