// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/nvml_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "perseus/gpu/device_text.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

/// A machine has 16 GPUs at most today; a driver that counts more than this is broken.
constexpr unsigned kMaxDevices = 4096;
constexpr std::string_view kClosed = "the driver's library is closed (quiesced); open it again first";

}  // namespace

core::Result<std::unique_ptr<Backend>> NvmlBackend::open(std::string path, bool simulated, TimeSource& time) {
  std::unique_ptr<NvmlBackend> backend(new NvmlBackend(std::move(path)));
  backend->host_.needs_privilege = !simulated;
  backend->host_.time = &time;
  const std::lock_guard lock(backend->host_.gate);
  PERSEUS_RETURN_IF_ERROR(backend->load());
  if (backend->devices_.empty()) {
    if (!backend->unreadable_.empty()) return std::unexpected(backend->unreadable_.front());
    return core::fail(ErrorCode::kNotFound, fmt::format("{}: the driver shows no GPU", backend->path_));
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

NvmlBackend::~NvmlBackend() {
  devices_.clear();
  owned_.clear();  // their sampling threads end before the library goes
}

core::Status NvmlBackend::load() {
  PERSEUS_ASSIGN_OR_RETURN(host_.library, NvmlLibrary::open(path_));
  auto found = enumerate();
  if (!found) {
    host_.library.reset();
    return std::unexpected(std::move(found).error());
  }
  version_ = host_.library->driver_version();
  adopt(*std::move(found));
  return {};
}

core::Result<std::vector<NvmlBackend::Found>> NvmlBackend::enumerate() {
  const NvmlApi& api = host_.library->api();
  unsigned count = 0;
  PERSEUS_RETURN_IF_ERROR(host_.library->check(api.count.call(&count), api.count.name, path_));
  if (count > kMaxDevices) {
    return core::fail(ErrorCode::kDriver,
                      fmt::format("{}: the driver counts {} GPUs, which cannot be", path_, count));
  }
  std::vector<Found> found;
  unreadable_.clear();
  for (unsigned index = 0; index < count; ++index) {
    auto one = inspect(index);
    if (one) {
      found.push_back(*std::move(one));
    } else {
      unreadable_.push_back(std::move(one).error());
    }
  }
  return found;
}

core::Result<NvmlBackend::Found> NvmlBackend::inspect(unsigned index) const {
  const NvmlApi& api = host_.library->api();
  const std::string subject = fmt::format("GPU {}", index);
  const auto check = [&](nvml::Return code, const char* name) {
    return host_.library->check(code, name, subject);
  };
  Found found;
  found.identity.index = index;
  PERSEUS_RETURN_IF_ERROR(check(api.handle_by_index.call(index, &found.handle), api.handle_by_index.name));
  std::array<char, nvml::kUuidBuffer> uuid{};
  PERSEUS_RETURN_IF_ERROR(check(api.uuid.call(found.handle, uuid.data(), nvml::kUuidBuffer), api.uuid.name));
  found.identity.uuid = printable(uuid.data(), uuid.size());
  PERSEUS_RETURN_IF_ERROR(check_uuid(found.identity.uuid, subject));
  std::array<char, nvml::kNameBuffer> product{};
  PERSEUS_RETURN_IF_ERROR(
      check(api.product_name.call(found.handle, product.data(), nvml::kNameBuffer), api.product_name.name));
  found.identity.name = printable(product.data(), product.size());
  nvml::PciInfo pci{};
  if (api.pci_info && api.pci_info.call(found.handle, &pci) == nvml::kSuccess) {
    found.identity.pci_bus_id = pci.bus_id[0] != '\0'
                                    ? printable(pci.bus_id, sizeof(pci.bus_id))
                                    : printable(pci.bus_id_legacy, sizeof(pci.bus_id_legacy));
  }
  return found;
}

void NvmlBackend::adopt(std::vector<Found> found) {
  for (const auto& device : owned_) {
    const auto same = std::ranges::find(found, device->identity().uuid,
                                        [](const Found& f) -> const std::string& { return f.identity.uuid; });
    if (same == found.end()) {
      device->mark_missing();
    } else {
      device->attach(same->handle);
      found.erase(same);
    }
  }
  for (auto& fresh : found) {
    owned_.push_back(std::make_unique<NvmlDevice>(host_, std::move(fresh.identity), fresh.handle));
    devices_.push_back(owned_.back().get());
  }
}

core::Status NvmlBackend::reopen() {
  const std::lock_guard lock(host_.gate);
  host_.library.reset();
  auto status = load();
  if (status) return status;
  host_.closed_because = fmt::format("the driver is not back: {}", status.error().text());
  return core::fail(ErrorCode::kDriver, host_.closed_because);
}

void NvmlBackend::close() {
  const std::lock_guard lock(host_.gate);
  host_.library.reset();
  host_.closed_because = kClosed;
}

}  // namespace perseus::gpu
