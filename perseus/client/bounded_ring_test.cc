// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/bounded_ring.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace perseus::client {
namespace {

TEST(SpscRingTest, KeepsOrderAndRefusesWhenFull) {
  SpscRing<int> ring(3);  // rounded up to 4
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(i));
  EXPECT_FALSE(ring.push(4));
  EXPECT_EQ(ring.pop(), 0);
  EXPECT_TRUE(ring.push(4));
  for (int i = 1; i <= 4; ++i) EXPECT_EQ(ring.pop(), i);
  EXPECT_EQ(ring.pop(), std::nullopt);
}

TEST(SpscRingTest, CarriesEverythingBetweenThreads) {
  constexpr std::uint64_t kCount = 20'000;
  SpscRing<std::uint64_t> ring(1024);
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < kCount;) {
      if (ring.push(i)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  for (std::uint64_t expected = 0; expected < kCount;) {
    if (const auto value = ring.pop()) {
      ASSERT_EQ(*value, expected++);
    } else {
      std::this_thread::yield();
    }
  }
  producer.join();
}

TEST(MpscRingTest, KeepsOrderAndRefusesWhenFull) {
  MpscRing<int> ring(4);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(i));
    EXPECT_FALSE(ring.push(4));
    for (int i = 0; i < 4; ++i) EXPECT_EQ(ring.pop(), i);
    EXPECT_EQ(ring.pop(), std::nullopt);
  }
}

TEST(MpscRingTest, EachProducersValuesComeInTheirOrder) {
  constexpr std::uint64_t kCount = 20'000;
  constexpr std::uint64_t kProducers = 3;
  MpscRing<std::uint64_t> ring(1024);
  std::vector<std::thread> producers;
  for (std::uint64_t p = 0; p < kProducers; ++p) {
    producers.emplace_back([&ring, p] {
      for (std::uint64_t i = 0; i < kCount;) {
        if (ring.push(p << 32U | i)) {
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  std::vector<std::uint64_t> next(kProducers, 0);
  for (std::uint64_t got = 0; got < kCount * kProducers;) {
    const auto value = ring.pop();
    if (!value) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(*value & 0xffff'ffffU, next[*value >> 32U]++);
    ++got;
  }
  for (std::thread& producer : producers) producer.join();
}

}  // namespace
}  // namespace perseus::client
