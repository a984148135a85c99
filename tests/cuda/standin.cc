// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/standin.h"

#include <cstdlib>

using perseus::tests::CudaStandin;
using perseus::tests::StandinEvent;
using perseus::tests::StandinStream;

extern "C" CudaStandin* cuda_standin() {
  static CudaStandin state;
  return &state;
}

namespace {

// Numbers of cuda.h.
constexpr int kSuccess = 0;
constexpr int kInvalidValue = 1;
constexpr int kNotReady = 600;
constexpr int kMemOps = 92;

/// The frame of every function: notes the call, fails if it is to.
template <class Work>
int call(const char* function, Work&& work) {
  CudaStandin& s = *cuda_standin();
  const std::lock_guard lock(s.mutex);
  ++s.calls[function];
  if (const auto failure = s.failures.find(function); failure != s.failures.end()) return failure->second;
  return work(s);
}

StandinStream& stream_of(void* handle) {
  return *static_cast<StandinStream*>(handle);
}

int enqueue(CudaStandin& s, void* handle, const StandinStream::Item& item) {
  StandinStream& stream = stream_of(handle);
  stream.items.push_back(item);
  while (stream.eager && !stream.items.empty()) s.do_next(stream);
  return kSuccess;
}

[[maybe_unused]] int write_value(const char* function, void* stream, unsigned long long address,
                                 std::uint32_t value, unsigned flags) {
  return call(function, [&](CudaStandin& s) {
    if (flags != 0) return kInvalidValue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): a device address is a number in CUDA's interface
    auto* word = reinterpret_cast<std::uint32_t*>(static_cast<std::uintptr_t>(address));
    return enqueue(s, stream, {.word = word, .value = value});
  });
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's
extern "C" {

int cuStreamGetCtx(void*, void** context) {
  return call("cuStreamGetCtx", [&](CudaStandin& s) {
    *context = &s.context;
    return kSuccess;
  });
}
int cuStreamCreate(void** stream, unsigned flags) {
  return call("cuStreamCreate", [&](CudaStandin& s) {
    if (flags != 1) return kInvalidValue;
    ++s.streams_alive;
    auto* made = new StandinStream;
    made->eager = true;
    *stream = made;
    return kSuccess;
  });
}
int cuStreamQuery(void* stream) {
  return call("cuStreamQuery",
              [&](CudaStandin&) { return stream_of(stream).items.empty() ? kSuccess : kNotReady; });
}
int cuStreamDestroy_v2(void* stream) {
  return call("cuStreamDestroy", [&](CudaStandin& s) {
    --s.streams_alive;
    delete &stream_of(stream);
    return kSuccess;
  });
}
int cuCtxPushCurrent_v2(void* context) {
  return call("cuCtxPushCurrent", [&](CudaStandin& s) {
    s.pushed.push_back(context);
    return kSuccess;
  });
}
int cuCtxPopCurrent_v2(void** context) {
  return call("cuCtxPopCurrent", [&](CudaStandin& s) {
    *context = s.pushed.back();
    s.pushed.pop_back();
    return kSuccess;
  });
}
int cuCtxGetDevice(int* device) {
  return call("cuCtxGetDevice", [&](CudaStandin&) {
    *device = 0;
    return kSuccess;
  });
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  return call("cuDeviceGetAttribute", [&](CudaStandin& s) {
    if (attribute != kMemOps) return kInvalidValue;
    *value = s.memory_operations;
    return kSuccess;
  });
}
int cuMemHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  return call("cuMemHostAlloc", [&](CudaStandin& s) {
    if (flags != 2) return kInvalidValue;
    ++s.host_blocks;
    *memory = std::aligned_alloc(4096, bytes);
    return kSuccess;
  });
}
int cuMemHostGetDevicePointer_v2(unsigned long long* address, void* memory, unsigned) {
  return call("cuMemHostGetDevicePointer", [&](CudaStandin&) {
    *address = reinterpret_cast<std::uintptr_t>(memory);
    return kSuccess;
  });
}
int cuMemFreeHost(void* memory) {
  return call("cuMemFreeHost", [&](CudaStandin& s) {
    --s.host_blocks;
    std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc): the counterpart of aligned_alloc
    return kSuccess;
  });
}
int cuEventCreate(void** event, unsigned flags) {
  return call("cuEventCreate", [&](CudaStandin& s) {
    if (flags != 0) return kInvalidValue;
    s.events.push_back(std::make_unique<StandinEvent>());
    ++s.events_alive;
    *event = s.events.back().get();
    return kSuccess;
  });
}
int cuEventDestroy_v2(void*) {
  return call("cuEventDestroy", [&](CudaStandin& s) {
    --s.events_alive;
    return kSuccess;
  });
}
int cuEventRecord(void* event, void* stream) {
  return call("cuEventRecord", [&](CudaStandin& s) {
    auto* e = static_cast<StandinEvent*>(event);
    *e = {.recorded = true};
    return enqueue(s, stream, {.event = e});
  });
}
int cuEventQuery(void* event) {
  return call("cuEventQuery", [&](CudaStandin&) {
    const auto* e = static_cast<StandinEvent*>(event);
    return e->recorded && !e->reached ? kNotReady : kSuccess;
  });
}
int cuEventElapsedTime(float* ms, void* begin, void* end) {
  return call("cuEventElapsedTime", [&](CudaStandin&) {
    const auto* b = static_cast<StandinEvent*>(begin);
    const auto* e = static_cast<StandinEvent*>(end);
    if (!b->recorded || !e->recorded) return kInvalidValue;
    if (!b->reached || !e->reached) return kNotReady;
    *ms = static_cast<float>(e->at_ms - b->at_ms);
    return kSuccess;
  });
}
int cuGetErrorName(int error, const char** name) {
  return call("cuGetErrorName", [&](CudaStandin&) {
    if (error != kInvalidValue) return kInvalidValue;
    *name = "CUDA_ERROR_INVALID_VALUE";
    return kSuccess;
  });
}
#ifndef STANDIN_ANCIENT
int cuStreamWriteValue32(void* stream, unsigned long long address, std::uint32_t value, unsigned flags) {
  return write_value("cuStreamWriteValue32", stream, address, value, flags);
}
#endif
#ifdef STANDIN_CURRENT
int cuStreamWriteValue32_v2(void* stream, unsigned long long address, std::uint32_t value, unsigned flags) {
  return write_value("cuStreamWriteValue32_v2", stream, address, value, flags);
}
#endif

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
