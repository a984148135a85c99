// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/time_source.h"

#include <chrono>
#include <thread>

namespace perseus::gpu {
namespace {

class SteadyTime final : public TimeSource {
 public:
  core::Seconds now() override {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return core::Seconds(std::chrono::duration<double>(since).count());
  }
  void sleep(core::Seconds duration) override {
    std::this_thread::sleep_for(std::chrono::duration<double>(duration.value()));
  }
};

}  // namespace

TimeSource& steady_time() {
  static SteadyTime time;
  return time;
}

}  // namespace perseus::gpu
