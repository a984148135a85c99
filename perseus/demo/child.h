// SPDX-License-Identifier: Apache-2.0
//
// A process that the demo runs: its lines, its log, and an end that nobody forgets.
//
//   PERSEUS_ASSIGN_OR_RETURN(Child agent, Child::start({.name = "agent", .arguments = {...}, .log =
//   "agent.log"})); if (auto status = agent.ended()) return fail(agent.obituary());
//   agent.stop(std::chrono::seconds(5));
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/unique_fd.h"

namespace perseus::demo {

struct ChildOptions {
  std::string name;                                              ///< for messages: "rank 0.3"
  std::vector<std::string> arguments;                            ///< the first one is the program's path
  std::vector<std::pair<std::string, std::string>> environment;  ///< on top of this process's own
  std::string log;  ///< file that its standard error is appended to
};

/// One child process in a process group of its own, so that what the terminal sends (Ctrl-C) reaches the demo
/// alone, which then ends its children in order. If the demo itself is killed, the kernel sends each SIGTERM.
/// Belongs to the thread that started it.
class Child {
 public:
  /// kIo if it cannot be started.
  [[nodiscard]] static core::Result<Child> start(ChildOptions options);

  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  /// SIGKILL if it still runs: whoever wants an orderly end calls stop().
  ~Child();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Its standard output, non-blocking, for poll().
  [[nodiscard]] int out_fd() const { return out_.get(); }
  /// Calls `line` for each whole line that has come.
  void read_lines(const std::function<void(const std::string&)>& line);

  /// The wait status once it has ended.
  [[nodiscard]] std::optional<int> ended();
  void signal(int number) const;
  /// SIGTERM, then after `patience` SIGKILL; waits for the end. True if it ended by itself with exit code 0.
  bool stop(std::chrono::milliseconds patience);
  /// "rank 0.3 ended with exit code 3; the end of its log:\n...".
  [[nodiscard]] std::string obituary();

 private:
  Child(ChildOptions options, pid_t pid, format::UniqueFd out);
  void end();

  std::string name_, log_;
  pid_t pid_ = 0;  ///< 0: moved from
  std::optional<int> status_;
  format::UniqueFd out_;
  std::string rest_;  ///< of a line that is not whole
};

/// The last lines of a text file, at most `bytes` of them; what stands in for it if it cannot be read.
[[nodiscard]] std::string end_of_file(const std::string& path, std::size_t bytes);

}  // namespace perseus::demo
