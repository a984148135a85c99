// SPDX-License-Identifier: Apache-2.0
//
// The part of NVIDIA's CUDA driver interface that stream-ordered triggers use, loaded at run time: nothing
// links against CUDA, and the library that the training process has loaded already is the one that is used.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto cuda, CudaDriver::load());
//   CudaResult result = cuda->event_record(event, stream);
//
// Names, types and numbers are those of cuda.h (CUDA Toolkit 12 and 13). Where cuda.h maps a name to another
// version (cuEventDestroy to cuEventDestroy_v2), that one is looked up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "perseus/core/result.h"

namespace perseus::client {

using CudaResult = int;                  ///< CUresult
using CudaStream = void*;                ///< CUstream
using CudaEvent = void*;                 ///< CUevent
using CudaContext = void*;               ///< CUcontext
using CudaDevice = int;                  ///< CUdevice
using CudaAddress = unsigned long long;  ///< CUdeviceptr of a 64-bit process

// Numbers of cuda.h.
inline constexpr CudaResult kCudaSuccess = 0;     ///< CUDA_SUCCESS
inline constexpr CudaResult kCudaNotReady = 600;  ///< CUDA_ERROR_NOT_READY
/// CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS (CUDA 12: ..._V1). What it says counts for the first version of
/// the functions, which the driver's module switches on (NVreg_EnableStreamMemOPs); the second has no switch.
inline constexpr int kCudaStreamMemOps = 92;
inline constexpr unsigned kCudaHostDeviceMap = 2;      ///< CU_MEMHOSTALLOC_DEVICEMAP
inline constexpr unsigned kCudaStreamNonBlocking = 1;  ///< CU_STREAM_NON_BLOCKING
/// CU_STREAM_WRITE_VALUE_DEFAULT: with a memory barrier. Doing without is not for version 2.
inline constexpr unsigned kCudaWriteDefault = 0;
inline constexpr unsigned kCudaEventDefault = 0;  ///< CU_EVENT_DEFAULT: events that take times

/// Functions of the driver. All may be called by any thread on which a context is current. Immutable.
class CudaDriver {
 public:
  static constexpr const char* kLibrary = "libcuda.so.1";

  /// kNotFound: no such library; kUnsupported: it lacks a function that every driver since CUDA 9.2 has.
  [[nodiscard]] static core::Result<std::shared_ptr<const CudaDriver>> load(
      const std::string& library = kLibrary);
  CudaDriver(const CudaDriver&) = delete;
  CudaDriver& operator=(const CudaDriver&) = delete;
  ~CudaDriver();

  CudaResult (*stream_get_context)(CudaStream, CudaContext*) = nullptr;
  CudaResult (*stream_create)(CudaStream*, unsigned flags) = nullptr;
  CudaResult (*stream_query)(CudaStream) = nullptr;
  CudaResult (*stream_destroy)(CudaStream) = nullptr;
  CudaResult (*context_push)(CudaContext) = nullptr;
  CudaResult (*context_pop)(CudaContext*) = nullptr;
  CudaResult (*context_get_device)(CudaDevice*) = nullptr;
  CudaResult (*device_get_attribute)(int*, int attribute, CudaDevice) = nullptr;
  CudaResult (*host_alloc)(void**, std::size_t, unsigned flags) = nullptr;
  CudaResult (*host_get_device_pointer)(CudaAddress*, void*, unsigned flags) = nullptr;
  CudaResult (*host_free)(void*) = nullptr;
  CudaResult (*event_create)(CudaEvent*, unsigned flags) = nullptr;
  CudaResult (*event_destroy)(CudaEvent) = nullptr;
  CudaResult (*event_record)(CudaEvent, CudaStream) = nullptr;
  CudaResult (*event_query)(CudaEvent) = nullptr;
  CudaResult (*event_elapsed_ms)(float*, CudaEvent begin, CudaEvent end) = nullptr;
  CudaResult (*error_name)(CudaResult, const char**) = nullptr;
  /// Null where the driver does not have it.
  CudaResult (*stream_write_value)(CudaStream, CudaAddress, std::uint32_t value, unsigned flags) = nullptr;
  bool stream_write_version_2 = false;

  /// "CUDA_ERROR_INVALID_VALUE", or "error 1".
  [[nodiscard]] std::string name_of(CudaResult result) const;

 private:
  explicit CudaDriver(void* library) : library_(library) {}
  void* library_;
};

}  // namespace perseus::client
