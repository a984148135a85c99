// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/amd_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "perseus/gpu/device_text.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

/// More sockets or processors than any machine has: a library that counts them is broken.
constexpr std::uint32_t kMaxHandles = 4096;
constexpr std::string_view kClosed = "the driver's library is closed (quiesced); open it again first";

/// "0000:C1:00.0"
std::string bus_id(amd::Bdf bdf) {
  return fmt::format("{:04X}:{:02X}:{:02X}.{:X}", bdf >> 16U, (bdf >> 8U) & 0xFFU, (bdf >> 3U) & 0x1FU,
                     bdf & 7U);
}

}  // namespace

core::Result<std::unique_ptr<Backend>> AmdBackend::open(std::string path, const AmdOptions& options) {
  std::unique_ptr<AmdBackend> backend(new AmdBackend(std::move(path)));
  backend->host_.needs_root = options.needs_root;
  backend->host_.time = options.time;
  const std::lock_guard lock(backend->host_.gate);
  PERSEUS_RETURN_IF_ERROR(backend->load());
  if (backend->devices_.empty()) {
    if (!backend->unreadable_.empty()) return std::unexpected(backend->unreadable_.front());
    return core::fail(ErrorCode::kNotFound, fmt::format("{}: AMD SMI shows no GPU", backend->path_));
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

AmdBackend::~AmdBackend() {
  devices_.clear();
  owned_.clear();  // their sampling threads end before the library goes
}

core::Status AmdBackend::load() {
  PERSEUS_ASSIGN_OR_RETURN(host_.library, AmdLibrary::open(path_));
  auto found = enumerate();
  if (!found) {
    host_.library.reset();
    return std::unexpected(std::move(found).error());
  }
  version_ = "AMD SMI " + host_.library->version();
  adopt(*std::move(found));
  return {};
}

core::Result<std::vector<AmdBackend::Found>> AmdBackend::enumerate() {
  const AmdLibrary& library = *host_.library;
  const AmdApi& api = library.api();
  std::uint32_t count = 0;
  PERSEUS_RETURN_IF_ERROR(library.check(api.sockets.call(&count, nullptr), api.sockets.name, path_));
  if (count > kMaxHandles) {
    return core::fail(ErrorCode::kDriver, fmt::format("{}: {} sockets, which cannot be", path_, count));
  }
  std::vector<amd::Handle> sockets(count);
  PERSEUS_RETURN_IF_ERROR(library.check(api.sockets.call(&count, sockets.data()), api.sockets.name, path_));
  sockets.resize(std::min<std::size_t>(count, sockets.size()));
  std::vector<Found> found;
  unreadable_.clear();
  std::uint32_t index = 0;
  for (amd::Handle socket : sockets) {
    PERSEUS_ASSIGN_OR_RETURN(const auto gpus, gpus_of(socket));
    for (amd::Handle gpu : gpus) {
      auto identity = inspect(gpu, index++);
      if (identity) {
        found.push_back({*std::move(identity), gpu, gpus.size() > 1});
      } else {
        unreadable_.push_back(std::move(identity).error());
      }
    }
  }
  return found;
}

core::Result<std::vector<amd::Handle>> AmdBackend::gpus_of(amd::Handle socket) const {
  const AmdLibrary& library = *host_.library;
  const AmdApi& api = library.api();
  std::uint32_t count = 0;
  PERSEUS_RETURN_IF_ERROR(
      library.check(api.processors.call(socket, &count, nullptr), api.processors.name, path_));
  if (count > kMaxHandles) {
    return core::fail(ErrorCode::kDriver, fmt::format("{}: {} processors, which cannot be", path_, count));
  }
  std::vector<amd::Handle> processors(count);
  PERSEUS_RETURN_IF_ERROR(
      library.check(api.processors.call(socket, &count, processors.data()), api.processors.name, path_));
  processors.resize(std::min<std::size_t>(count, processors.size()));
  std::erase_if(processors, [&](amd::Handle processor) {
    std::uint32_t type = 0;
    return api.processor_type.call(processor, &type) != amd::kSuccess || type != amd::kProcessorGpu;
  });
  return processors;
}

core::Result<Identity> AmdBackend::inspect(amd::Handle gpu, std::uint32_t index) const {
  const AmdLibrary& library = *host_.library;
  const AmdApi& api = library.api();
  const std::string subject = fmt::format("GPU {}", index);
  Identity identity;
  identity.index = index;
  std::array<char, amd::kUuidBuffer> uuid{};
  unsigned length = amd::kUuidBuffer;
  PERSEUS_RETURN_IF_ERROR(library.check(api.uuid.call(gpu, &length, uuid.data()), api.uuid.name, subject));
  identity.uuid = printable(uuid.data(), uuid.size());
  PERSEUS_RETURN_IF_ERROR(check_uuid(identity.uuid, subject));
  amd::Bdf bdf = 0;
  if (api.bdf && api.bdf.call(gpu, &bdf) == amd::kSuccess) identity.pci_bus_id = bus_id(bdf);
  amd::AnyStructure asic{};
  constexpr std::size_t kMarketName = 256;  // amdsmi_asic_info_t begins with it, in all known versions
  if (api.asic_info && api.asic_info.call(gpu, &asic) == amd::kSuccess) {
    identity.name = printable(reinterpret_cast<const char*>(asic.bytes), kMarketName);
  }
  return identity;
}

void AmdBackend::adopt(std::vector<Found> found) {
  for (const auto& device : owned_) {
    const auto same = std::ranges::find(found, device->identity().uuid,
                                        [](const Found& f) -> const std::string& { return f.identity.uuid; });
    if (same == found.end()) {
      device->mark_missing();
    } else {
      device->attach(same->handle, same->partitioned);
      found.erase(same);
    }
  }
  for (auto& fresh : found) {
    owned_.push_back(
        std::make_unique<AmdDevice>(host_, std::move(fresh.identity), fresh.handle, fresh.partitioned));
    devices_.push_back(owned_.back().get());
  }
}

core::Status AmdBackend::reopen() {
  const std::lock_guard lock(host_.gate);
  host_.library.reset();
  auto status = load();
  if (status) return status;
  host_.closed_because = fmt::format("the driver is not back: {}", status.error().text());
  return core::fail(ErrorCode::kDriver, host_.closed_because);
}

void AmdBackend::close() {
  const std::lock_guard lock(host_.gate);
  host_.library.reset();
  host_.closed_because = kClosed;
}

}  // namespace perseus::gpu
