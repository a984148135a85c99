// SPDX-License-Identifier: Apache-2.0
//
// Where a command writes. Standard output carries results only (with --json exactly one JSON value);
// warnings, errors and progress go to standard error.
#pragma once

#include <iosfwd>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::cli {

/// The two streams of a command and whether a person watches the second one. Not thread-safe.
struct Io {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;  ///< progress is shown only then

  /// One line "perseus: warning: ..." each; after 10 of them only their number.
  void warn(const std::vector<core::Warning>& warnings) const;
  /// Draws one line of progress over the last one; nothing unless err is a terminal.
  void progress(double share, std::string_view what) const;
  /// Wipes the progress line.
  void progress_done() const;
};

/// Whether `-o PATH` means standard output: nothing, or "-" as other programs have it.
[[nodiscard]] inline bool is_standard_output(std::string_view path) {
  return path.empty() || path == "-";
}

}  // namespace perseus::cli
