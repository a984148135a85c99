// SPDX-License-Identifier: Apache-2.0
//
// The parts of Node that its source files share.
#pragma once

#include <functional>
#include <utility>

#include "perseus/simgpu/device_access.h"
#include "perseus/simgpu/node.h"
#include "perseus/simgpu/shared_file.h"

namespace perseus::simgpu {

class Node::Impl {
 public:
  explicit Impl(SharedFile opened) : file(std::move(opened)) {}

  [[nodiscard]] bool has(std::uint32_t gpu) const { return gpu < file.node().gpu_count; }
  [[nodiscard]] core::Status check(std::uint32_t gpu) const;
  [[nodiscard]] std::int64_t now_ns() const;
  [[nodiscard]] std::int64_t real_ns(std::int64_t simulated_ns) const;
  [[nodiscard]] bool loaded() const;
  /// Locks, and brings the copy through all events until now.
  [[nodiscard]] core::Result<DeviceAccess> access(std::uint32_t gpu) const;
  /// Moves the base of the copy to the access's moment, for a change that happens then. All events before it
  /// are past.
  static void settle(DeviceAccess& access);
  /// Drops what dead processes have left, unless somebody looked within the last `age_ns` (real).
  void drop_dead(DeviceAccess& access, std::int64_t age_ns) const;
  /// Sleeps until simulated time `until_ns` or something changes on `gpu`, at most 100 ms.
  void sleep(std::uint32_t gpu, std::uint32_t seen, std::int64_t until_ns) const;

  /// One setting call: waits as faults say, decides, applies, records.
  using Apply = std::function<Answer(DeviceAccess&)>;
  Answer set(std::uint32_t gpu, HistoryEntry entry, const Apply& apply) const;
  /// Delays and refusals by faults.
  [[nodiscard]] Answer gate(std::uint32_t gpu, bool setting) const;

  SharedFile file;
};

}  // namespace perseus::simgpu
