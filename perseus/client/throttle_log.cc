// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/throttle_log.h"

#include <algorithm>

namespace perseus::client {

void ThrottleLog::add(const ReasonSample& sample) {
  ++samples_;
  if (sample.throttled) {
    ++throttled_;
    if (last_throttled_ && !stretches_.empty()) {
      stretches_.back().end_ns = sample.t_ns;
    } else {
      stretches_.push_back({last_ns_ == 0 ? sample.t_ns : last_ns_, sample.t_ns});
      if (stretches_.size() > kMost) stretches_.pop_front();
    }
  }
  last_throttled_ = sample.throttled;
  last_ns_ = sample.t_ns;
}

bool ThrottleLog::touches(std::uint64_t begin_ns, std::uint64_t end_ns) const {
  const auto first = std::lower_bound(stretches_.begin(), stretches_.end(), begin_ns,
                                      [](const Stretch& s, std::uint64_t t) { return s.end_ns < t; });
  return first != stretches_.end() && first->begin_ns <= end_ns;
}

double ThrottleLog::share() const {
  return samples_ == 0 ? 0.0 : static_cast<double>(throttled_) / static_cast<double>(samples_);
}

}  // namespace perseus::client
