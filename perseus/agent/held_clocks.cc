// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/held_clocks.h"

#include <algorithm>
#include <limits>

namespace perseus::agent {
namespace {

constexpr unsigned kClockBits = 16;
constexpr std::uint64_t kClockMask = (std::uint64_t{1} << kClockBits) - 1;

std::int64_t to_us(lease::Instant at) {
  return std::chrono::floor<std::chrono::microseconds>(at.time_since_epoch()).count();
}

std::uint32_t clock_of(std::uint64_t word) {
  return static_cast<std::uint32_t>(word & kClockMask);
}

std::int64_t time_of(std::uint64_t word) {
  return static_cast<std::int64_t>(word >> kClockBits);
}

}  // namespace

void HeldClocks::put(std::optional<core::Megahertz> clock, lease::Instant at) {
  const std::uint64_t count = count_.load(std::memory_order_relaxed);
  const std::uint64_t mhz = clock ? clock->value() & kClockMask : 0;
  const std::uint64_t last = count == 0 ? 0 : ring_[(count - 1) % kKept].load(std::memory_order_relaxed);
  if (clock_of(last) == mhz) return;
  const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(to_us(at), 0));
  // Release: who sees this word where an older one was also sees the count of before (range() relies on it).
  ring_[count % kKept].store((us << kClockBits) | mhz, std::memory_order_release);
  count_.store(count + 1, std::memory_order_release);
}

std::optional<HeldRange> HeldClocks::range(lease::Instant at, lease::Duration settle) const {
  const std::uint64_t count = count_.load(std::memory_order_acquire);
  const std::int64_t begin = to_us(at - settle);
  std::uint32_t least = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t most = 0;
  // From the newest back to the one that was in force when the window began.
  const std::uint64_t oldest = count > kKept ? count - kKept : 0;
  for (std::uint64_t i = count; i > oldest; --i) {
    const std::uint64_t word = ring_[(i - 1) % kKept].load(std::memory_order_acquire);
    if (clock_of(word) == 0) return std::nullopt;
    least = std::min(least, clock_of(word));
    most = std::max(most, clock_of(word));
    if (time_of(word) > begin) continue;
    // What was read may have been overwritten meanwhile, if the writer went once around.
    if (count_.load(std::memory_order_relaxed) >= i - 1 + kKept) return std::nullopt;
    const bool one = i == count;
    return HeldRange{core::Megahertz(least), core::Megahertz(most),
                     one ? std::optional(count) : std::nullopt};
  }
  return std::nullopt;  // before the first change: the baseline
}

}  // namespace perseus::agent
