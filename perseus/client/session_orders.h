// SPDX-License-Identifier: Apache-2.0
//
// What other threads order the hooks: mostly, to leave the clocks alone. One cache line that is written
// seldom, so that the hooks read it for nothing.
#pragma once

#include <atomic>
#include <cstdint>

#include "perseus/client/bounded_ring.h"

namespace perseus::client {

/// All functions may be called by any thread, and never wait.
class alignas(kCacheLine) SessionOrders {
 public:
  /// No more clocks in this step.
  void suspend(std::uint64_t step) { suspended_.store(step + 1, std::memory_order_release); }
  [[nodiscard]] bool suspended(std::uint64_t step) const {
    return suspended_.load(std::memory_order_acquire) == step + 1;
  }
  /// The same, for clocks of this or an earlier step that a stream gets to only now.
  [[nodiscard]] bool suspended_through(std::uint64_t step) const {
    return step < suspended_.load(std::memory_order_acquire);
  }
  /// No clocks of this generation any more.
  void ban(std::uint64_t generation) { banned_.store(generation, std::memory_order_relaxed); }
  [[nodiscard]] bool banned(std::uint64_t generation) const {
    return generation != 0 && banned_.load(std::memory_order_relaxed) == generation;
  }
  void refuse(bool refused) { refused_.store(refused, std::memory_order_relaxed); }
  [[nodiscard]] bool refused() const { return refused_.load(std::memory_order_relaxed); }
  /// The server was heard of.
  void contact(std::uint64_t now_ns) { contact_ns_.store(now_ns, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t contact_ns() const { return contact_ns_.load(std::memory_order_relaxed); }
  /// Whether a plan with this time to live (0: none) has outlived it.
  [[nodiscard]] bool expired(std::uint64_t now_ns, std::uint64_t ttl_ns) const {
    const std::uint64_t heard = contact_ns();
    return ttl_ns != 0 && now_ns > heard && now_ns - heard > ttl_ns;
  }

 private:
  std::atomic<std::uint64_t> suspended_{0};
  std::atomic<std::uint64_t> banned_{0};
  std::atomic<std::uint64_t> contact_ns_{0};
  std::atomic<bool> refused_{false};
};

}  // namespace perseus::client
