// SPDX-License-Identifier: Apache-2.0
//
// All NVIDIA GPUs of this machine through NVML, or the simulated ones through a library with the same ABI.
// Private to the room: users call open_backend().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/gpu/backend.h"
#include "perseus/gpu/nvml_device.h"

namespace perseus::gpu {

/// As Backend says; the "sim" backend is this one on another library.
class NvmlBackend final : public Backend {
 public:
  /// The name of the driver's library as its makers fixed it.
  static constexpr std::string_view kLibrary = "libnvidia-ml.so.1";

  /// `simulated`: the library at `path` is a simulated driver, which asks for no privilege.
  /// `time` is that of integrated power.
  [[nodiscard]] static core::Result<std::unique_ptr<Backend>> open(std::string path, bool simulated,
                                                                   TimeSource& time = steady_time());
  ~NvmlBackend() override;
  NvmlBackend(const NvmlBackend&) = delete;
  NvmlBackend& operator=(const NvmlBackend&) = delete;

  [[nodiscard]] std::string_view name() const override { return host_.needs_privilege ? "nvml" : "sim"; }
  [[nodiscard]] const std::string& driver_version() const override { return version_; }
  [[nodiscard]] const std::vector<Device*>& devices() const override { return devices_; }
  [[nodiscard]] std::vector<core::Error> unreadable() const override { return unreadable_; }
  [[nodiscard]] core::Status reopen() override;
  void close() override;

 private:
  struct Found {
    Identity identity;
    nvml::Handle handle = nullptr;
  };
  explicit NvmlBackend(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] core::Status load();
  [[nodiscard]] core::Result<std::vector<Found>> enumerate();
  [[nodiscard]] core::Result<Found> inspect(unsigned index) const;
  void adopt(std::vector<Found> found);

  std::string path_;
  NvmlHost host_;
  std::string version_;
  std::vector<std::unique_ptr<NvmlDevice>> owned_;
  std::vector<Device*> devices_;
  std::vector<core::Error> unreadable_;
};

}  // namespace perseus::gpu
