// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: which arc reaches a point of its curve next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace perseus::solver {

/// At most one event per arc; an arc's event can be moved and erased in a few nanoseconds. The walk changes
/// many events from one instant to the next (a part of the pipeline changes sides, and with it every arc at
/// its edge) and asks for the earliest once: events stand unsorted, in blocks, each of which knows its
/// earliest one unless it has changed since. With few events that is one short pass, with many a pass over
/// the blocks.
class EventQueue {
 public:
  explicit EventQueue(std::size_t arcs) : place_(arcs, kNowhere) {}

  [[nodiscard]] bool empty() const { return arc_.empty(); }

  /// The clock of the earliest event; there must be one.
  [[nodiscard]] std::int64_t next() {
    std::int64_t least = kNever;
    for (std::size_t block = 0; block < least_.size(); ++block) {
      if (least_[block] == kUnknown) least_[block] = least_of(block);
      least = std::min(least, least_[block]);
    }
    return least;
  }

  /// Erases all events at `clock`, which must be next(), and appends their arcs.
  void take(std::int64_t clock, std::vector<std::uint32_t>& arcs) {
    for (std::size_t block = least_.size(); block-- > 0;) {
      // From the back: what takes an erased event's place has been looked at.
      if (block >= least_.size() || least_[block] > clock) continue;
      for (std::size_t at = std::min(clock_.size(), (block + 1) * kBlock); at-- > block * kBlock;) {
        if (clock_[at] != clock) continue;
        arcs.push_back(arc_[at]);
        erase(arc_[at]);
      }
    }
  }

  /// Gives the arc an event at `clock` in place of the one it may have.
  void set(std::uint32_t arc, std::int64_t clock) {
    std::uint32_t at = place_[arc];
    if (at == kNowhere) {
      at = static_cast<std::uint32_t>(arc_.size());
      if (at % kBlock == 0) least_.push_back(kNever);
      arc_.push_back(arc);
      clock_.push_back(kNever);
      place_[arc] = at;
    }
    put(at, clock);
  }

  void erase(std::uint32_t arc) {
    const std::uint32_t at = place_[arc];
    if (at == kNowhere) return;
    place_[arc] = kNowhere;
    const auto last = static_cast<std::uint32_t>(arc_.size() - 1);
    if (at != last) {
      arc_[at] = arc_[last];
      place_[arc_[at]] = at;
      put(at, clock_[last]);
    }
    if (least_[last / kBlock] == clock_[last]) least_[last / kBlock] = kUnknown;
    arc_.pop_back();
    clock_.pop_back();
    if (last % kBlock == 0) least_.pop_back();
  }

 private:
  static constexpr std::uint32_t kNowhere = 0xffffffff;
  /// Events to a block: 512 bytes of clocks. Measured on 16 x 128 and 64 x 128: 32 to 128 are alike.
  static constexpr std::size_t kBlock = 64;
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  static constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::min();

  void put(std::uint32_t at, std::int64_t clock) {
    std::int64_t& least = least_[at / kBlock];
    if (clock <= least) {
      least = clock;
    } else if (clock_[at] == least) {
      least = kUnknown;
    }
    clock_[at] = clock;
  }

  [[nodiscard]] std::int64_t least_of(std::size_t block) const {
    const std::size_t end = std::min(clock_.size(), (block + 1) * kBlock);
    std::int64_t least = kNever;
    for (std::size_t at = block * kBlock; at < end; ++at) least = std::min(least, clock_[at]);
    return least;
  }

  std::vector<std::int64_t> clock_;   ///< per event
  std::vector<std::uint32_t> arc_;    ///< per event
  std::vector<std::int64_t> least_;   ///< per block of events; kUnknown: it has changed since
  std::vector<std::uint32_t> place_;  ///< per arc
};

}  // namespace perseus::solver
