// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/cuda_driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace perseus::client {
namespace {

using core::ErrorCode;

/// Gives `function` the symbol's address; false: there is none.
template <class Function>
bool find(void* library, const char* name, Function& function) {
  void* const symbol = ::dlsym(library, name);
  function = reinterpret_cast<Function>(symbol);
  return symbol != nullptr;
}

std::string last_error() {
  const char* text = ::dlerror();  // NOLINT(concurrency-mt-unsafe): of this thread with glibc
  return text == nullptr ? "unknown reason" : text;
}

}  // namespace

core::Result<std::shared_ptr<const CudaDriver>> CudaDriver::load(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return core::fail(ErrorCode::kNotFound, fmt::format("no CUDA driver: {}", last_error()));
  }
  const std::shared_ptr<CudaDriver> out(new CudaDriver(handle));
  CudaDriver& d = *out;
  const char* missing = nullptr;
  const auto need = [&](const char* name, auto& function) {
    if (!find(handle, name, function) && missing == nullptr) missing = name;
  };
  need("cuStreamGetCtx", d.stream_get_context);
  need("cuStreamCreate", d.stream_create);
  need("cuStreamQuery", d.stream_query);
  need("cuStreamDestroy_v2", d.stream_destroy);
  need("cuCtxPushCurrent_v2", d.context_push);
  need("cuCtxPopCurrent_v2", d.context_pop);
  need("cuCtxGetDevice", d.context_get_device);
  need("cuDeviceGetAttribute", d.device_get_attribute);
  need("cuMemHostAlloc", d.host_alloc);
  need("cuMemHostGetDevicePointer_v2", d.host_get_device_pointer);
  need("cuMemFreeHost", d.host_free);
  need("cuEventCreate", d.event_create);
  need("cuEventDestroy_v2", d.event_destroy);
  need("cuEventRecord", d.event_record);
  need("cuEventQuery", d.event_query);
  need("cuEventElapsedTime", d.event_elapsed_ms);
  need("cuGetErrorName", d.error_name);
  if (missing != nullptr) {
    return core::fail(ErrorCode::kUnsupported,
                      fmt::format("the CUDA driver {} has no function {}", library, missing));
  }
  d.stream_write_version_2 = find(handle, "cuStreamWriteValue32_v2", d.stream_write_value);
  if (!d.stream_write_version_2) find(handle, "cuStreamWriteValue32", d.stream_write_value);
  return std::shared_ptr<const CudaDriver>(out);
}

CudaDriver::~CudaDriver() {
  ::dlclose(library_);
}

std::string CudaDriver::name_of(CudaResult result) const {
  const char* name = nullptr;
  if (error_name(result, &name) == kCudaSuccess && name != nullptr) return name;
  return fmt::format("error {}", result);
}

}  // namespace perseus::client
