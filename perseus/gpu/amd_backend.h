// SPDX-License-Identifier: Apache-2.0
//
// All AMD GPUs of this machine through AMD SMI. Private to the room: users call open_backend().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/gpu/amd_device.h"
#include "perseus/gpu/backend.h"

namespace perseus::gpu {

/// What tests need otherwise than users.
struct AmdOptions {
  bool needs_root = true;
  TimeSource* time = &steady_time();  ///< of integrated power and the cross-check
};

/// As Backend says. Indices count the GPUs in the order in which AMD SMI lists its sockets.
class AmdBackend final : public Backend {
 public:
  /// AMD's development name; the runtime package has it as a link too, in the loader's path.
  static constexpr std::string_view kLibrary = "libamd_smi.so";

  [[nodiscard]] static core::Result<std::unique_ptr<Backend>> open(std::string path,
                                                                   const AmdOptions& options);
  ~AmdBackend() override;
  AmdBackend(const AmdBackend&) = delete;
  AmdBackend& operator=(const AmdBackend&) = delete;

  [[nodiscard]] std::string_view name() const override { return "amd"; }
  [[nodiscard]] const std::string& driver_version() const override { return version_; }
  [[nodiscard]] const std::vector<Device*>& devices() const override { return devices_; }
  [[nodiscard]] std::vector<core::Error> unreadable() const override { return unreadable_; }
  [[nodiscard]] core::Status reopen() override;
  void close() override;

 private:
  struct Found {
    Identity identity;
    amd::Handle handle = nullptr;
    bool partitioned = false;
  };
  explicit AmdBackend(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] core::Status load();
  [[nodiscard]] core::Result<std::vector<Found>> enumerate();
  [[nodiscard]] core::Result<std::vector<amd::Handle>> gpus_of(amd::Handle socket) const;
  [[nodiscard]] core::Result<Identity> inspect(amd::Handle gpu, std::uint32_t index) const;
  void adopt(std::vector<Found> found);

  std::string path_;
  AmdHost host_;
  std::string version_;
  std::vector<std::unique_ptr<AmdDevice>> owned_;
  std::vector<Device*> devices_;
  std::vector<core::Error> unreadable_;
};

}  // namespace perseus::gpu
