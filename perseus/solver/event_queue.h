// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: which arc reaches a point of its curve next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace perseus::solver {

/// At most one event per arc, the earliest first; an arc's event can be moved. A heap that knows where each
/// arc is, with four children to a place: they fill one cache line.
class EventQueue {
 public:
  struct Event {
    std::int64_t clock = 0;
    std::uint32_t arc = 0;
  };

  explicit EventQueue(std::size_t arcs) : place_(arcs, kNowhere) {}

  [[nodiscard]] bool empty() const { return heap_.empty(); }
  /// The earliest event; the queue must not be empty.
  [[nodiscard]] const Event& front() const { return heap_.front(); }

  /// Gives the arc an event at `clock` in place of the one it may have.
  void set(std::uint32_t arc, std::int64_t clock) {
    std::uint32_t at = place_[arc];
    if (at == kNowhere) {
      at = static_cast<std::uint32_t>(heap_.size());
      heap_.emplace_back();
    } else if (heap_[at].clock == clock) {
      return;
    }
    settle(at, {clock, arc});
  }

  void erase(std::uint32_t arc) {
    const std::uint32_t at = place_[arc];
    if (at == kNowhere) return;
    place_[arc] = kNowhere;
    const Event last = heap_.back();
    heap_.pop_back();
    if (at < heap_.size()) settle(at, last);
  }

 private:
  static constexpr std::uint32_t kNowhere = 0xffffffff;
  static constexpr std::uint32_t kChildren = 4;

  /// Puts an event where it belongs, starting from a free place.
  void settle(std::uint32_t at, Event event) {
    while (at > 0) {
      const std::uint32_t parent = (at - 1) / kChildren;
      if (event.clock >= heap_[parent].clock) break;
      put(at, heap_[parent]);
      at = parent;
    }
    const auto size = static_cast<std::uint32_t>(heap_.size());
    for (std::uint32_t child = kChildren * at + 1; child < size; child = kChildren * at + 1) {
      const std::uint32_t end = std::min(child + kChildren, size);
      std::uint32_t least = child;
      std::int64_t clock = heap_[child].clock;
      for (++child; child < end; ++child) {
        least = heap_[child].clock < clock ? child : least;
        clock = std::min(clock, heap_[child].clock);
      }
      if (event.clock <= clock) break;
      put(at, heap_[least]);
      at = least;
    }
    put(at, event);
  }

  void put(std::uint32_t at, Event event) {
    heap_[at] = event;
    place_[event.arc] = at;
  }

  std::vector<Event> heap_;
  std::vector<std::uint32_t> place_;  ///< per arc
};

}  // namespace perseus::solver
