// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/io.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

namespace perseus::cli {
namespace {

constexpr std::size_t kMostWarnings = 10;
constexpr int kBarWidth = 30;

}  // namespace

void Io::warn(const std::vector<core::Warning>& warnings) const {
  const std::size_t shown = std::min(warnings.size(), kMostWarnings);
  for (std::size_t i = 0; i < shown; ++i) err << "perseus: warning: " << warnings[i].text() << '\n';
  if (shown < warnings.size()) {
    err << fmt::format("perseus: warning: {} more of the kind are in the report\n", warnings.size() - shown);
  }
}

void Io::progress(double share, std::string_view what) const {
  if (!err_is_terminal) return;
  const double clamped = std::clamp(share, 0.0, 1.0);
  const auto filled = static_cast<int>(clamped * kBarWidth);
  err << fmt::format("\r\033[K[{:=<{}}{: <{}}] {:3.0f} % {}", "", filled, "", kBarWidth - filled,
                     100 * clamped, what);
  err.flush();
}

void Io::progress_done() const {
  if (!err_is_terminal) return;
  err << "\r\033[K";
  err.flush();
}

}  // namespace perseus::cli
