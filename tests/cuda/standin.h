// SPDX-License-Identifier: Apache-2.0
//
// A library with the CUDA driver's binary interface, as far as stream-ordered triggers use it, whose streams
// get through their work only when a test says so. It is built in three ages:
//
//   current  cuStreamWriteValue32_v2
//   old      cuStreamWriteValue32 alone, which the device attribute must allow
//   ancient  no stream-ordered writes
//
//   CudaStandin& cuda = ...dlsym("cuda_standin")();
//   cuda.work(stream, 5);       // the test's own kernel of 5 ms
//   cuda.advance(stream, 2);    // the stream gets through its next two items
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace perseus::tests {

struct StandinEvent {
  bool recorded = false;  ///< it is queued, or was
  bool reached = false;
  double at_ms = 0;
};

struct StandinStream {
  struct Item {
    double work_ms = 0;
    StandinEvent* event = nullptr;
    std::uint32_t* word = nullptr;
    std::uint32_t value = 0;
  };
  std::deque<Item> items;
  double now_ms = 0;
  bool eager = false;  ///< gets through everything at once: streams that are created by cuStreamCreate
};

/// Guarded by `mutex`, which each function of the library holds while it works.
struct CudaStandin {
  std::mutex mutex;
  std::map<std::string, int> failures;  ///< by function: what it answers
  std::map<std::string, int> calls;
  int memory_operations = 1;     ///< CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS
  bool writes_get_lost = false;  ///< they answer success and nothing comes
  StandinStream stream;          ///< the test's: its address is the CUstream
  int context = 0;               ///< its address is the CUcontext
  std::vector<void*> pushed;     ///< contexts
  std::vector<std::unique_ptr<StandinEvent>> events;
  std::size_t events_alive = 0;
  std::size_t streams_alive = 0;
  std::size_t host_blocks = 0;

  void work(double ms) {
    const std::lock_guard lock(mutex);
    stream.items.push_back({.work_ms = ms});
  }
  void advance(std::size_t items) {
    const std::lock_guard lock(mutex);
    for (; items > 0 && !stream.items.empty(); --items) do_next(stream);
  }
  void finish() { advance(stream.items.size()); }

  void do_next(StandinStream& s) const {
    const StandinStream::Item item = s.items.front();
    s.items.pop_front();
    s.now_ms += item.work_ms;
    if (item.event != nullptr) {
      item.event->reached = true;
      item.event->at_ms = s.now_ms;
    }
    if (item.word != nullptr && !writes_get_lost) __atomic_store_n(item.word, item.value, __ATOMIC_RELEASE);
  }
};

/// The name of the function in the library that gives the state: `CudaStandin* cuda_standin()`.
inline constexpr const char* kCudaStandinFunction = "cuda_standin";

}  // namespace perseus::tests
