// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>

namespace perseus::client {
namespace {

std::atomic<std::uint32_t> generation{0};
/// Descriptors plus one; 0: free. Plain atomics, since the handler may use nothing that takes a lock.
std::array<std::atomic<int>, kMostGuarded> sockets{};

void in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  for (auto& slot : sockets) {
    if (const int fd = slot.exchange(0); fd > 0) ::close(fd - 1);
  }
}

/// Registers the handler once.
bool install() {
  static const bool kInstalled = ::pthread_atfork(nullptr, nullptr, in_child) == 0;
  return kInstalled;
}

}  // namespace

bool watch_forks() {
  return install();
}

std::uint32_t fork_generation() {
  return generation.load(std::memory_order_relaxed);
}

void close_in_children(int fd) {
  if (!install()) return;
  for (auto& slot : sockets) {
    int free = 0;
    if (slot.compare_exchange_strong(free, fd + 1)) return;
  }
}

void keep_in_children(int fd) {
  for (auto& slot : sockets) {
    int taken = fd + 1;
    if (slot.compare_exchange_strong(taken, 0)) return;
  }
}

}  // namespace perseus::client
