// SPDX-License-Identifier: Apache-2.0
//
// The state file of a simulated machine, mapped into this process.
#pragma once

#include <string>

#include "perseus/core/result.h"
#include "perseus/simgpu/layout.h"
#include "perseus/simgpu/spec.h"

namespace perseus::simgpu {

/// One mapping; ends with the object.
class SharedFile {
 public:
  /// As Node::create() and Node::open().
  [[nodiscard]] static core::Result<SharedFile> create(const std::string& path, const NodeSpec& spec);
  [[nodiscard]] static core::Result<SharedFile> open(const std::string& path);

  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&& other) noexcept;
  ~SharedFile();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] NodeShared& node() const { return *static_cast<NodeShared*>(memory_); }
  /// `gpu` must be below node().gpu_count.
  [[nodiscard]] DeviceShared& device(std::uint32_t gpu) const;

 private:
  SharedFile(std::string path, void* memory, std::size_t bytes);

  std::string path_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace perseus::simgpu
