// SPDX-License-Identifier: Apache-2.0
//
// What the library's functions share: the node between nvmlInit and nvmlShutdown, handles, and the net that
// catches everything, since a caller of NVML expects neither an exception nor an end of its process.
#pragma once

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "perseus/simgpu/node.h"
#include "perseus/simgpu/nvml/abi.h"

// Every function of the ABI begins so.
#define PERSEUS_NVML extern "C" __attribute__((visibility("default"))) nvmlReturn_t

namespace perseus::simgpu::nvml {

/// A started driver. Calls in progress keep it alive through nvmlShutdown.
struct Session {
  explicit Session(Node opened) : node(std::move(opened)), generation(node.generation()) {}
  Node node;
  std::uint64_t generation;  // of the driver when it was started
};

nvmlReturn_t start_session();
nvmlReturn_t end_session();
/// The session in force, or null. Thread-safe.
[[nodiscard]] std::shared_ptr<Session> current_session();

[[nodiscard]] nvmlDevice_t handle_of(std::uint32_t index);
[[nodiscard]] std::optional<std::uint32_t> index_of(nvmlDevice_t device);
[[nodiscard]] nvmlReturn_t to_return(Answer answer);

/// Runs `body`; what it throws becomes NVML_ERROR_UNKNOWN.
template <class Body>
nvmlReturn_t guarded(Body body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return NVML_ERROR_MEMORY;
  } catch (...) {
    return NVML_ERROR_UNKNOWN;
  }
}

/// Runs `body(session)` in a started driver.
template <class Body>
nvmlReturn_t with_session(Body body) noexcept {
  return guarded([&] {
    const std::shared_ptr<Session> session = current_session();
    if (session == nullptr || session->node.generation() != session->generation)
      return NVML_ERROR_UNINITIALIZED;
    return session->node.driver_loaded() ? body(*session) : NVML_ERROR_DRIVER_NOT_LOADED;
  });
}

/// Runs `body(node, index)` for a setting call: the node itself applies the faults.
template <class Body>
nvmlReturn_t setting_call(nvmlDevice_t device, Body body) noexcept {
  return with_session([&](Session& session) {
    const auto index = index_of(device);
    if (!index || *index >= session.node.gpu_count()) return NVML_ERROR_INVALID_ARGUMENT;
    const Answer answer = body(session.node, *index);
    // The driver may have gone while the call was delayed.
    return session.node.generation() == session.generation ? to_return(answer) : NVML_ERROR_UNINITIALIZED;
  });
}

/// Runs `body(node, index)` for a reading call, after the delays and refusals of faults.
template <class Body>
nvmlReturn_t reading_call(nvmlDevice_t device, Body body) noexcept {
  return with_session([&](Session& session) {
    const auto index = index_of(device);
    if (!index || *index >= session.node.gpu_count()) return NVML_ERROR_INVALID_ARGUMENT;
    const Answer answer = session.node.enter_call(*index, session.generation);
    return answer == Answer::kOk ? body(session.node, *index) : to_return(answer);
  });
}

/// The same, with what the GPU does at this moment: `body(observation)` or `body(observation, spec)`.
template <class Body>
nvmlReturn_t observing_call(nvmlDevice_t device, Body body) noexcept {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto seen = node.observe(index);
    return seen ? body(*seen) : NVML_ERROR_TIMEOUT;
  });
}

/// Runs `body(spec)` for what a product is.
template <class Body>
nvmlReturn_t spec_call(nvmlDevice_t device, Body body) noexcept {
  return reading_call(device, [&](Node& node, std::uint32_t index) {
    const auto spec = node.spec(index);
    return spec ? body(*spec) : NVML_ERROR_UNKNOWN;
  });
}

/// Copies `text` with its 0 into `size` bytes at `to`.
inline nvmlReturn_t give_text(std::string_view text, char* to, unsigned size) {
  if (to == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (text.size() + 1 > size) return NVML_ERROR_INSUFFICIENT_SIZE;
  std::memcpy(to, text.data(), text.size());
  to[text.size()] = '\0';
  return NVML_SUCCESS;
}

/// Writes `value` to `to`, unless that is null.
template <class T>
nvmlReturn_t give(T* to, T value) {
  if (to == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *to = value;
  return NVML_SUCCESS;
}

[[nodiscard]] inline bool has_fault(const Observation& seen, FaultKind kind) {
  for (const Fault& fault : seen.faults) {
    if (fault.kind == kind) return true;
  }
  return false;
}

}  // namespace perseus::simgpu::nvml
