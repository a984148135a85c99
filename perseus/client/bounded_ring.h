// SPDX-License-Identifier: Apache-2.0
//
// Bounded queues between threads that never wait for each other. Values are copied; nothing is allocated
// after construction; a full queue refuses.
//
//   SpscRing<Record> ring(1024);     // one thread pushes, one pops
//   MpscRing<ClockPost> posts(1024); // several push, one pops
//   if (!ring.push(record)) ++dropped;
//   while (auto record = ring.pop()) ...;
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

namespace perseus::client {

/// Of the processors that Perseus runs on (x86-64, and most of AArch64).
inline constexpr std::size_t kCacheLine = 64;

/// One producer, one consumer. The producer's and the consumer's state lie in cache lines of their own, and
/// each remembers where it saw the other, so that a push mostly touches no line of the other.
template <class T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Room for at least `capacity` values (rounded up to a power of two).
  explicit SpscRing(std::size_t capacity) : slots_(std::bit_ceil(capacity)), mask_(slots_.size() - 1) {}

  /// Of the producer. False: full.
  bool push(const T& value) {
    const std::size_t tail = producer_.own.load(std::memory_order_relaxed);
    if (tail - producer_.other == slots_.size()) {
      producer_.other = consumer_.own.load(std::memory_order_acquire);
      if (tail - producer_.other == slots_.size()) return false;
    }
    slots_[tail & mask_] = value;
    producer_.own.store(tail + 1, std::memory_order_release);
    return true;
  }
  /// Of the consumer.
  std::optional<T> pop() {
    const std::size_t head = consumer_.own.load(std::memory_order_relaxed);
    if (head == consumer_.other) {
      consumer_.other = producer_.own.load(std::memory_order_acquire);
      if (head == consumer_.other) return std::nullopt;
    }
    const T value = slots_[head & mask_];
    consumer_.own.store(head + 1, std::memory_order_release);
    return value;
  }

 private:
  struct alignas(kCacheLine) Side {
    std::atomic<std::size_t> own{0};
    std::size_t other = 0;  ///< where the other side was when last looked at
  };
  std::vector<T> slots_;
  std::size_t mask_;
  Side producer_;
  Side consumer_;
};

/// Several producers, one consumer. Each slot carries the turn at which it may be written or read.
template <class T>
class MpscRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit MpscRing(std::size_t capacity) : slots_(std::bit_ceil(capacity)), mask_(slots_.size() - 1) {
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  /// Of any thread. False: full.
  bool push(const T& value) {
    std::size_t ticket = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Slot& slot = slots_[ticket & mask_];
      const std::size_t turn = slot.turn.load(std::memory_order_acquire);
      if (turn == ticket) {
        if (!tail_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_relaxed)) continue;
        slot.value = value;
        slot.turn.store(ticket + 1, std::memory_order_release);
        return true;
      }
      if (turn < ticket) return false;
      ticket = tail_.load(std::memory_order_relaxed);
    }
  }
  /// Of the consumer.
  std::optional<T> pop() {
    Slot& slot = slots_[head_ & mask_];
    if (slot.turn.load(std::memory_order_acquire) != head_ + 1) return std::nullopt;
    const T value = slot.value;
    slot.turn.store(head_ + slots_.size(), std::memory_order_release);
    ++head_;
    return value;
  }

 private:
  struct Slot {
    std::atomic<std::size_t> turn{0};
    T value{};
  };
  std::vector<Slot> slots_;
  std::size_t mask_;
  alignas(kCacheLine) std::atomic<std::size_t> tail_{0};
  alignas(kCacheLine) std::size_t head_ = 0;
};

}  // namespace perseus::client
