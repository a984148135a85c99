// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/nvml/session.h"

#include <array>
#include <cstddef>
#include <mutex>
#include <new>

#include "perseus/simgpu/layout.h"

/// What a handle points at: the GPU's place in this table.
struct nvmlDevice_st {  // NOLINT(readability-identifier-naming): NVML's name
  std::uint32_t unused;
};

namespace perseus::simgpu::nvml {
namespace {

std::array<nvmlDevice_st, kMaxGpus> handles;

/// How often nvmlInit was called without nvmlShutdown, and the node meanwhile.
struct Library {
  std::mutex mutex;
  unsigned users = 0;
  std::shared_ptr<Session> session;
};

/// Never destroyed: a thread may still be inside a call while the process ends. Not on the heap, which would
/// lose it each time the library is unloaded.
Library& library() {
  alignas(Library) static std::array<std::byte, sizeof(Library)> place;
  static auto& instance = *new (place.data()) Library;
  return instance;
}

nvmlReturn_t why_not_opened(core::ErrorCode code) {
  switch (code) {
    case core::ErrorCode::kUnsupported:
      return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    case core::ErrorCode::kPermission:
      return NVML_ERROR_NO_PERMISSION;
    default:
      return NVML_ERROR_DRIVER_NOT_LOADED;
  }
}

}  // namespace

nvmlReturn_t start_session() {
  return guarded([] {
    const std::scoped_lock lock(library().mutex);
    std::shared_ptr<Session>& session = library().session;
    const bool stale = session != nullptr && session->node.generation() != session->generation;
    if (session == nullptr || stale) {
      auto node = Node::open_environment();
      if (!node) return why_not_opened(node.error().code());
      if (!node->driver_loaded()) return NVML_ERROR_DRIVER_NOT_LOADED;
      session = std::make_shared<Session>(std::move(*node));
    }
    ++library().users;
    return NVML_SUCCESS;
  });
}

nvmlReturn_t end_session() {
  return guarded([] {
    const std::scoped_lock lock(library().mutex);
    if (library().users == 0) return NVML_ERROR_UNINITIALIZED;
    if (--library().users == 0) library().session.reset();
    return NVML_SUCCESS;
  });
}

std::shared_ptr<Session> current_session() {
  const std::scoped_lock lock(library().mutex);
  return library().session;
}

nvmlDevice_t handle_of(std::uint32_t index) {
  return &handles.at(index);
}

std::optional<std::uint32_t> index_of(nvmlDevice_t device) {
  const auto first = reinterpret_cast<std::uintptr_t>(handles.data());
  const auto there = reinterpret_cast<std::uintptr_t>(device);
  const bool inside =
      there >= first && there < first + sizeof(handles) && (there - first) % sizeof(nvmlDevice_st) == 0;
  if (!inside) return std::nullopt;
  return static_cast<std::uint32_t>((there - first) / sizeof(nvmlDevice_st));
}

nvmlReturn_t to_return(Answer answer) {
  switch (answer) {
    case Answer::kOk:
      return NVML_SUCCESS;
    case Answer::kInvalidArgument:
      return NVML_ERROR_INVALID_ARGUMENT;
    case Answer::kNotSupported:
      return NVML_ERROR_NOT_SUPPORTED;
    case Answer::kNoPermission:
      return NVML_ERROR_NO_PERMISSION;
    case Answer::kLost:
      return NVML_ERROR_GPU_IS_LOST;
    case Answer::kStale:
      return NVML_ERROR_UNINITIALIZED;
    case Answer::kAbsent:
      return NVML_ERROR_DRIVER_NOT_LOADED;
    case Answer::kTimeout:
      return NVML_ERROR_TIMEOUT;
  }
  return NVML_ERROR_UNKNOWN;
}

}  // namespace perseus::simgpu::nvml
