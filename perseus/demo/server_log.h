// SPDX-License-Identifier: Apache-2.0
//
// What the server's log tells of stragglers: which came when, and when the plan for it was there.
//
//   PERSEUS_ASSIGN_OR_RETURN(Replan replan, last_replan("/tmp/perseus-demo-1/server.log"));
#pragma once

#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::demo {

struct Replan {
  double milliseconds = 0;  ///< from the notice to the deployment of the plan that it led to
  std::string cause;        ///< as the notice says
  bool announced = false;   ///< by somebody from outside; false: the server found it itself
};

/// Of the last plan that was deployed because of a straggler. kNotFound if there is none. `text`: whole
/// lines.
[[nodiscard]] core::Result<Replan> last_replan_in(std::string_view text);
/// The same from a file.
[[nodiscard]] core::Result<Replan> last_replan(const std::string& path);

}  // namespace perseus::demo
